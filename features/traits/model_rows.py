"""One row per network of a study: from its metrics.json, into a table."""

from collections.abc import Sequence
from pathlib import Path

from features.traits.combinations import Combination
from meshgnn.export.html import number
from meshgnn.export.study_report import with_span
from meshgnn.results import Difference, ModelRow, ModelTable, SubjectMetrics
from meshgnn.store import write_text

SCORE = {"classification": "balanced_accuracy", "regression": "r2"}
COLUMNS = (
    "target", "inputs", "metadata_blocks", "score_name", "score", "low", "high", "constant", "linear", "minus_linear",
    "minus_linear_low", "minus_linear_high", "chance_of", "chance_low", "chance_high", "balanced_accuracy", "auroc",
    "accuracy", "mae", "mse", "r2", "r", "subjects", "trained", "seconds", "diagnostic", "name",
)  # fmt: skip
ABSENT = "n/a"
NOTHING = Difference(difference=None, low=None, high=None)


def row_of(one: Combination, metrics: SubjectMetrics, diagnostic: bool) -> ModelRow:
    """The row of a network.

    Args:
        one: what it gets.
        metrics: of the run that trained it.
        diagnostic: whether it was given the labels.
    """
    own = metrics.targets[one.target]
    score = SCORE[own.kind]
    linear = next(name for name in ("linear", *own.baselines) if name in own.baselines and name.startswith("linear"))
    gap = own.ours_minus[linear].get(score, NOTHING)
    low, high = own.test.intervals[score]
    return ModelRow(
        name=one.name, target=one.target, kind=own.kind, inputs=one.inputs, domains=one.domains, score_name=score,
        score=own.test.scores.get(score), low=low, high=high, scores=own.test.scores, chance_of=own.chance_of,
        chance_low=own.chance_interval[0], chance_high=own.chance_interval[1],
        constant=own.baselines["constant"].scores.get(score), linear=own.baselines[linear].scores.get(score),
        minus_linear=gap.difference, minus_linear_low=gap.low, minus_linear_high=gap.high, subjects=own.subjects,
        trained=metrics.subjects.train, seconds=round(sum((metrics.timing_s or {}).values()), 2), diagnostic=diagnostic,
    )  # fmt: skip


def write_rows(path: Path, rows: Sequence[ModelRow]) -> None:
    """The table, tab-separated, n/a where there is nothing: what a network gets, how well it does, how long it took."""
    lines = ["\t".join(COLUMNS)]
    for row in rows:
        values = {name: getattr(row, name, None) for name in COLUMNS} | dict(row.scores)
        values |= {"inputs": "+".join(row.inputs), "metadata_blocks": "+".join(row.domains)}
        lines.append("\t".join(_cell(values[name]) for name in COLUMNS))
    write_text(path, "\n".join(lines) + "\n")


def study_summary(table: ModelTable, path: Path) -> str:
    """What a study prints at its end: the networks of every target, best first.

    Args:
        path: of the table of rows.
    """
    lines = [f"\n{table.task}"]
    for target in dict.fromkeys(row.target for row in table.rows):
        rows = [row for row in table.rows if row.target == target]
        first = rows[0]
        lines.append(f"{target} ({first.score_name}; {first.subjects} tested)")
        lines.append(f"  {'inputs':44s}{'network':>24s}{'linear':>10s}{'constant':>10s}{'seconds':>9s}")
        for row in sorted(rows, key=lambda row: -(row.score if row.score is not None else float("-inf"))):
            inputs = "+".join((*row.inputs, *row.domains))
            score = with_span(row.score, row.low, row.high)
            lines.append(
                f"  {inputs:44s}{score:>24s}{number(row.linear):>10s}{number(row.constant):>10s}{row.seconds:9.0f}"
            )
    lines += [f"{name} not trained: {why}" for name, why in table.not_trained.items()]
    lines.append(f"intervals: 95 %, over families; one row per network in {path}")
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "" or value != value:
        return ABSENT
    return f"{value:.6g}" if isinstance(value, float) else str(value)

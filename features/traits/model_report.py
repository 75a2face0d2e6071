"""report.html of a study: every target with its networks, best first."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meshgnn.export.html import number
from meshgnn.export.plots import ranked
from meshgnn.export.study_report import StudySection, with_span, write_study_report
from meshgnn.results import ModelRow, ModelTable

WORDS = {"balanced_accuracy": "balanced accuracy", "r2": "R²", "r": "r"}
HEAD = ("inputs", "network", "linear model", "network minus linear", "constant", "by chance", "seconds")


def write_model_report(path: Path, table: ModelTable, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    """Write the report.

    Args:
        config, provenance: as in config.json and provenance.json.
    """
    sections = [_section(target, table) for target in dict.fromkeys(row.target for row in table.rows)]
    if table.not_trained:
        rows = tuple(table.not_trained.items())
        sections.append(StudySection(title="Not trained", columns=("network", "why"), rows=rows))
    lead = (
        f"{len(table.rows)} networks, each with a report of its own in models/. Scores of tested subjects with 95 % "
        "intervals (bootstrap over families); the linear model gets the same inputs; by chance: targets permuted among "
        "the subjects. Of so many networks the best is best partly by luck: its interval does not count that.",
    )
    write_study_report(path, table.task, lead, sections, config, provenance)


def _section(target: str, table: ModelTable) -> StudySection:
    rows = [row for row in table.rows if row.target == target]
    rows.sort(key=lambda row: -(row.score if row.score is not None else float("-inf")))
    first, name = rows[0], WORDS[rows[0].score_name]
    none = float("nan")
    scores = [tuple(none if v is None else v for v in (row.score, row.low, row.high)) for row in rows]
    return StudySection(
        title=target,
        text=(f"{first.kind.capitalize()}; {first.subjects} tested subjects.",),
        picture=ranked([_inputs(row) for row in rows], [(a, b, c) for a, b, c in scores], name, first.constant or 0.0),
        caption=f"{name} of every network with its interval; the line is the constant prediction.",
        columns=HEAD,
        rows=tuple(_cells(row) for row in rows),
    )


def _inputs(row: ModelRow) -> str:
    return " + ".join((*row.inputs, *row.domains))


def _cells(row: ModelRow) -> tuple[str, ...]:
    return (
        _inputs(row) + (" (with the labels)" if row.diagnostic else ""),
        with_span(row.score, row.low, row.high),
        number(row.linear),
        with_span(row.minus_linear, row.minus_linear_low, row.minus_linear_high),
        number(row.constant),
        f"{WORDS[row.chance_of]} [{number(row.chance_low)}, {number(row.chance_high)}]",
        f"{row.seconds:.0f}",
    )

"""Tables of results as the page of a network reads them: one row per model.

models.tsv of a study (`biobank_inputs`), or any table with its columns target, score_name, score and inputs
metrics.json of a study, of a run on traits, or of area mapping: methods x areas
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.results import Metrics, ModelTable, SubjectMetrics
from meshgnn.source.participant_table import MISSING
from meshgnn.source.text_table import read_text_table
from meshgnn.store import read_json

NEEDED = ("target", "inputs", "score_name", "score")
NUMBERS = ("low", "high", "constant", "linear", "minus_linear", "subjects", "trained", "seconds")
MOST_LISTED = 5


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model of one target.

    Args:
        name: of the model.
        target: that it predicts; inputs, domains: that it gets, domains being groups of a table's columns.
        score_name, score: the one that it is judged by, and its value; None where there is none.
        numbers: what else is known of it.
    """

    name: str
    target: str
    inputs: tuple[str, ...]
    score_name: str
    score: float | None
    domains: tuple[str, ...] = ()
    numbers: Mapping[str, float] = ()  # type: ignore[assignment]

    def __post_init__(self) -> None:
        object.__setattr__(self, "numbers", dict(self.numbers))

    @property
    def inputs_text(self) -> str:
        """All that it gets, joined by plus signs."""
        return " + ".join((*self.inputs, *self.domains)) or "nothing"


@dataclass(frozen=True, kw_only=True)
class Models:
    """The models of a study.

    Args:
        rows: of all of them.
        source: where they come from, for messages and the page's title.
        unscored: number of rows without a score, which are kept.
    """

    rows: tuple[Model, ...]
    source: str

    def __post_init__(self) -> None:
        if not self.rows:
            raise InputError(f"{self.source}: holds no model")

    @property
    def targets(self) -> tuple[str, ...]:
        """In the order of the rows."""
        return tuple(dict.fromkeys(row.target for row in self.rows))

    @property
    def unscored(self) -> int:
        return sum(row.score is None for row in self.rows)

    def of(self, target: str) -> tuple[Model, ...]:
        """Best first; those without a score last."""
        own = [row for row in self.rows if row.target == target]
        return tuple(sorted(own, key=lambda row: -(row.score if row.score is not None else float("-inf"))))

    def best(self, target: str) -> Model | None:
        """The best one with a score, if any has."""
        return next((row for row in self.of(target) if row.score is not None), None)

    def input_sets(self) -> tuple[str, ...]:
        """Different sets of inputs, smallest first, then as they come."""
        seen = {row.inputs_text: len(row.inputs) + len(row.domains) for row in self.rows}
        return tuple(sorted(seen, key=lambda text: seen[text]))

    def grid(self, score_name: str = "") -> NDArray[np.float64]:
        """[T, M] best score of every target with every set of inputs, NaN where it was not tried; of one score only
        if one is named."""
        targets = {name: k for k, name in enumerate(self.targets)}
        sets = {name: k for k, name in enumerate(self.input_sets())}
        found = np.full((len(targets), len(sets)), np.nan)
        for row in self.rows:
            if row.score is not None and score_name in ("", row.score_name):
                place = targets[row.target], sets[row.inputs_text]
                found[place] = np.nanmax([found[place], row.score])
        return found

    def only(self, targets: Sequence[str]) -> "Models":
        """The models of these targets. Raises InputError for one without a model."""
        absent = [name for name in targets if name not in self.targets]
        if absent:
            raise InputError(f"{self.source}: no model of {', '.join(absent)}; it has {', '.join(self.targets)}")
        return replace(self, rows=tuple(row for row in self.rows if row.target in set(targets)))


def inferred_domains(models: Models) -> dict[str, str]:
    """Domain by target, told by which domain its models never get although others do; "" where that is not one."""
    everything = {name for row in models.rows for name in row.domains}
    found = {}
    for target in models.targets:
        lacking = everything - {name for row in models.of(target) for name in row.domains}
        found[target] = lacking.pop() if len(lacking) == 1 else ""
    return found


def read_models(path: Path) -> Models:
    """The models in a table, in a metrics.json, or in a run folder that holds one of them.

    Raises:
        InputError: nothing there, a table that is none of these, cells that are no numbers (all are counted, `n/a`
            alone stands for none).
    """
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in ("models.tsv", "metrics.json") if (path / name).is_file()]
        if not found:
            raise InputError(f"{path}: holds neither models.tsv nor metrics.json; name the folder of a finished run")
        path = found[0]
    return _of_metrics(path) if path.suffix == ".json" else _of_table(path)


def _of_table(path: Path) -> Models:
    columns, rows = read_text_table(path, NEEDED)
    wrong: list[str] = []

    def number(line: int, row: Mapping[str, str], column: str) -> float | None:
        text = row.get(column, "")
        if text.lower() in {*MISSING} - {"nan"}:
            return None
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not isfinite(value):
            wrong.append(f"line {line}: {column} is {text!r}")
            return None
        return value

    found = []
    for line, row in rows:
        if not row["target"]:
            wrong.append(f"line {line}: target is empty")
        numbers = {name: number(line, row, name) for name in NUMBERS if name in columns}
        inputs, domains = (_listed(row.get(name, "")) for name in ("inputs", "metadata_blocks"))
        found.append(
            Model(
                name=row.get("name") or f"line {line}", target=row["target"], inputs=inputs, domains=domains,
                score_name=row["score_name"], score=number(line, row, "score"),
                numbers={name: value for name, value in numbers.items() if value is not None},
            )
        )  # fmt: skip
    if wrong:
        more = f" and {len(wrong) - MOST_LISTED} more" if len(wrong) > MOST_LISTED else ""
        raise InputError(
            f"{path}: {len(wrong)} cells cannot be read: {'; '.join(wrong[:MOST_LISTED])}{more}; a missing one is n/a"
        )
    return Models(rows=tuple(found), source=str(path))


def _listed(text: str) -> tuple[str, ...]:
    return () if text.lower() in MISSING else tuple(part.strip() for part in text.split("+") if part.strip())


def _of_metrics(path: Path) -> Models:
    plain = read_json(path)
    keys = set(plain) if isinstance(plain, dict) else set()
    if "rows" in keys:
        rows = _of_study(ModelTable.from_json(plain, str(path)))
    elif "targets" in keys:
        rows = _of_traits(SubjectMetrics.from_json(plain, str(path)))
    elif "test" in keys and "baselines" in keys:
        rows = _of_areas(Metrics.from_json(plain, str(path)))
    else:
        raise InputError(f"{path}: holds no table of models (of a study, of traits, or of areas)")
    return Models(rows=tuple(rows), source=str(path))


def _of_study(table: ModelTable) -> list[Model]:
    return [
        Model(
            name=row.name, target=row.target, inputs=row.inputs, domains=row.domains, score_name=row.score_name,
            score=row.score, numbers=_told({name: getattr(row, name) for name in NUMBERS}),
        )
        for row in table.rows
    ]  # fmt: skip


def _of_traits(metrics: SubjectMetrics) -> list[Model]:
    found = []
    for target, own in metrics.targets.items():
        score = "balanced_accuracy" if own.kind == "classification" else "r2"
        for name, row in {"network": own.test, **own.baselines}.items():
            low, high = row.intervals.get(score, (None, None))
            found.append(
                Model(
                    name=name, target=target, inputs=(row.sees,), score_name=score, score=row.scores.get(score),
                    numbers=_told({"low": low, "high": high, "subjects": own.subjects}),
                )
            )  # fmt: skip
    return found


def _of_areas(metrics: Metrics) -> list[Model]:
    protocol = metrics.strict
    if protocol is None or not protocol.per_area_f1:
        raise InputError("metrics.json: holds no scores of single areas")
    by_method = {"network": protocol.per_area_f1, **(protocol.baselines_per_area_f1 or {})}
    sees = {"network": protocol.test.sees, **{name: row.sees for name, row in protocol.baselines.items()}}
    return [
        Model(name=method, target=area, inputs=(sees.get(method, method),), score_name="f1", score=score)
        for method, scores in by_method.items()
        for area, score in scores.items()
    ]


def _told(numbers: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in numbers.items() if value is not None}

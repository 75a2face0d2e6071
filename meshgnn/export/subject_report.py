"""report.html of a subject task: every target with its baselines, predictions, provenance. One file, no scripts.

The layout is `templates/subjects.html`; the names that it shows are in `words.py`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meshgnn.export.html import render
from meshgnn.export.plots import scatter
from meshgnn.export.words import SUBJECT_MEASURES, SUBJECT_METHODS, Word, readable
from meshgnn.results import SubjectMetrics, TargetScores
from meshgnn.store import write_text


def _target(name: str, target: TargetScores, model: str, table: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """What the template shows of one target beside its record."""
    points: list[tuple[float, float]] = []
    if target.kind == "regression":
        pairs = [(row[name], row[f"{name}_predicted"]) for row in table]
        points = [(float(true), float(predicted)) for true, predicted in pairs if "n/a" not in (true, predicted)]
    first = target.ranked_by
    return {
        "name": name,
        "of": target,
        "scores": [score for score in SUBJECT_MEASURES if score in target.test.scores],
        "rows": [(key, row, target.ours_minus.get(key, {}).get(first)) for key, row in target.rows(model).items()],
        "scatter": scatter(points, f"true {name}", f"predicted {name}") if points else "",
    }


def write_subject_report(
    path: Path,
    metrics: SubjectMetrics,
    table: Sequence[Mapping[str, str]],
    history: Sequence[Mapping[str, str]],
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    """Write the report.

    Args:
        metrics: of the run.
        table: rows of predictions/subjects.tsv.
        history: rows of metrics.csv.
        config, provenance: as in config.json and provenance.json.
    """
    best: dict[tuple[str, str, str], float] = {}
    for row in history:
        member = (row["division"], row["seed"], row["fold"])
        best[member] = max(best.get(member, -1e9), float(row["validation_skill"]))
    text = render(
        "subjects.html", title=metrics.task, m=metrics, measures=SUBJECT_MEASURES,
        targets=[_target(name, target, metrics.model, table) for name, target in metrics.targets.items()],
        word=lambda key: SUBJECT_METHODS.get(key, Word("the network" if key == metrics.model else readable(key))),
        skill=sum(best.values()) / max(len(best), 1),
        config=json.dumps(config, indent=2), provenance=json.dumps(provenance, indent=2),
    )  # fmt: skip
    write_text(path, text)

"""What a subject task prints at its end, its report, and its subjects as a table."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshgnn.data.subject_split import Cohort, SubjectPart
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import SCORES
from meshgnn.experiment.summary import HISTORY
from meshgnn.experiment.training import MAIN
from meshgnn.export.subject_report import write_subject_report
from meshgnn.results import SubjectMetrics
from meshgnn.store import read_json, write_text

TABLE = "predictions/subjects.tsv"

NAMES = {
    "balanced_accuracy": "balanced accuracy", "auroc": "AUROC", "accuracy": "accuracy", "mae": "MAE", "mse": "MSE",
    "r2": "R2", "r": "r",
}  # fmt: skip


def read_subject_metrics(path: Path) -> SubjectMetrics:
    """metrics.json, or the scores that it is made of. Raises InputError when the file is not whole."""
    return SubjectMetrics.from_json(read_json(path), str(path))


def export_subjects(run: RunFolder) -> list[str]:
    """Write report.html from what the run's stages left; returns the files written."""
    with (run / HISTORY).open(newline="", encoding="utf-8") as handle:
        history = [row for row in csv.DictReader(handle) if row.get("network", MAIN) == MAIN]
    with (run / TABLE).open(newline="", encoding="utf-8") as handle:
        table = list(csv.DictReader(handle, delimiter="\t"))
    config, provenance = (read_json(run / name) for name in ("config.json", "provenance.json"))
    write_subject_report(run / "report.html", read_subject_metrics(run / SCORES), table, history, config, provenance)
    return ["report.html"]


def subject_summary(metrics: SubjectMetrics, folder: Path) -> str:
    """A table per target: the network beside every baseline, best first."""
    parts = metrics.subjects
    lines = [
        f"\n{metrics.task} ({parts.train} train, {parts.validation} validate, {parts.test} are tested; "
        f"{metrics.protocol})"
    ]
    for name, target in metrics.targets.items():
        first, scores = target.ranked_by, list(target.test.scores)
        lines.append(f"{name} ({target.kind}, {target.subjects} subjects)")
        rows = target.rows(metrics.model)
        wide = max(22, *map(len, rows))
        lines.append(
            f"{'':{wide + 2}s}" + "".join(f"{NAMES[s]:>26s}" for s in scores) + f"   ours minus, {NAMES[first]}"
        )
        for row, own in rows.items():
            cells = "".join(f"{own.scores.get(s, np.nan):>12.3f} {_span(own.intervals[s]):13s}" for s in scores)
            gap = target.ours_minus.get(row, {}).get(first)
            difference = (
                f"{gap.difference:+.3f} {_span([gap.low, gap.high])}" if gap and gap.difference is not None else ""
            )
            lines.append(f"{'*' if row == metrics.model else ' '} {row:{wide}s}{cells}   {difference}")
        lines.append(
            f"  by chance (permuted targets) {NAMES[target.chance_of]} lies in {_span(target.chance_interval)}"
        )
    lines += [f"{name} not run: {why}" for name, why in metrics.not_run.items()]
    leaks = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in metrics.leakage.items())
    lines.append(f"intervals: 95 %, over families; leaks: {leaks}; results in {folder}")
    return "\n".join(lines)


def _span(ends: Sequence[float | None]) -> str:
    return "[" + ", ".join("-" if end is None else f"{end:.2f}" for end in ends) + "]"


def write_subjects(
    path: Path,
    subjects: Cohort,
    parts: Sequence[SubjectPart],
    predicted: Sequence[NDArray[np.floating]] | None = None,
) -> None:
    """A BIDS table of subjects: family, site, the division that tests them, true and predicted targets.

    Args:
        predicted: probabilities [G, K] or numbers [G, 1] per target, NaN where not tested; none if absent.
    """
    head = ["participant_id", "family_id", "site", "division"]
    for target in subjects.targets:
        head.append(target.name)
        if predicted is not None:
            head += [f"{target.name}_predicted", *(f"{target.name}_probability_{label}" for label in target.classes)]
    lines = ["\t".join(head)]
    for k, (name, family, site) in enumerate(zip(subjects.ids, subjects.family, subjects.site)):
        division = next((str(number + 1) for number, part in enumerate(parts) if part.test[k]), "n/a")
        cells = [name, family or "n/a", site or "n/a", division]
        for column, target in enumerate(subjects.targets):
            value = subjects.values[k, column]
            cells.append(_cell(value) if not target.classes or np.isnan(value) else target.classes[int(value)])
            if predicted is not None:
                own = predicted[column][k]
                sure = bool(np.isfinite(own).all())
                if not target.classes:
                    cells.append(_cell(own[0]))
                else:
                    cells.append(target.classes[int(own.argmax())] if sure else "n/a")
                    cells += [_cell(value) for value in own]
        lines.append("\t".join(cells))
    write_text(path, "\n".join(lines) + "\n")


def _cell(value: float) -> str:
    return "n/a" if not np.isfinite(value) else f"{value:.6g}"

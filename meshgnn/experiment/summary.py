"""What a run prints at its end, and the history of its validations as CSV."""

import csv
from pathlib import Path
from typing import Any

from meshgnn.store import written_aside


def summary_text(metrics: dict[str, Any], folder: Path) -> str:
    """The table printed at the end: the model beside every baseline, best first."""
    rows = {"this model": metrics["test"], **metrics["baselines"]}
    lines = [f"\n{metrics['task']} ({metrics['classes']} areas, {metrics['nodes']['test']} test nodes)"]
    lines.append(f"{'':30s}{'macro-F1':>16s}{'accuracy':>10s}{'border mm':>11s}{'ECE':>7s}")
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["macro_f1"]):
        label = f"{metrics['model']} ({len(metrics['seeds'])} seeds)" if name == "this model" else name
        border = f"{row['boundary_error_mm']:.2f}" if row["boundary_error_mm"] is not None else "-"
        spread = f" +- {row['macro_f1_sd']:.3f}" if row.get("macro_f1_sd") else ""
        mark = "*" if name == "this model" else " "
        text = f"{row['macro_f1']:.3f}{spread}"
        lines.append(f"{mark} {label:28s}{text:>16s}{row['accuracy']:>10.3f}{border:>11s}{row['ece']:>7.3f}")
    leaks, validation = sum(metrics["leakage"].values()), metrics["validation"]["macro_f1"]
    lines.append(f"validation macro-F1 {validation:.3f}; leaks {leaks}; results in {folder}")
    return "\n".join(lines)


def write_history(path: Path, history: list[dict[str, Any]]) -> None:
    """metrics.csv: every validation of every member."""
    columns = ["seed", "fold", "epoch", "loss", "validation_macro_f1", "validation_loss"]
    with written_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(history)


def section_summary(metrics: dict[str, Any], folder: Path) -> str:
    """The tables printed at the end of a run on sections: unseen brains, then gap filling."""
    lines = [f"\n{metrics['task']} ({metrics['classes']} areas)"]
    blocks = {"brains never seen": metrics, "between annotated sections": metrics.get("gap_filling", {})}
    for title, block in blocks.items():
        if "test" not in block:
            continue
        lines.append(f"{title:40s}{'macro-F1':>16s}{'accuracy':>10s}{'border mm':>11s}{'ECE':>7s}   ours minus [95 %]")
        rows = {metrics["model"]: block["test"], **block["variants"], **block["baselines"]}
        for name, row in sorted(rows.items(), key=lambda item: -item[1]["macro_f1"]):
            spread = f" +- {row['macro_f1_sd']:.3f}" if row.get("macro_f1_sd") else ""
            border = f"{row['boundary_error_mm']:.2f}" if row["boundary_error_mm"] is not None else "-"
            gap = block["ours_minus"].get(name)
            told = f"{gap['difference']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]" if gap else ""
            mark = "*" if name == metrics["model"] else " "
            text = f"{row['macro_f1']:.3f}{spread}"
            lines.append(
                f"{mark} {name:38s}{text:>16s}{row['accuracy']:>10.3f}{border:>11s}{row['ece']:>7.3f}   {told}"
            )
    mesh = metrics["reconstruction"].get("distance_mm_mean")
    told = f"; meshes {mesh:.2f} mm from the truth on average" if mesh is not None else ""
    lines.append(f"leaks {sum(metrics['leakage'].values())}{told}; results in {folder}")
    return "\n".join(lines)

"""What a run prints at its end, and the history of its validations as CSV."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meshgnn.store import written_aside

HEAD = f"{'':42s}{'macro-F1':>16s}{'all cortex':>11s}{'accuracy':>9s}{'border mm':>10s}{'ECE':>7s}{'fits':>7s}   "


def _rows(block: Mapping[str, Any], model: str, most: int = 0) -> list[str]:
    """The network, its variants and every baseline of one protocol, best first.

    Args:
        most: rows to print at most, the network's among them; 0 = all.
    """
    rows = {model: block["test"], **block.get("variants", {}), **block["baselines"]}
    ranked = sorted(rows.items(), key=lambda item: -item[1]["macro_f1"])
    lines = []
    for place, (name, row) in enumerate(ranked):
        if most and place >= most and name != model:
            continue
        spread = f" +- {row['macro_f1_sd']:.3f}" if row.get("macro_f1_sd") else ""
        border = f"{row['boundary_error_mm']:.2f}" if row["boundary_error_mm"] is not None else "-"
        gap = block["ours_minus"].get(name)
        told = f"{gap['difference']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]" if gap else ""
        value, fits = f"{row['macro_f1']:.3f}{spread}", f"{row['fits']} x {row['seeds']}"
        lines.append(
            f"{'*' if name == model else ' '} {name:40s}{value:>16s}{row['macro_f1_all_cortex']:>11.3f}"
            f"{row['accuracy']:>9.3f}{border:>10s}{row['ece']:>7.3f}{fits:>7s}   {told}"
        )
    if most and len(ranked) > most:
        lines.append(f"  ... {len(ranked)} rows in all: see report.html")
    return lines


def interval_words(gaps: Mapping[str, Any]) -> str:
    """What the intervals of one protocol generalise to."""
    if not gaps:
        return ""
    one = next(iter(gaps.values()))
    what = "other brains" if one["over"] == "brains" else "other places of these brains, not other brains"
    return f"95 % intervals over {one['replicates']} {one['over']}: they speak of {what}"


def left_out_words(left_out: Mapping[str, Any]) -> str:
    """How much cortex the score on labelled nodes leaves out."""
    if not left_out:
        return ""
    return (
        f"left out: {left_out['unmatched_nodes']:.0f} nodes in cortex without a counterpart in the truth, true "
        f"cortex of {left_out['missed_nodes']:.0f} nodes that was not judged; both count as errors under 'all cortex'"
    )


def _notes(block: Mapping[str, Any], left_out: Mapping[str, Any]) -> list[str]:
    return [f"  {text}" for text in (interval_words(block["ours_minus"]), left_out_words(left_out)) if text]


def _ending(metrics: Mapping[str, Any]) -> str:
    rows = "; ".join(f"{name} not run: {why}" for name, why in metrics.get("not_run", {}).items())
    counts = [count for count in metrics["leakage"].values() if count is not None]
    return f"leaks {sum(counts)}{f'; {rows}' if rows else ''}"


def summary_text(metrics: dict[str, Any], folder: Path) -> str:
    """The table printed at the end: the model beside every baseline, best first."""
    lines = [f"\n{metrics['task']} ({metrics['classes']} areas, {metrics['nodes']['test']} test nodes)"]
    lines += [f"{HEAD}ours minus [95 %]", *_rows(metrics, metrics["model"])]
    lines += _notes(metrics, metrics["nodes"]["left_out"])
    lines.append(
        f"validation macro-F1 {metrics['validation']['macro_f1']:.3f}; {_ending(metrics)}; results in {folder}"
    )
    return "\n".join(lines)


HISTORY = ("seed", "fold", "epoch", "loss", "validation_macro_f1", "validation_loss")


def write_history(path: Path, history: list[dict[str, Any]], columns: Sequence[str] = HISTORY) -> None:
    """metrics.csv: every validation of every member."""
    with written_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(history)


def section_summary(metrics: dict[str, Any], folder: Path) -> str:
    """The tables printed at the end of a run on sections: unseen brains, then gap filling."""
    lines = [f"\n{metrics['task']} ({metrics['classes']} areas)"]
    blocks = {"brains never seen": metrics, "between annotated sections": metrics.get("gap_filling", {})}
    for title, block in blocks.items():
        if "test" in block:
            lines += [f"{title} (judged by {block['judged_by']})", f"{HEAD}ours minus [95 %]"]
            lines += [*_rows(block, metrics["model"], most=16), *_notes(block, block["left_out"])]
    for name, control in metrics["controls"].items():
        lines.append(f"control {name}: {control_words(metrics, control)}")
    mesh = metrics["reconstruction"].get("distance_mm_mean")
    told = f"; meshes {mesh:.2f} mm from the truth on average" if mesh is not None else ""
    lines.append(f"{_ending(metrics)}{told}; results in {folder}")
    return "\n".join(lines)


def control_words(metrics: Mapping[str, Any], control: Mapping[str, Any]) -> str:
    """How much of each network's score on unseen brains is left in a control run."""
    own = {"main": metrics["test"], **metrics["variants"]} if "test" in metrics else {}
    left = control.get("strict", {})
    told = [
        f"{name} {left[name]:.3f} ({left[name] / row['macro_f1']:.0%} of {row['macro_f1']:.3f})"
        for name, row in own.items()
        if name in left and row["macro_f1"] > 0
    ]
    return f"{control['task']}: macro-F1 on unseen brains {', '.join(told) or 'not comparable'}"

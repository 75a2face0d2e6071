"""What a run says about its scores: metrics.json read back, the text at its end, its report."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meshgnn.errors import InputError
from meshgnn.experiment.run_folder import RunFolder, read_config
from meshgnn.experiment.runner import SCORES
from meshgnn.export.area_map import AreaMap
from meshgnn.export.report import interval_scope, write_report
from meshgnn.results import ControlScores, Interval, Metrics, ProtocolScores
from meshgnn.store import read_json, written_aside

HISTORY = "metrics.csv"
HEAD = f"{'':42s}{'macro-F1':>16s}{'all cortex':>11s}{'accuracy':>9s}{'border mm':>10s}{'ECE':>7s}{'fits':>7s}   "


def read_metrics(path: Path) -> Metrics:
    """metrics.json, or the scores that it is made of. Raises InputError when the file is not whole."""
    return Metrics.from_json(read_json(path), str(path))


def control_scores(run: Path) -> ControlScores:
    """What a finished control run scored; its `task` is the name of its experiment where it has one.

    Raises:
        InputError: not a finished run on sections.
    """
    path = run / "metrics.json"
    plain = read_json(path) if path.is_file() else {}
    if not isinstance(plain, dict) or "test" not in plain or "brains" not in plain:
        raise InputError(f"{run}: is not a finished run on sections with an unseen brain (no such metrics.json)")
    metrics = Metrics.from_json(plain, str(path))

    def networks(scores: ProtocolScores | None) -> dict[str, float] | None:
        return {name: row.macro_f1 for name, row in scores.networks.items()} if scores else None

    return ControlScores(
        task=read_config(run).get("experiment") or metrics.task,
        strict=networks(metrics.strict),
        gap_filling=networks(metrics.gap_filling),
    )


def _rows(block: ProtocolScores, model: str, most: int = 0) -> list[str]:
    """The network, its variants and every baseline of one protocol, best first.

    Args:
        most: rows to print at most, the network's among them; 0 = all.
    """
    lines = []
    for place, (name, row) in enumerate(block.rows.items()):
        own = name == "main"
        if most and place >= most and not own:
            continue
        deviation = f" +- {row.macro_f1_sd:.3f}" if row.macro_f1_sd else ""
        border = f"{row.boundary_error_mm:.2f}" if row.boundary_error_mm is not None else "-"
        gap = block.ours_minus.get(name)
        words = f"{gap.difference:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]" if gap else ""
        value, fits = f"{row.macro_f1:.3f}{deviation}", f"{row.fits} x {row.seeds}"
        lines.append(
            f"{'*' if own else ' '} {model if own else name:40s}{value:>16s}{row.macro_f1_all_cortex:>11.3f}"
            f"{row.accuracy:>9.3f}{border:>10s}{row.ece:>7.3f}{fits:>7s}   {words}"
        )
    if most and len(block.rows) > most:
        lines.append(f"  ... {len(block.rows)} rows in all: see report.html")
    return lines


def interval_words(gaps: Mapping[str, Interval]) -> str:
    """What the intervals of one protocol generalise to."""
    if not gaps:
        return ""
    one = next(iter(gaps.values()))
    return f"95 % intervals over {one.replicates} {one.over}: they speak of {interval_scope(one)}"


def left_out_words(left_out: Mapping[str, float]) -> str:
    """How much cortex the score on labelled nodes leaves out."""
    if not left_out:
        return ""
    return (
        f"left out: {left_out['unmatched_nodes']:.0f} nodes in cortex without a counterpart in the truth, true "
        f"cortex of {left_out['missed_nodes']:.0f} nodes that was not judged; both count as errors under 'all cortex'"
    )


def _notes(block: ProtocolScores, left_out: Mapping[str, float]) -> list[str]:
    return [f"  {text}" for text in (interval_words(block.ours_minus), left_out_words(left_out)) if text]


def _ending(metrics: Metrics) -> str:
    rows = "; ".join(f"{name} not run: {why}" for name, why in metrics.not_run.items())
    counts = [count for count in metrics.leakage.values() if count is not None]
    return f"leaks {sum(counts)}{f'; {rows}' if rows else ''}"


def summary_text(metrics: Metrics, folder: Path) -> str:
    """The table printed at the end: the network and every baseline, best first."""
    assert metrics.strict is not None
    lines = [f"\n{metrics.task} ({metrics.classes} areas, {metrics.nodes.test} test nodes)"]
    lines += [f"{HEAD}ours minus [95 %]", *_rows(metrics.strict, metrics.model)]
    lines += _notes(metrics.strict, metrics.left_out)
    lines.append(f"validation macro-F1 {metrics.validation.macro_f1:.3f}; {_ending(metrics)}; results in {folder}")
    return "\n".join(lines)


COLUMNS = ("seed", "fold", "epoch", "loss", "validation_macro_f1", "validation_loss")


def write_history(path: Path, history: list[dict[str, Any]], columns: Sequence[str] = COLUMNS) -> None:
    """metrics.csv: every validation of every member."""
    with written_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(history)


def run_report(run: RunFolder, area_map: AreaMap, page: str) -> str:
    """Write report.html from what the run's stages left; returns its name.

    Args:
        page: HTML of the page that shows the brain.
    """
    with (run / HISTORY).open(newline="", encoding="utf-8") as handle:
        history = list(csv.DictReader(handle))
    config, provenance = (read_json(run / name) for name in ("config.json", "provenance.json"))
    write_report(run / "report.html", read_metrics(run / SCORES), history, config, provenance, area_map, page)
    return "report.html"


def section_summary(metrics: Metrics, folder: Path) -> str:
    """The tables printed at the end of a run on sections: unseen brains, then gap filling."""
    lines = [f"\n{metrics.task} ({metrics.classes} areas)"]
    blocks = {"brains never seen": metrics.strict, "between annotated sections": metrics.gap_filling}
    for title, block in blocks.items():
        if block is not None:
            lines += [f"{title} (judged by {block.judged_by})", f"{HEAD}ours minus [95 %]"]
            lines += [*_rows(block, metrics.model, most=16), *_notes(block, block.left_out or {})]
    for name, control in (metrics.controls or {}).items():
        lines.append(f"control {name}: {control_words(metrics, control)}")
    mesh = (metrics.reconstruction or {}).get("distance_mm_mean")
    words = f"; meshes {mesh:.2f} mm from the truth on average" if mesh is not None else ""
    lines.append(f"{_ending(metrics)}{words}; results in {folder}")
    return "\n".join(lines)


def control_words(metrics: Metrics, control: ControlScores) -> str:
    """How much of each network's score on unseen brains is left in a control run."""
    own = metrics.strict.networks if metrics.strict else {}
    left = control.strict or {}
    words = [
        f"{name} {left[name]:.3f} ({left[name] / row.macro_f1:.0%} of {row.macro_f1:.3f})"
        for name, row in own.items()
        if name in left and row.macro_f1 > 0
    ]
    return f"{control.task}: macro-F1 on unseen brains {', '.join(words) or 'not comparable'}"

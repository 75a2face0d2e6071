"""report.html of a subject task: every target beside its baselines, predictions, provenance. One file, no scripts."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from meshgnn.store import write_text

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2430; max-width: 76rem; margin: 2.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; } p.lead { color: #667085; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #e4e7ec; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th, small { color: #667085; font-weight: 500; }
tr.us td { font-weight: 700; color: #0b6e99; } details { margin: .6rem 0; }
pre { background: #f7f8fa; padding: .8rem; overflow: auto; font-size: 12px; }
"""
_NAMES = {
    "balanced_accuracy": "balanced accuracy", "auroc": "AUROC", "accuracy": "accuracy", "mae": "mean absolute error",
    "r2": "R<sup>2</sup>", "r": "r",
}  # fmt: skip
_ROWS = {
    "constant": "mean or class frequencies of the training subjects",
    "site": "mean or class frequencies of the subject's site",
    "graph_means": "linear model on means over the cortex",
    "parcel_means": "linear model on means of every area",
    "same_inputs_mlp": "the same network without neighbours",
    "shuffled_edges": "the same network on random neighbours",
}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _span(ends: Sequence[float | None]) -> str:
    return f"[{_number(ends[0])}, {_number(ends[1])}]"


def _target(name: str, target: Mapping[str, Any], model: str, table: Sequence[Mapping[str, str]]) -> str:
    scores = [score for score in _NAMES if score in target["test"]]
    first = target["chance_of"] if target["kind"] == "classification" else "mae"
    rows = {model: target["test"], **target["baselines"]}
    ranked = sorted(rows.items(), key=lambda item: item[1][first] * (1 if first == "mae" else -1))
    body = ""
    for row, own in ranked:
        cells = "".join(
            f"<td>{_number(own[score])}<br><small>{_span(own['intervals'][score])}</small></td>" for score in scores
        )
        gap = target["ours_minus"].get(row, {}).get(first)
        told = f"{gap['difference']:+.3f}<br><small>{_span([gap['low'], gap['high']])}</small>" if gap else ""
        label = f"{escape(_ROWS.get(row, row))}<br><small>sees {escape(own['sees'])}</small>"
        body += f'<tr class="{"us" if row == model else ""}"><td>{label}</td>{cells}<td>{told}</td></tr>'
    head = "".join(f"<th>{_NAMES[score]}</th>" for score in scores)
    chance = (
        f"By chance, with targets permuted among the subjects, {_NAMES[target['chance_of']]} lies in "
        f"{_span(target['chance_interval'])}."
    )
    return (
        f"<h2>{escape(name)}</h2><p class='lead'>{target['kind'].capitalize()}; {target['subjects']} tested subjects "
        f"of {target['families']} families for whom it is known. {chance}</p>"
        f"<table><thead><tr><th></th>{head}<th>network minus this, {_NAMES[first]}</th></tr></thead>"
        f"<tbody>{body}</tbody></table>{_scatter(name, target, table)}"
    )


def _scatter(name: str, target: Mapping[str, Any], table: Sequence[Mapping[str, str]]) -> str:
    """Predicted over true numbers, one dot per subject, as SVG; nothing for classes."""
    if target["kind"] != "regression":
        return ""
    pairs = [(row[name], row[f"{name}_predicted"]) for row in table]
    points = [(float(true), float(predicted)) for true, predicted in pairs if "n/a" not in (true, predicted)]
    low = min(min(point) for point in points)
    size, width = 260, max(max(max(point) for point in points) - low, 1e-9)

    def at(value: float) -> float:
        return 30 + (size - 40) * (value - low) / width

    dots = "".join(
        f'<circle cx="{at(true):.1f}" cy="{size - at(predicted):.1f}" r="3" fill="#0b6e99" fill-opacity=".6"/>'
        for true, predicted in points
    )
    line = f'<line x1="30" y1="{size - 30}" x2="{size - 10}" y2="10" stroke="#98a2b3" stroke-dasharray="4 3"/>'
    words = f'<text x="30" y="{size - 8}" font-size="11">true {escape(name)} ({low:.4g} to {low + width:.4g})</text>'
    return f'<svg viewBox="0 0 {size} {size}" width="{size}" role="img">{line}{dots}{words}</svg>'


def write_subject_report(
    path: Path,
    metrics: Mapping[str, Any],
    table: Sequence[Mapping[str, str]],
    history: Sequence[Mapping[str, str]],
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    """Write the report.

    Args:
        metrics: see `meshgnn.experiment.subject_scores.subject_metrics`.
        table: rows of predictions/subjects.tsv.
        history: rows of metrics.csv.
    """
    parts, model = metrics["subjects"], metrics["model"]
    leaks = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in metrics["leakage"].items())
    notes = "".join(f"<p>{escape(name)} was not run: {escape(why)}.</p>" for name, why in metrics["not_run"].items())
    body = "".join(_target(name, target, model, table) for name, target in metrics["targets"].items())
    best: dict[tuple[str, str, str], float] = {}
    for row in history:
        member = (row["division"], row["seed"], row["fold"])
        best[member] = max(best.get(member, -1e9), float(row["validation_skill"]))
    skill = sum(best.values()) / max(len(best), 1)
    write_text(
        path,
        f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(metrics["task"])}</title>
<style>{_STYLE}</style></head><body>
<h1>{escape(metrics["task"])}</h1>
<p class="lead">{metrics["families"]} families, {metrics["sites"]} sites. A member trains on {parts["train"]}
subjects and is judged on {parts["validation"]}; {parts["test"]} subjects are tested. Protocol:
{escape(metrics["protocol"])}. Leaks: {escape(leaks)}. {len(metrics["seeds"])} seeds.</p>{notes}
{body}
<p class="lead">Scores are means over divisions and seeds; intervals: 95 %, bootstrap over families. Features:
{escape(", ".join(metrics["features"]))}. Mean best validation skill of a member: {skill:.3f} (0: the
constant prediction, 1: perfect).</p>
<h2>Where this comes from</h2>
<details><summary>Configuration</summary><pre>{escape(json.dumps(config, indent=2))}</pre></details>
<details><summary>Provenance</summary><pre>{escape(json.dumps(provenance, indent=2))}</pre></details>
</body></html>
""",
    )

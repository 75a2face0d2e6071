"""report.html of a run: who wins, borders, areas, confusions, learning curves, provenance. One file, no scripts."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from meshgnn.export.area_map import AreaMap
from meshgnn.export.picture import area_strips, data_address
from meshgnn.store import write_text

_STYLE = """
:root { --ink: #1d2430; --soft: #667085; --line: #e4e7ec; --us: #0b6e99; --fill: #d5eaf3; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 84rem; margin: 2.5rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
p.lead { color: var(--soft); margin-top: .3rem; } .note { background: #fff6e5; padding: .6rem .9rem;
  border-radius: 6px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .55rem; text-align: right; border-bottom: 1px solid var(--line); }
td { white-space: nowrap; } img { max-width: 100%; }
th:first-child, td:first-child { text-align: left; } th { color: var(--soft); font-weight: 600; }
tr.us td { font-weight: 700; color: var(--us); } .bar { display: inline-block; height: .65rem;
  background: var(--fill); }
tr.us .bar { background: var(--us); } .matrix td { padding: .15rem .4rem; font-size: 12px; border: 0; }
.matrix th { font-size: 12px; font-weight: 500; padding: .15rem .4rem; border: 0; }
iframe.page { width: 100%; height: 46rem; border: 1px solid var(--line); border-radius: 8px; }
details { margin: .6rem 0; } pre { background: #f7f8fa; padding: .8rem; overflow: auto; font-size: 12px; }
"""


def _number(value: Any, digits: int = 3) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def _table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], kind: str = "") -> str:
    header = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f'<tr class="{mark}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>" for mark, cells in rows
    )
    return f'<table class="{kind}"><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>'


def _ranking(metrics: Mapping[str, Any], model: str) -> str:
    """Table of one protocol's scores, best first; with what each method sees, its fits, and paired intervals."""
    entries = {model: metrics["test"], **metrics.get("variants", {}), **metrics["baselines"]}
    gaps = metrics.get("ours_minus", {})
    best = max(row["macro_f1"] for row in entries.values()) or 1
    rows = []
    for name, row in sorted(entries.items(), key=lambda item: -item[1]["macro_f1"]):
        spread = f" &plusmn; {row['macro_f1_sd']:.3f}" if row.get("macro_f1_sd") else ""
        bar = f'<span class="bar" style="width:{60 * row["macro_f1"] / best:.0f}px"></span>'
        sees = f"{escape(name)}<br><small>{escape(row.get('sees', ''))}</small>"
        cells = [sees, f"{_number(row['macro_f1'])}{spread}", bar, _number(row.get("macro_f1_all_cortex"))]
        cells += [_number(row["accuracy"]), _number(row["balanced_accuracy"])]
        cells += [_number(row["boundary_error_mm"], 2), _number(row["ece"])]
        cells.append(f"{row.get('fits', '-')} x {row.get('seeds', '-')}")
        if gaps:
            gap = gaps.get(name)
            cells.append(f"{gap['difference']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]" if gap else "")
        rows.append(("us" if name == model else "", cells))
    head = ["", "macro-F1", "", "all cortex", "accuracy", "balanced", "border error, mm", "calibration error"]
    head.append("fits x seeds")
    return _table([*head, "network minus this, 95 % interval"] if gaps else head, rows) + _fine_print(metrics)


def _fine_print(metrics: Mapping[str, Any]) -> str:
    """What the columns mean, what the intervals speak of, and what was left out of the scores."""
    told = [
        "Every row says what it sees; a score averages over fits (members of an ensemble) and is a mean over seeds. "
        "Border error: mean geodesic distance between predicted and true borders."
    ]
    gaps = metrics.get("ours_minus", {})
    if gaps:
        one = next(iter(gaps.values()))
        what = "other brains" if one["over"] == "brains" else "other places of these brains, not of other brains"
        told.append(
            f"Intervals: mean of the network's seeds minus mean of the row's, over {one['replicates']} {one['over']}; "
            f"they speak of {what}."
        )
    left_out = metrics.get("left_out") or metrics.get("nodes", {}).get("left_out") or {}
    if left_out:
        told.append(
            f"Left out of macro-F1: {left_out['unmatched_nodes']:.0f} nodes in cortex without a counterpart in the "
            f"truth, and true cortex of {left_out['missed_nodes']:.0f} nodes that the map does not cover; both are "
            "errors under 'all cortex'."
        )
    for name, why in metrics.get("not_run", {}).items():
        told.append(f"{name} was not run: {why}.")
    return f'<p class="lead">{escape(" ".join(told))}</p>'


def _controls(metrics: Mapping[str, Any]) -> str:
    """How much of a score is left where sections carry no trace of the areas."""
    rows = []
    own = {"main": metrics["test"], **metrics["variants"]} if "test" in metrics and metrics.get("controls") else {}
    for control in metrics.get("controls", {}).values():
        for name, row in own.items():
            if name in control.get("strict", {}):
                left = control["strict"][name]
                share = f"{left / row['macro_f1']:.0%}" if row["macro_f1"] > 0 else "-"
                rows.append(
                    ("", [escape(control["task"]), escape(name), _number(row["macro_f1"]), _number(left), share])
                )
    if not rows:
        return ""
    head = ["control", "network", "macro-F1", "in the control", "share left"]
    return "<h2>Controls of the whole chain</h2>" + _table(head, rows)


def _verdict(metrics: Mapping[str, Any], model: str) -> str:
    own = metrics["test"]["macro_f1"]
    name, row = max(metrics["baselines"].items(), key=lambda item: item[1]["macro_f1"])
    gap = own - row["macro_f1"]
    word = "above" if gap > 0 else "below"
    interval = metrics.get("ours_minus", {}).get(name)
    sure = ""
    if interval:
        sure = f", 95 % interval of the difference {interval['low']:+.3f} to {interval['high']:+.3f}"
        if interval["low"] <= 0 <= interval["high"]:
            sure += ": no difference can be told"
    return (
        f"{escape(model)} reaches macro-F1 {own:.3f}, {abs(gap):.3f} {word} the best baseline "
        f"({escape(name)}, {row['macro_f1']:.3f}){sure}."
    )


def _areas(metrics: Mapping[str, Any]) -> str:
    own = metrics["per_area_f1"]
    others = metrics["baselines_per_area_f1"]
    show = sorted(others, key=lambda name: -metrics["baselines"][name]["macro_f1"])[:3]
    rows = [
        ("", [escape(area), _number(value), *(_number(others[name].get(area)) for name in show)])
        for area, value in sorted(own.items(), key=lambda item: -(item[1] if item[1] is not None else -1))
    ]
    return _table(["area", metrics["model"], *show], rows)


def _sections(metrics: Mapping[str, Any]) -> str:
    """What only brains made from sections have: gap filling, obliqueness, the meshes."""
    if "reconstruction" not in metrics:
        return ""
    parts = []
    gaps = metrics.get("gap_filling")
    if gaps:
        parts.append("<h2>Between annotated sections</h2><p>" + _verdict(gaps, metrics["model"]) + "</p>")
        parts.append(_ranking(gaps, metrics["model"]))
        parts.append(
            '<p class="lead">Gap filling: nodes of the training brains whose own section carries no annotation, judged '
            f"by {escape(gaps['judged_by'])}; they lie {gaps['distance_to_annotation_mm']['judged']:.1f} mm from the "
            "nearest annotation on average (all nodes without annotation: "
            f"{gaps['distance_to_annotation_mm']['all']:.1f} mm).</p>"
        )
    oblique = metrics.get("by_obliqueness_deg", {})
    if oblique:
        columns = list(next(iter(oblique.values())))
        rows = [
            (
                "us" if name == "main" else "",
                [
                    escape(metrics["model"] if name == "main" else name),
                    *(_number(row.get(column, {}).get("macro_f1")) for column in columns),
                ],
            )
            for name, row in oblique.items()
        ]
        nodes = next(iter(oblique.values()))
        head = [f"{column} deg ({nodes[column]['nodes']} nodes)" for column in columns]
        parts.append("<h2>Oblique cuts</h2>" + _table(["", *head], rows))
        parts.append(
            '<p class="lead">macro-F1 on unseen brains by the angle between the cortical normal and the section plane: '
            "a patch of obliquely cut cortex looks like another area.</p>"
        )
    brains = metrics["reconstruction"].get("brains", {})
    columns = [c for c in ("distance_mm_mean", "distance_mm_p95", "euler_L", "euler_R", "observed_share")
               if any(c in row for row in brains.values())]  # fmt: skip
    if columns:
        digits = {"euler_L": 0, "euler_R": 0}
        rows = [
            ("", [escape(name), *(_number(row.get(c), digits.get(c, 3)) for c in columns)])
            for name, row in brains.items()
        ]
        parts.append("<h2>Meshes</h2>" + _table(["", *(c.replace("_", " ") for c in columns)], rows))
    return "".join(parts)


def _maps(area_map: AreaMap) -> str:
    graph = area_map.graph
    wrong = np.where((graph.labels >= 0) & (graph.labels != area_map.predicted), graph.labels, -1)
    rows = {"Atlas": graph.labels, "Predicted": area_map.predicted, "Where they differ (true area)": wrong}
    pictures = area_strips(graph, list(rows.values()), graph.areas)
    return "".join(
        f'<p class="lead">{name}</p><img alt="{name}" src="{data_address(picture)}">'
        for name, picture in zip(rows, pictures)
    )


def _confusions(metrics: Mapping[str, Any], most: int = 25) -> str:
    names = metrics["confusion"]["areas"]
    counts = np.array(metrics["confusion"]["rows_true_columns_predicted"])
    if len(names) > most:
        wrong = counts.copy()
        np.fill_diagonal(wrong, 0)
        worst = np.argsort(wrong, axis=None)[::-1][:20]
        pairs = [np.unravel_index(int(flat), wrong.shape) for flat in worst]
        rows = [
            ("", [escape(names[i]), escape(names[j]), str(counts[i, j]), f"{counts[i, j] / counts[i].sum():.0%}"])
            for i, j in pairs
            if wrong[i, j]
        ]
        return "<p>The most frequent confusions:</p>" + _table(["true", "called", "nodes", "share"], rows)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    rows = [
        (
            "",
            [escape(names[i])]
            + [f'<span style="color:rgba(29,36,48,{0.25 + 0.75 * v:.2f})">{v:.0%}</span>' for v in share[i]],
        )
        for i in range(len(names))
    ]
    return "<p>Rows are true areas, columns what they were called.</p>" + _table(["", *names], rows, "matrix")


def _curves(history: Sequence[Mapping[str, str]]) -> str:
    """Validation macro-F1 over epochs, one line per member, as SVG."""
    lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in history:
        point = (float(row["epoch"]), float(row["validation_macro_f1"]))
        lines.setdefault((row["seed"], row["fold"]), []).append(point)
    if not lines:
        return ""
    longest = max(x for points in lines.values() for x, _ in points)
    highest = max(max(y for points in lines.values() for _, y in points), 1e-6)
    width, height = 640, 200
    paths = []
    for points in lines.values():
        path = " ".join(
            f"{40 + (width - 50) * x / longest:.1f},{height - 20 - (height - 30) * y / highest:.1f}" for x, y in points
        )
        paths.append(f'<polyline points="{path}" fill="none" stroke="#0b6e99" stroke-opacity=".45"/>')
    axis = (
        f'<line x1="40" y1="{height - 20}" x2="{width - 10}" y2="{height - 20}" stroke="#98a2b3"/>'
        f'<line x1="40" y1="10" x2="40" y2="{height - 20}" stroke="#98a2b3"/>'
        f'<text x="4" y="16" font-size="11">{highest:.2f}</text><text x="4" y="{height - 18}" font-size="11">0</text>'
        f'<text x="{width - 70}" y="{height - 5}" font-size="11">epoch {longest:.0f}</text>'
    )
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img">{axis}{"".join(paths)}</svg>'


def write_report(
    path: Path,
    metrics: Mapping[str, Any],
    history: Sequence[Mapping[str, str]],
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
    area_map: AreaMap,
    page: str = "",
) -> None:
    """Write the report.

    Args:
        history: rows of metrics.csv.
        page: HTML of the page that shows the brain, put into a frame; none if empty.
    """
    import json

    notes = []
    if metrics["transductive_features"]:
        notes.append(
            f"{', '.join(metrics['transductive_features'])} were embedded over both hemispheres together, test part "
            "included; compare with a run without them."
        )
    if metrics["coordinates"]:
        notes.append(f"Coordinates are an input (aligned by: {metrics['alignment']}); compare with a run without them.")
    if metrics["left_out_features"]:
        told = ", ".join(metrics["left_out_features"])
        notes.append(f"Left out, since they relate differently to the others in the two parts: {told}.")
    if metrics["rim"]:
        notes.append(
            "The rim of the cortex mask is an input of every model; where the mask was drawn from the atlas it gives "
            "away something of the areas. Compare with features.rim=false."
        )
    noted = "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    nodes = metrics["nodes"]
    if page:
        page = f'<h2>The brain</h2><iframe class="page" title="The brain" srcdoc="{escape(page, quote=True)}"></iframe>'
    leaks = ", ".join(
        f"{name.replace('_', ' ')} {'not applicable' if count is None else count}"
        for name, count in metrics["leakage"].items()
    )
    beside = detail = ""
    verdict = "Nothing to judge by: no unseen brain carries labels."
    if "test" in metrics:
        verdict = _verdict(metrics, metrics["model"])
        beside = "<h2>Beside the baselines</h2>" + _ranking(metrics, metrics["model"])
        detail = f"<h2>Every area</h2>{_areas(metrics)}<h2>Confusions</h2>{_confusions(metrics)}"
    elif "gap_filling" in metrics:
        verdict = _verdict(metrics["gap_filling"], metrics["model"])
    write_text(
        path,
        f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(metrics["task"])}</title>
<style>{_STYLE}</style></head><body>
<h1>{escape(metrics["task"])}</h1>
<p class="lead">{metrics["classes"]} areas, {nodes["train"]} training and {nodes["test"]} test nodes,
{len(metrics["seeds"])} seeds, {escape(metrics["protocol"])} protocol. Leaks: {escape(leaks)}.</p>
<p>{verdict}</p>{noted}
{beside}
{_controls(metrics)}
<h2>The map</h2>{_maps(area_map)}
{page}
{_sections(metrics)}
{detail}
<h2>Learning</h2><p class="lead">Validation macro-F1 of every member.</p>{_curves(history)}
<p>Features: {escape(", ".join(metrics["features"]) or "none")}. Validation macro-F1
{_number(metrics["validation"]["macro_f1"])}.</p>
<h2>Where this comes from</h2>
<details><summary>Configuration</summary><pre>{escape(json.dumps(config, indent=2))}</pre></details>
<details><summary>Provenance</summary><pre>{escape(json.dumps(provenance, indent=2))}</pre></details>
</body></html>
""",
    )

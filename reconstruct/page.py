"""report.html of a reconstruction: one file with pictures, measures, sections and repairs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from meshgnn.export.picture import data_address
from meshgnn.store import write_text

_PICTURES = {
    "sections": "Six sections: the boundaries found, and where the midsurface meets them",
    "thickness": "Cortical thickness on the midsurface",
    "volume": "The ribbon in nine cuts",
}
_MEASURES = {
    "euler_number": "Euler number (2: a sphere)", "area_mm2": "area, mm<sup>2</sup>",
    "cortex_area_mm2": "of it cortex, mm<sup>2</sup>", "cortex_share": "nodes in cortex, share",
    "thickness_mm_median": "thickness, median, mm", "volume_mm3": "volume inside, mm<sup>3</sup>",
    "vertices": "nodes", "edge_mm_mean": "edge length, mean, mm", "edge_cv": "its coefficient of variation",
    "components": "components", "handles_removed": "handles removed", "bridges_cut": "bridges cut in sections",
    "sulci_opened": "places where glued sulci were opened",
}  # fmt: skip
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2.5rem auto;padding:0 1rem;color:#1d2430}"
    "td,th{padding:.2rem .8rem;border-bottom:1px solid #e4e7ec;text-align:left}table{border-collapse:collapse}"
    "img{max-width:100%}h2{font-size:1.15rem;margin-top:2rem}details{margin:.6rem 0}"
)


def write_page(out: Path, metrics: Mapping[str, Any], report: Mapping[str, Any]) -> None:
    """Write `report.html` into the run folder `out` from its measures, its report and the pictures in `qc`."""
    parts = [f"<h1>{escape(str(metrics['task']))}</h1>"]
    if report["warnings"]:
        parts.append(
            "<h2>Warnings</h2><ul>" + "".join(f"<li>{escape(one)}</li>" for one in report["warnings"]) + "</ul>"
        )
    sides = list(metrics["hemispheres"])
    rows = [
        [title, *(_told(metrics["hemispheres"][side].get(name, "")) for side in sides)]
        for name, title in _MEASURES.items() if any(name in metrics["hemispheres"][side] for side in sides)
    ]  # fmt: skip
    parts += ["<h2>Surfaces</h2>", _table(["", *(f"hemisphere {side}" for side in sides)], rows)]
    plain = {k: v for k, v in metrics["reconstruction"].items() if k != "faults" and not k.startswith("euler_")}
    if plain:
        title = "Against the truth, and coverage" if "distance_mm_mean" in plain else "Coverage"
        parts += [f"<h2>{title}</h2>", _table(["", ""], [[escape(k), _told(v)] for k, v in plain.items()])]
    for name, title in _PICTURES.items():
        picture = out / "qc" / f"{name}.png"
        if picture.is_file():
            parts.append(f'<h2>{title}</h2><img alt="{name}" src="{data_address(picture.read_bytes())}">')
    if "sections" in report:
        told = {k: v for k, v in report["sections"].items() if k not in ("nodes_per_section", "residual_histogram")}
        parts += ["<h2>Sections</h2>", _table(["", ""], [[escape(k), _told(v)] for k, v in told.items()])]
    if metrics["reconstruction"].get("faults"):
        parts += ["<h2>Planted bridges</h2>", _list(metrics["reconstruction"]["faults"])]
    parts.append("<h2>Repairs of topology</h2>")
    for side in sides:
        repairs = report["repairs"][side]
        counts = Counter((one["where"], one["kind"]) for one in repairs)
        rows = [[*map(escape, key), str(count)] for key, count in sorted(counts.items())]
        parts += [f"<h3>Hemisphere {side}</h3>", _table(["in", "what", "how often"], rows)]
        named = [one for one in repairs if one["handles"] or one["kind"] == "bridge cut"]
        named.sort(key=lambda one: -one["volume_mm3"])
        if named:
            parts.append(f"<details><summary>the largest of {len(named)} handles and bridges</summary>")
            parts.append(f"{_list(named[:30])}</details>")
    parts.append("<p>All repairs with their places are in reconstruction.json.</p>")
    head = f'<meta charset="utf-8"><title>{escape(str(metrics["task"]))}</title><style>{_STYLE}</style>'
    body = "".join(parts)
    write_text(out / "report.html", f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>')


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{cell}</th>" for cell in head) if any(head) else ""
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{lines}</table>"


def _list(items: Sequence[Mapping[str, Any]]) -> str:
    return "<ul>" + "".join(f"<li>{_told(dict(one))}</li>" for one in items) + "</ul>"


def _told(value: Any) -> str:
    """A value as HTML text."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{escape(str(name))} {_told(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(_told(item) for item in value) or "none"
    return escape(str(value))

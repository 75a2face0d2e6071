"""report.html of a reconstruction: one file with pictures, measures, sections and repairs.

The layout is `templates/reconstruction.html`.
"""

import json
from collections import Counter
from collections.abc import Mapping
from math import hypot
from pathlib import Path
from typing import Any

from meshgnn.export.html import render
from meshgnn.export.picture import data_address
from meshgnn.export.words import MESHES, Word, readable
from meshgnn.store import read_json, write_text
from reconstruct.cards import FILE

_PICTURES = {
    "sections": "Six sections: the boundaries found, and where the midsurface meets them",
    "thickness": "Cortical thickness on the midsurface",
    "volume": "The ribbon in nine cuts",
}
_SURFACES = {
    "euler_number": Word("Euler number (2: a sphere)"), "area_mm2": Word("area, mm²"),
    "cortex_area_mm2": Word("of it cortex, mm²"), "cortex_share": Word("nodes in cortex, share"),
    "thickness_mm_median": Word("thickness, median, mm"), "volume_mm3": Word("volume inside, mm³"),
    "vertices": Word("nodes"), "edge_mm_mean": Word("edge length, mean, mm"),
    "edge_cv": Word("its coefficient of variation"), "components": Word("components"),
    "handles_removed": Word("handles removed"), "bridges_cut": Word("bridges cut in sections"),
    "sulci_opened": Word("places where glued sulci were opened"),
}  # fmt: skip
_SECTIONS = {
    "used": Word("sections used"),
    "left_out": Word("sections left out", "Their numbers."),
    "spacing_mm": Word("distance between sections, mm"),
    "gaps": Word("gaps", "Between which sections, and how wide."),
    "order_quality": Word("quality of the order", "0: neighbouring sections differ as much as any two."),
    "overlap_min": Word("smallest overlap of neighbours", "Of their tissue, after alignment."),
    "worst_overlap": Word("sections that overlap least", "Their numbers."),
    "glass_mm": Word("places on the glass, sd, mm", "As estimated: shift per direction, turn and stretch (at 40 mm)."),
    "unsure_mm": Word(
        "what alignment leaves open, sd, mm", "Median over sections; images cannot tell it from anatomy."
    ),
    "reference_overlap": Word("overlap with the reference volume"),
    "slabs": Word("slabs", "Averages of sections that lie close together."),
    "odd": Word("sections that fit no slab", "Their numbers; they were left out."),
    "lowest_quality": Word("sections of lowest quality", "Their numbers; see every section below."),
    "obliqueness_share_over_30_deg": Word("nodes cut at more than 30°, share", "Between normal and section plane."),
}


def write_page(out: Path, metrics: Mapping[str, Any], report: Mapping[str, Any]) -> None:
    """Write `report.html` into the run folder `out` from its measures, its report and the pictures in `qc`."""
    sides = metrics["hemispheres"]
    measured = {k: v for k, v in metrics["reconstruction"].items() if k != "faults" and not k.startswith("euler_")}
    sections = {
        k: v
        for k, v in report.get("sections", {}).items()
        if k not in ("nodes_per_section", "residual_histogram", "quality")
    }  # fmt: skip
    fresh = "quality" in report.get("sections", {})  # an earlier run's pictures are not shown
    shown = _cards(out / "qc" / FILE) if fresh else {"cards": ()}
    files = [(title, name, out / "qc" / f"{name}.png") for name, title in _PICTURES.items()]
    text = render(
        "reconstruction.html", package="reconstruct", title=str(metrics["task"]), warnings=report["warnings"],
        refused=report.get("refused", ()),
        sides=list(sides),
        surfaces=[
            (word, [side.get(key, "") for side in sides.values()])
            for key, word in _SURFACES.items() if any(key in side for side in sides.values())
        ],
        judged="distance_mm_mean" in measured,
        measures=[(MESHES.get(key, Word(readable(key))), value) for key, value in measured.items()],
        pictures=[(title, name, data_address(path.read_bytes())) for title, name, path in files if path.is_file()],
        sections=[(_SECTIONS.get(key, Word(readable(key))), value) for key, value in sections.items()],
        faults=metrics["reconstruction"].get("faults"), counts=[(s, *_repairs(report["repairs"][s])) for s in sides],
        **shown,
    )  # fmt: skip
    write_text(out / "report.html", text)


def _cards(path: Path) -> dict[str, Any]:
    """What `cards.html` shows, from what `reconstruct.cards` wrote."""
    found = read_json(path)
    for card in found["cards"]:
        card["far"] = hypot(*card["shift"])
    data = {"table": found["table"], "points": found["points"], "repairs": [r["position_mm"] for r in found["repairs"]]}
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")  # ends no script
    return {name: found[name] for name in ("cards", "repairs", "dense", "table")} | {"data": text}


def _repairs(repairs: list[Mapping[str, Any]]) -> tuple[list[tuple[str, str, int]], list[Mapping[str, Any]]]:
    """How often each kind was made in each place; handles and bridges, largest first."""
    counts = Counter((one["where"], one["kind"]) for one in repairs)
    named = [one for one in repairs if one["handles"] or one["kind"] == "bridge cut"]
    return [(*key, count) for key, count in sorted(counts.items())], sorted(named, key=lambda one: -one["volume_mm3"])

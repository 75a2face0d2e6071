"""The files that a reconstruction writes for people and other programs: GIfTI, tables, a JSON report.

sub-NAME_hemi-L_midthickness.surf.gii            the mesh
sub-NAME_hemi-L_pial.surf.gii, _white.surf.gii    the ends of the lines across the cortex through its nodes
sub-NAME_hemi-L_desc-cortex_mask.label.gii       1 in cortex
sub-NAME_hemi-L_desc-thickness.shape.gii         mm
sub-NAME_hemi-L_desc-sections.tsv                one row per node: where it lies on which section
sections.json                                    the sections' transforms into space, after alignment
reconstruction.json                              counts, repairs, gaps, judgement, seconds
qc/*.png                                         see `reconstruct.pictures`
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from meshgnn.export.gifti import write_labels, write_scalars, write_surface
from meshgnn.graph import LOCATION_COLUMNS, Areas, NodeLocations
from meshgnn.source.aligned import FILE
from meshgnn.source.sections import SectionStack
from reconstruct.records import Alignment, Reconstruction, TissueStack


def write(out: Path, result: Reconstruction) -> None:
    """Write meshes, tables and report into `out`, each file aside first."""
    out.mkdir(parents=True, exist_ok=True)
    mask = Areas(names=("cortex",))
    for number, item in enumerate(result.midsurfaces):
        stem = f"sub-{result.brain}_hemi-{item.mesh.hemisphere}"
        write_surface(out / f"{stem}_midthickness.surf.gii", item.mesh)
        write_surface(out / f"{stem}_pial.surf.gii", item.mesh.with_vertices(item.pial_mm), "Pial")
        write_surface(out / f"{stem}_white.surf.gii", item.mesh.with_vertices(item.white_mm), "GrayWhite")
        write_labels(
            out / f"{stem}_desc-cortex_mask.label.gii", item.mesh, np.where(item.cortex, 0, -1), mask, "cortex"
        )
        write_scalars(out / f"{stem}_desc-thickness.shape.gii", item.mesh, item.thickness_mm[:, None], ["thickness"])
        if result.locations:
            _table(out / f"{stem}_desc-sections.tsv", result.locations[number])
    _text(out / "reconstruction.json", json.dumps(result.report, indent=1) + "\n")


def withdraw(out: Path, result: Reconstruction) -> None:
    """Write the report of a result that is not handed out into `out`, and take away what an earlier run left there."""
    out.mkdir(parents=True, exist_ok=True)
    for path in (*out.glob(f"sub-{result.brain}_*"), out / FILE):
        path.unlink(missing_ok=True)
    _text(out / "reconstruction.json", json.dumps(result.report, indent=1) + "\n")


def section_report(
    stack: SectionStack, tissue: TissueStack, alignment: Alignment, places: Sequence[NodeLocations]
) -> dict[str, Any]:
    """Sections in use and left out, gaps, fit of neighbours, nodes per section and their distances."""
    used = set((tissue.part_index if tissue.dense else tissue.index).tolist())
    gaps = np.diff(tissue.position_mm)
    spacing = float(np.median(gaps))
    wide = np.flatnonzero(gaps > 1.5 * spacing)
    report: dict[str, Any] = {
        "used": len(used),
        "left_out": [section.index for section in stack if section.index not in used],
        "spacing_mm": round(spacing, 4),
        "gaps": [
            {"after": int(tissue.index[k]), "before": int(tissue.index[k + 1]), "mm": round(float(gaps[k]), 3)}
            for k in wide
        ],
        "order_quality": round(alignment.quality, 4),
        "overlap_min": round(float(alignment.overlap.min()), 4),
        "worst_overlap": [int(tissue.index[k]) for k in np.argsort(alignment.overlap)[:5]],
    }
    if len(alignment.unsure_mm):
        glass = [round(float(sd), 3) for sd in alignment.glass_mm]
        report["glass_mm"] = dict(zip(("shift", "turn", "stretch"), glass))
        report["unsure_mm"] = round(float(np.median(alignment.unsure_mm)), 3)
    if alignment.reference:
        report["reference_overlap"] = round(alignment.reference, 4)
    if len(alignment.knots):
        report["bend_mm"] = round(alignment.bend_mm, 3)
    if tissue.dense:
        report["slabs"] = len(tissue.index)
        report["odd"] = tissue.odd.tolist()
    if places:
        section = np.concatenate([item.section[item.observed] for item in places])
        numbers, counts = np.unique(section, return_counts=True)
        residual = np.concatenate([item.residual_mm for item in places])
        edges = np.linspace(0, max(spacing, float(residual.max())), 9)
        report["nodes_per_section"] = {str(a): int(b) for a, b in zip(numbers, counts)}
        report["residual_histogram"] = {
            "edges_mm": [round(float(e), 3) for e in edges], "nodes": np.histogram(residual, edges)[0].tolist(),
        }  # fmt: skip
        oblique = np.concatenate([item.obliqueness_deg for item in places])
        report["obliqueness_share_over_30_deg"] = round(float((oblique > 30).mean()), 4)
    return report


def _text(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def _table(path: Path, places: NodeLocations) -> None:
    formats = {"section": "%d", "observed": "%d"}
    columns = np.column_stack([getattr(places, name) for name in LOCATION_COLUMNS])
    aside = path.with_name(f".{path.name}.part")
    np.savetxt(aside, columns, fmt=[formats.get(name, "%.3f") for name in LOCATION_COLUMNS], delimiter="\t",
               header="\t".join(LOCATION_COLUMNS), comments="")  # fmt: skip
    os.replace(aside, path)

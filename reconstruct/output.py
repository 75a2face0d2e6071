"""What a reconstruction leaves for people and other programs: GIfTI, tables, a JSON report, QC pictures.

sub-NAME_hemi-L_midthickness.surf.gii            the mesh
sub-NAME_hemi-L_pial.surf.gii, _white.surf.gii    the ends of the lines across the cortex through its nodes
sub-NAME_hemi-L_desc-cortex_mask.label.gii       1 in cortex
sub-NAME_hemi-L_desc-thickness.shape.gii         mm
sub-NAME_hemi-L_desc-sections.tsv                one row per node: where it lies on which section
sections.json                                    the sections' transforms into space, after alignment
reconstruction.json                              counts, repairs, gaps, judgement, seconds
qc/*.png
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.export.gifti import write_labels, write_scalars, write_surface
from meshgnn.graph import Areas, NodeLocations
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.source.sections import AXES, SectionStack, open_section
from reconstruct.records import Alignment, Midsurface, Reconstruction, Ribbon, TissueStack

COLUMNS = ("section", "row_px", "column_px", "normal_angle_deg", "obliqueness_deg", "residual_mm", "observed")


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


def section_report(
    stack: SectionStack, tissue: TissueStack, alignment: Alignment, places: Sequence[NodeLocations]
) -> dict[str, Any]:
    """Sections in use and left out, gaps, fit of neighbours, nodes per section and their distances."""
    used = set(tissue.index.tolist())
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
    columns = np.column_stack([getattr(places, name) for name in COLUMNS])
    aside = path.with_name(f".{path.name}.part")
    np.savetxt(aside, columns, fmt=[formats.get(name, "%.3f") for name in COLUMNS], delimiter="\t",
               header="\t".join(COLUMNS), comments="")  # fmt: skip
    os.replace(aside, path)


def pictures(
    folder: Path, result: Reconstruction, ribbon: Ribbon, stack: SectionStack | None, tissue: TissueStack | None,
    alignment: Alignment | None,
) -> None:  # fmt: skip
    """QC pictures: sections with the boundaries found and the midsurface on them; the volume in three cuts."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(18, 6))
    FigureCanvasAgg(figure)
    for number, axis in enumerate(figure.subplots(1, 3)):
        _cut(axis, ribbon, result.midsurfaces, number)
    figure.tight_layout()
    figure.savefig(folder / "volume.png", dpi=80)
    if stack is None or tissue is None or alignment is None:
        return
    figure = Figure(figsize=(21, 14))
    FigureCanvasAgg(figure)
    chosen = np.linspace(0, len(tissue.index) - 1, 8).round().astype(int)[1:-1]
    for axis, k in zip(figure.subplots(2, 3).ravel(), chosen):
        section = stack.at(int(tissue.index[k]))
        with open_section(section) as image:
            axis.imshow(image.read()[::2, ::2], cmap="gray", extent=(0, section.shape[1], section.shape[0], 0))
        size = tissue.pixel_mm / tissue.image_px_mm[k]
        start = tissue.origin_mm[k] / tissue.image_px_mm[k]
        rows, columns = (start[a] + size * np.arange(tissue.outer.shape[1 + a]) for a in range(2))
        axis.contour(columns, rows, tissue.outer[k], [0], colors="tab:red", linewidths=0.6)
        axis.contour(columns, rows, tissue.white[k], [0], colors="cyan", linewidths=0.6)
        column, row, along = AXES[stack.plane]
        for item in result.midsurfaces:
            ends = _segments(item.mesh, along, float(tissue.position_mm[k]))
            flat = np.stack([ends @ row, ends @ column], axis=-1)
            px = alignment.map(int(k), flat) / tissue.image_px_mm[k]
            axis.add_collection(LineCollection(list(px[..., ::-1]), colors="gold", linewidths=0.9))
        axis.set_title(f"section {section.index}: tissue red, white matter cyan, midsurface yellow")
    figure.tight_layout()
    figure.savefig(folder / "sections.png", dpi=70)


def _segments(mesh: SurfaceMesh, axis: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """The cut of a mesh by the plane axis . p = level, as segments [S, 2, 3] in mm."""
    points = mesh.vertices_mm.astype(np.float64)
    height = points @ axis - level
    height[height == 0] = 1e-9
    above = height[mesh.faces] > 0
    faces, above = mesh.faces[above.any(1) & ~above.all(1)], above[above.any(1) & ~above.all(1)]
    # The corner that lies alone on its side, and the other two.
    lonely = np.where(above.sum(1) == 1, above.argmax(1), above.argmin(1))
    rows = np.arange(len(faces))
    own, others = faces[rows, lonely], [faces[rows, (lonely + k) % 3] for k in (1, 2)]
    shares = [height[own] / (height[own] - height[other]) for other in others]
    return np.stack(
        [points[own] + t[:, None] * (points[other] - points[own]) for t, other in zip(shares, others)], axis=1
    )


def _cut(axis: Any, ribbon: Ribbon, surfaces: Sequence[Midsurface], number: int) -> None:
    """One cut of the ribbon through the middle along array axis `number`, with the midsurface."""
    from matplotlib.collections import LineCollection

    middle = ribbon.pial.shape[number] // 2
    take = [slice(None)] * 3
    take[number] = middle
    classes = (ribbon.pial[tuple(take)] < 0).astype(int) + (ribbon.white[tuple(take)] < 0)
    axis.imshow(classes, cmap="gray", origin="lower")
    rest = [a for a in range(3) if a != number]
    direction = ribbon.affine[:3, number] / ribbon.voxel_mm
    centre = ribbon.to_mm(np.eye(3)[number] * middle)
    for item in surfaces:
        ends = ribbon.to_voxels(_segments(item.mesh, direction, float(centre @ direction)))
        axis.add_collection(LineCollection(list(ends[..., [rest[1], rest[0]]]), colors="gold", linewidths=0.8))

"""QC pictures: sections with what was found on them, the volume in nine cuts, thickness on the surface.

Drawn as anatomists look at them: left on the left, anterior to the left from the left side, scale bars in mm.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.export import plots
from meshgnn.export.picture import visible_faces
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.source.sections import AXES, SectionStack
from meshgnn.store import written_aside
from reconstruct.records import Alignment, Midsurface, Reconstruction, Ribbon, TissueStack
from reconstruct.shown import shown_image

_TISSUE, _WHITE, _MID = "#d62728", "#00a6c8", "#ffb000"


def pictures(
    folder: Path, result: Reconstruction, ribbon: Ribbon, stack: SectionStack | None, tissue: TissueStack | None,
    alignment: Alignment | None,
) -> None:  # fmt: skip
    """Write volume.png, thickness.png and, from sections, sections.png into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _save(folder / "volume.png", _volume(ribbon, result.midsurfaces), 75)
    _save(folder / "thickness.png", _thickness(result.midsurfaces), 80)
    if stack is not None and tissue is not None and alignment is not None:
        _save(folder / "sections.png", _sections(result.midsurfaces, stack, tissue, alignment), 85)


def _save(path: Path, figure: Any, dpi: int) -> None:
    figure.set_layout_engine("constrained")
    with written_aside(path) as aside, aside.open("wb") as handle:
        figure.savefig(handle, dpi=dpi, format="png", metadata={"Software": None})


def _legend(figure: Any, entries: Sequence[tuple[str, str]]) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=colour, linewidth=2) for colour, _ in entries]
    figure.legend(lines, [text for _, text in entries], loc="lower center", ncols=len(entries), frameon=False)


def _scale_bar(axis: Any, per_mm: float) -> None:
    """10 mm, at the lower left of an axis whose unit is 1 / per_mm mm."""
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    x, y = left + 0.04 * (right - left), bottom + 0.05 * (top - bottom)
    axis.plot([x, x + 10 * per_mm * np.sign(right - left)], [y, y], color="black", linewidth=2.5)
    axis.annotate("10 mm", (x, y), (0, 4), textcoords="offset points", fontsize=9)


def _sections(
    surfaces: Sequence[Midsurface], stack: SectionStack, tissue: TissueStack, alignment: Alignment
) -> Any:  # fmt: skip
    from matplotlib.collections import LineCollection

    figure = plots.figure(21, 14)
    column, row, along = AXES[stack.plane]
    letter = "xyz"[int(np.argmax(np.abs(along)))]
    chosen = np.linspace(0, len(tissue.index) - 1, 8).round().astype(int)[1:-1]
    for axis, k in zip(figure.subplots(2, 3).ravel(), chosen):
        with shown_image(stack, tissue, int(k)) as image:
            shown, shape = image.thumbnail(8192), image.shape
        step = max(1, round(max(shown.shape) / 1400))
        top = float(np.percentile(shown[::8, ::8], 99.5))
        extent = (-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5)
        axis.imshow(shown[::step, ::step], cmap="gray", extent=extent, vmin=0, vmax=top)
        size = tissue.pixel_mm / tissue.image_px_mm[k]
        start = tissue.origin_mm[k] / tissue.image_px_mm[k]
        rows, columns = (start[a] + size * np.arange(tissue.outer.shape[1 + a]) for a in range(2))
        axis.contour(columns, rows, tissue.outer[k], [0], colors=_TISSUE, linewidths=0.9)
        axis.contour(columns, rows, tissue.white[k], [0], colors=_WHITE, linewidths=0.9)
        for item in surfaces:
            ends = segments(item.mesh, along, float(tissue.position_mm[k]))
            flat = np.stack([ends @ row, ends @ column], axis=-1)
            px = alignment.map(int(k), flat) / tissue.image_px_mm[k]
            axis.add_collection(LineCollection(list(px[..., ::-1]), colors=_MID, linewidths=1.4))
        places = np.argwhere(tissue.outer[k] < 0) * size + start
        margin = 4 / tissue.image_px_mm[k]
        low, high = places.min(0) - margin, places.max(0) + margin
        axis.set_xlim(low[1], high[1])
        axis.set_ylim(high[0], low[0])
        _scale_bar(axis, 1 / tissue.image_px_mm[k])
        axis.set_axis_off()
        axis.set_title(f"section {tissue.index[k]}, {letter} = {tissue.position_mm[k]:.1f} mm")
    _legend(figure, [(_TISSUE, "tissue"), (_WHITE, "white matter"), (_MID, "midsurface")])
    return figure


def segments(mesh: SurfaceMesh, axis: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """The cut of a mesh by the plane axis . p = level, as segments [S, 2, 3] in mm."""
    points = mesh.vertices_mm.astype(np.float64)
    height = points @ axis - level
    height[height == 0] = 1e-9
    above = height[mesh.faces] > 0
    cut = above.any(1) & ~above.all(1)
    faces, above = mesh.faces[cut], above[cut]
    # The corner that lies alone on its side, and the other two.
    lonely = np.where(above.sum(1) == 1, above.argmax(1), above.argmin(1))
    rows = np.arange(len(faces))
    own, others = faces[rows, lonely], [faces[rows, (lonely + k) % 3] for k in (1, 2)]
    shares = [height[own] / (height[own] - height[other]) for other in others]
    return np.stack(
        [points[own] + t[:, None] * (points[other] - points[own]) for t, other in zip(shares, others)], axis=1
    )


def _volume(ribbon: Ribbon, surfaces: Sequence[Midsurface]) -> Any:
    """Three sagittal, coronal and horizontal cuts of the ribbon with the midsurface."""
    from matplotlib.collections import LineCollection

    corners = np.concatenate([item.mesh.vertices_mm for item in surfaces]).astype(np.float64)
    low, high = corners.min(0) - 4, corners.max(0) + 4
    step = ribbon.voxel_mm / 2
    figure = plots.figure(18, 15)
    table = figure.subplots(3, 3)
    for number, (name, across, up) in enumerate((("x", 1, 2), ("y", 0, 2), ("z", 0, 1))):
        flat = np.meshgrid(np.arange(low[across], high[across], step), np.arange(low[up], high[up], step))
        for axis, share in zip(table[number], (0.3, 0.55, 0.75)):
            at = low[number] + share * (high[number] - low[number])
            points = np.full((*flat[0].shape, 3), at)
            points[..., across], points[..., up] = flat
            index = np.round(ribbon.to_voxels(points)).astype(int)
            index = np.clip(index, 0, np.array(ribbon.pial.shape) - 1)
            place = (index[..., 0], index[..., 1], index[..., 2])
            classes = (ribbon.pial[place] < 0).astype(float) * 0.45 - (ribbon.white[place] < 0) * 0.3
            axis.imshow(
                classes, cmap="gray_r", vmin=0, vmax=1, origin="lower",
                extent=(low[across], high[across], low[up], high[up]),
            )  # fmt: skip
            direction = np.eye(3)[number]
            for item in surfaces:
                ends = segments(item.mesh, direction, at)[..., [across, up]]
                axis.add_collection(LineCollection(list(ends), colors=_MID, linewidths=1.3))
            sides = ("posterior", "anterior") if across == 1 else ("left", "right")
            axis.set_title(f"{name} = {at:.0f} mm ({sides[0]} is on the left)", fontsize=10)
            _scale_bar(axis, 1.0)
            axis.set_axis_off()
    _legend(figure, [("#8c8c8c", "cortex"), ("#d9d9d9", "white matter"), (_MID, "midsurface")])
    return figure


def _thickness(surfaces: Sequence[Midsurface]) -> Any:
    """Outer and inner side of every hemisphere, coloured by thickness in mm; grey where there is no cortex."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    low, high = 1.0, 5.0
    extent = max(float(np.ptp(item.mesh.vertices_mm[:, 1:], axis=0).max()) for item in surfaces)
    scale = 420 / extent
    figure = plots.figure(4.6 * 2 * len(surfaces), 4.4)
    axes = figure.subplots(1, 2 * len(surfaces))
    for n, item in enumerate(surfaces):
        value = item.thickness_mm[item.mesh.faces].mean(1)
        paint = colormaps["viridis"](np.clip((value - low) / (high - low), 0, 1))[:, :3]
        paint = np.where(np.all(item.cortex[item.mesh.faces], axis=1, keepdims=True), paint, 0.8)
        for m, from_left in enumerate((item.mesh.hemisphere == "L", item.mesh.hemisphere != "L")):
            shown, bright = visible_faces(item.mesh, from_left=from_left, scale=scale, size=(380, 440))
            image = np.concatenate([paint * bright[:, None], np.ones((1, 3))])[shown]
            axis = axes[2 * n + m]
            axis.imshow(image)
            axis.set_axis_off()
            axis.set_title(f"{item.mesh.hemisphere}, {'outer' if m == 0 else 'inner'} side")
    bar = ScalarMappable(Normalize(low, high), "viridis")
    figure.colorbar(bar, ax=list(axes), label="thickness, mm", shrink=0.7, pad=0.01)
    return figure

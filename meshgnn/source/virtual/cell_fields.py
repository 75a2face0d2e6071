"""Fields of single cells beside a stack: at 1 to 2 um per pixel, at true places of nodes on its sections.

    cells/sections.csv           a stack like any other; its "sections" are strips of fields, pia on top
    cells/section_0012.tif       the fields of section 12, side by side, glass between and below them
    cells/fields.csv             one row per field: index (section), row_px and column_px of its middle, width_px,
                                 height_px, hemisphere, area, x_mm, y_mm, z_mm (true midthickness), thickness_um

A field has the layers, thickness, local density and cell size of its own node, so that areas differ as their prototypes
do, and places of one area as in the coarse sections. It is drawn flat: fields know no fold and no oblique cut.
"""

import csv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from meshgnn.source.sections import AXES, NEEDED, TABLE, write_tiff
from meshgnn.source.virtual.areas import ISOCORTEX
from meshgnn.source.virtual.fields import stream
from meshgnn.source.virtual.highres import Field, drawn_field

if TYPE_CHECKING:
    from meshgnn.source.virtual.brain import Brain, Cut

CELLS, FIELDS = "cells", "fields.csv"
COLUMNS = ("index", "row_px", "column_px", "width_px", "height_px", "hemisphere", "area", "x_mm", "y_mm", "z_mm",
           "thickness_um")  # fmt: skip
GLASS, GAP_PX = 243, 16


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A field and where it belongs: hemisphere, number of the node in it, place [3] in mm."""

    field: Field
    hemisphere: str
    node: int
    place_mm: npt.NDArray[np.float64]


def fields_of(brain: "Brain", cut: "Cut") -> list[Placed]:
    """The fields of one section: at as many different nodes in isocortex as `cells` says, near its plane.

    Same seed, same fields, in any order of sections. Fewer where the section meets less cortex.
    """
    settings, found = brain.settings, []
    axis = AXES[settings.plane][2]
    for side, cortex in enumerate(brain.hemispheres):
        hemi = cortex.hemisphere
        middle = (hemi.white_mm + hemi.pial_mm) / 2
        label = cortex.labels()
        able = ISOCORTEX[label] & (np.abs(middle @ axis - cut.position_mm) <= settings.spacing_mm / 2)
        found += [(side, int(node), int(label[node])) for node in np.flatnonzero(able)]
    rng = stream(brain.seed, "cells", cut.index)
    chosen = rng.permutation(len(found))[: settings.cells]
    placed = []
    for k in np.sort(chosen):
        side, node, area = found[int(k)]
        cortex = brain.hemispheres[side]
        hemi = cortex.hemisphere
        thickness = float(np.linalg.norm(hemi.pial_mm[node] - hemi.white_mm[node])) * 1000
        share = cortex.profiles.share[area] * cortex.stretch[node].astype(np.float64)
        local = replace(
            cortex, density=cortex.density * cortex.density_factor[node],
            size_um2=cortex.size_um2 * cortex.size_factor[node],
        )  # fmt: skip
        field = drawn_field(
            brain, local, stream(brain.seed, "cells", cut.index, hemi.name, node), [area], [share / share.sum()],
            thickness_um=float(np.clip(thickness, 1200, 5000)), width_um=settings.cells_mm * 1000,
            pixel_um=settings.cells_um,
        )  # fmt: skip
        place = (hemi.white_mm[node] + hemi.pial_mm[node]) / 2
        placed.append(Placed(field=field, hemisphere=hemi.name, node=node, place_mm=np.asarray(place, np.float64)))
    return placed


def write_cells(brain: "Brain", cuts: Sequence["Cut"], folder: Path, workers: int) -> None:
    """Write the fields of these sections into the new folder; the bytes do not depend on the number of threads."""
    folder.mkdir()
    settings = brain.settings

    def draw(cut: "Cut") -> list[list[Any]]:
        placed = fields_of(brain, cut)
        if not placed:
            return []
        height = max(len(one.field.image) for one in placed)
        width = sum(one.field.image.shape[1] + GAP_PX for one in placed) - GAP_PX
        strip, left, rows = np.full((height, width), GLASS, np.uint8), 0, []
        for one in placed:
            tall, wide = one.field.image.shape
            strip[:tall, left : left + wide] = one.field.image
            # The middle of the cortex: what a patch is centred on.
            middle = (one.field.layers > 0).argmax(0).mean() + one.field.thickness_um / settings.cells_um / 2
            rows.append([cut.index, f"{middle:.1f}", f"{left + (wide - 1) / 2:.1f}", wide, tall, one.hemisphere,
                         one.field.areas[0], *(f"{v:.4f}" for v in one.place_mm),
                         f"{one.field.thickness_um:.1f}"])  # fmt: skip
            left += wide + GAP_PX
        write_tiff(folder / _name(cut), strip, settings.cells_um)
        return rows

    with ThreadPoolExecutor(max(1, workers)) as pool:
        drawn = list(pool.map(draw, cuts))
    sections = [
        [_name(cut), cut.index, f"{cut.noted_mm:.4f}", f"{settings.cells_um:g}", f"{settings.thickness_um:g}", 1,
         settings.plane]
        for cut, rows in zip(cuts, drawn) if rows
    ]  # fmt: skip
    _table(folder / TABLE, [*NEEDED, "plane"], sections)
    _table(folder / FIELDS, COLUMNS, [row for rows in drawn for row in rows])


def _name(cut: "Cut") -> str:
    return f"section_{cut.index:04d}.tif"


def _table(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle, lineterminator="\n").writerows([header, *rows])

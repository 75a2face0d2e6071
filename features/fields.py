"""Fields: pieces of cortex photographed at a resolution that shows single cells, listed in a table beside their images.

A folder of fields is a stack folder (`meshgnn.source.sections`) whose images hold fields side by side, upright (pial on
top), and `fields.csv` with a row per field:

    index          section (image) that holds the field
    row_px         row of the middle of the cortex
    column_px      middle column of the field
    width_px       columns
    height_px      rows
    thickness_um   of the cortex, from pial to white
    x_mm,y_mm,z_mm place in the brain's space
    area           its area; empty where it is not known          (optional)
    hemisphere     L or R; L by default                           (optional)
    top_px         first row; 0 by default                        (optional)

The virtual brain's preset `cells` writes such folders. F fields.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.source.sections import SectionStack, read_stack
from meshgnn.source.text_table import read_text_table

TABLE = "fields.csv"
NUMBERS = ("row_px", "column_px", "width_px", "height_px", "thickness_um", "x_mm", "y_mm", "z_mm")
NEEDED = ("index", *NUMBERS)


@dataclass(frozen=True, kw_only=True, eq=False)
class Fields:
    """The fields of one folder.

    Args:
        brain: name of the folder, and of the one that holds it.
        stack: the images.
        section: [F] int32 index of the section.
        box: [F, 4] int64 first row, last row, first column, last column; the last ones do not belong to the field.
        row_px, column_px: [F] middle of the cortex.
        thickness_um: [F] of the cortex.
        places_mm: [F, 3] float32.
        sides: [F] 0 left, 1 right.
        areas: [F] names; "" where none is known.
    """

    brain: str
    stack: SectionStack
    section: NDArray[np.int32]
    box: NDArray[np.int64]
    row_px: NDArray[np.float64]
    column_px: NDArray[np.float64]
    thickness_um: NDArray[np.float64]
    places_mm: NDArray[np.float32]
    sides: NDArray[np.int64]
    areas: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.areas)

    def labels(self, names: Sequence[str]) -> NDArray[np.int32]:
        """[F] numbers of the areas among `names`; -1 = none of them."""
        number = {name: k for k, name in enumerate(names)}
        return np.array([number.get(area, -1) for area in self.areas], np.int32)


def read_fields(folder: Path) -> Fields:
    """The fields of a folder; those on sections that are not usable are left out.

    Raises:
        InputError: a missing file or column, a value that is not a number, a section that is not in the stack, a field
            that leaves its image or whose middle lies outside itself, no field at all.
    """
    folder = Path(folder)
    if not (folder / TABLE).is_file():
        raise InputError(
            f"{folder}: no {TABLE} here; name a folder of fields (of a virtual brain of preset cells: BRAIN/cells)"
        )
    stack = read_stack(folder, minimum=1)
    _, rows = read_text_table(folder / TABLE, NEEDED)
    shape = {section.index: section.shape for section in stack}
    usable = {section.index for section in stack if section.usable}
    values, areas, sides = [], [], []
    for line, row in rows:
        where = f"{folder / TABLE}, line {line}"
        try:
            index, *numbers = (float(row[name]) for name in NEEDED)
            top = float(row.get("top_px") or 0)
        except ValueError as error:
            raise InputError(f"{where}: a value is not a number ({error})") from None
        middle, column, width, height, thickness = numbers[:5]
        if not np.isfinite([index, top, *numbers]).all():
            raise InputError(f"{where}: a value is not finite")
        if index not in shape:
            raise InputError(f"{where}: section {index:g} is not in {folder / 'sections.csv'}")
        if min(width, height) < 1 or thickness <= 0:
            raise InputError(f"{where}: width_px, height_px and thickness_um must be above 0")
        left = round(column - (width - 1) / 2)
        box = (round(top), round(top + height), left, left + round(width))
        tall, wide = shape[int(index)]
        if min(box) < 0 or box[1] > tall or box[3] > wide:
            raise InputError(
                f"{where}: rows {box[0]} to {box[1]} and columns {box[2]} to {box[3]} leave the image of section "
                f"{index:g} ({tall} x {wide}); is pixel_um or the place that of another image?"
            )
        if not box[0] <= middle < box[1]:
            raise InputError(f"{where}: row_px={middle:g} lies outside the field's own rows {box[0]} to {box[1]}")
        side = row.get("hemisphere") or "L"
        if side not in ("L", "R"):
            raise InputError(f"{where}: hemisphere must be L or R, got {side!r}")
        if int(index) in usable:
            values.append((index, *box, *numbers))
            areas.append(row.get("area", ""))
            sides.append("LR".index(side))
    if not values:
        raise InputError(f"{folder / TABLE}: no field on a usable section")
    table = np.array(values)
    whole = folder.resolve()
    return Fields(
        brain=f"{whole.parent.name}-{whole.name}", stack=stack.usable(), section=table[:, 0].astype(np.int32),
        box=table[:, 1:5].astype(np.int64), row_px=table[:, 5], column_px=table[:, 6], thickness_um=table[:, 9],
        places_mm=table[:, 10:13].astype(np.float32), sides=np.array(sides), areas=tuple(areas),
    )  # fmt: skip


def areas_of(fields: Sequence[Fields]) -> tuple[str, ...]:
    """Names of all areas of these folders, sorted."""
    return tuple(sorted({area for one in fields for area in one.areas} - {""}))

"""The section stack with its sections where the alignment put them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from meshgnn.errors import InputError
from meshgnn.source.sections import AXES, SectionStack, read_stack
from meshgnn.store import write_json
from reconstruct.records import Alignment, Midsurface, TissueStack
from reconstruct.state import DAMAGED

FILE = "sections.json"


def aligned_stack(stack: SectionStack, tissue: TissueStack, alignment: Alignment) -> SectionStack:
    """The sections in use, `to_space` as aligned: `mm_to_pixel` then agrees with `NodeLocations`."""
    column, row, along = AXES[stack.plane]
    sections = []
    for k, index in enumerate(tissue.index):
        matrix = alignment.to_section[k]
        back = np.linalg.inv(matrix[:, :2])
        frame = np.stack([row, column], axis=1)  # (row, column) mm of the common frame -> RAS mm
        step = tissue.image_px_mm[k]
        turned = frame @ back
        corner = along * tissue.position_mm[k] - turned @ matrix[:, 2]
        to_space = np.column_stack([turned[:, 1] * step, turned[:, 0] * step, corner])
        sections.append(replace(stack.at(int(index)), to_space=to_space))
    return replace(stack, sections=tuple(sections))


def with_bridges(
    surfaces: Sequence[Midsurface], plane: str, tissue: TissueStack, alignment: Alignment
) -> list[Midsurface]:
    """The midsurfaces with the strands cut in sections in their lists of repairs, each on the nearer hemisphere."""
    column, row, along = AXES[plane]
    spacing = float(np.median(np.diff(tissue.position_mm)))
    extra: list[list[dict[str, Any]]] = [[] for _ in surfaces]
    trees = [cKDTree(item.mesh.vertices_mm) for item in surfaces]
    for number, *point, area in tissue.bridges:
        k = int(number)
        matrix = alignment.to_section[k]
        flat = np.linalg.solve(matrix[:, :2], np.array(point) - matrix[:, 2])
        place = row * flat[0] + column * flat[1] + along * tissue.position_mm[k]
        side = int(np.argmin([tree.query(place)[0] for tree in trees]))
        extra[side].append({
            "where": "section", "kind": "bridge cut", "section": int(tissue.index[k]), "handles": 0,
            "position_mm": [round(float(v), 2) for v in place], "area_mm2": round(float(area), 3),
            "volume_mm3": round(float(area) * spacing, 3),
        })  # fmt: skip
    return [
        replace(item, repairs=(*more, *item.repairs), report={**item.report, "bridges_cut": len(more)})
        for item, more in zip(surfaces, extra)
    ]


def write_aligned(out: Path, stack: SectionStack) -> None:
    """`sections.json` in `out`: folder of the images, space, and a 3 x 3 matrix per section."""
    record = {
        "folder": str((stack.folder or Path()).resolve()),
        "space": stack.space,
        "sections": [{"index": one.index, "to_space": one.to_space.tolist()} for one in stack],
    }
    write_json(out / FILE, record)


def read_aligned(out: Path, folder: Path | None = None) -> SectionStack:
    """The aligned stack of a reconstruction.

    Args:
        out: the reconstruction's run folder.
        folder: where the section images lie now, if they were moved.

    Raises:
        InputError: no reconstruction from sections there, damaged, or the images are gone.
    """
    path = Path(out) / FILE
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the folder of a reconstruction from sections")
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        matrices: dict[int, NDArray[np.float64]] = {
            int(one["index"]): np.array(one["to_space"], np.float64) for one in record["sections"]
        }
        place, space = Path(record["folder"]), str(record["space"])
    except DAMAGED as error:
        raise InputError(f"{path}: damaged ({error}); run the reconstruction again with --resume") from None
    stack = read_stack(folder or place, space=space)
    missing = sorted(set(matrices) - {section.index for section in stack})
    if missing:
        raise InputError(f"{path}: section {missing[0]} is not in {stack.folder}; it belongs to another stack")
    kept = tuple(replace(one, to_space=matrices[one.index]) for one in stack if one.index in matrices)
    return replace(stack, sections=kept)

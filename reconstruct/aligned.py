"""The section stack with its sections where the alignment put them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from meshgnn.source.aligned import FILE, read_aligned, write_aligned
from meshgnn.source.sections import AXES, SectionStack
from reconstruct.records import Alignment, Midsurface, SectionPlaces, TissueStack

__all__ = ["FILE", "aligned_stack", "read_aligned", "with_bridges", "write_aligned"]


def aligned_stack(stack: SectionStack, places: SectionPlaces) -> SectionStack:
    """The sections in use, `to_space` as aligned: `mm_to_pixel` then agrees with `NodeLocations`."""
    column, row, along = AXES[stack.plane]
    sections = []
    for k, index in enumerate(places.index):
        matrix = places.to_section[k]
        back = np.linalg.inv(matrix[:, :2])
        frame = np.stack([row, column], axis=1)  # (row, column) mm of the common frame -> RAS mm
        step = places.image_px_mm[k]
        turned = frame @ back
        corner = along * places.position_mm[k] - turned @ matrix[:, 2]
        to_space = np.column_stack([turned[:, 1] * step, turned[:, 0] * step, corner])
        bend = places.bends[places.entry[k]] if places.bends else None
        sections.append(replace(stack.at(int(index)), to_space=to_space, bend=bend))
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
        flat = alignment.back(k, np.array(point))
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

"""What a file brings that is there already: the same file taken twice must not double its outlines."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import shapely

from meshgnn.mapping.record import Record

SAME_PX = 0.5
"""Outlines that lie nowhere farther from each other are the same: programs round coordinates and leave corners out."""


def not_there_yet(records: Sequence[Record], there: Iterable[Record], mapper: str) -> list[Record]:
    """Those of `records` that say something new.

    The same is said by a record on the same section of the same kind, areas and mapper whose geometry is the same to
    `SAME_PX`; borders also run the same way, since they have sides, and notes have the same words. What was accepted is
    not the same as what was drawn.

    Args:
        records: of a file, in their order; `mapper` is who drew them by that file.
        there: newest versions that are not deleted.
        mapper: who brings the file in, and is noted as their mapper.
    """
    known: dict[tuple[Any, ...], list[tuple[str, Any]]] = defaultdict(list)
    for record in there:
        known[_kind(record)].append((record.mapper, _shape(record)))
    found = []
    for record in records:
        mine, shape = known[_kind(record)], _shape(record)
        if not any(by in (mapper, record.mapper) and _same(shape, other) for by, other in mine):
            found.append(record)
            mine.append((mapper, shape))
    return found


def _kind(record: Record) -> tuple[Any, ...]:
    words = record.note if record.kind == "note" else ""
    return record.section, record.kind, record.area, record.other, record.origin == "accepted", words


def _shape(record: Record) -> Any:
    return shapely.from_geojson(json.dumps(record.geometry))


def _same(one: Any, other: Any) -> bool:
    if np.abs(np.array(one.bounds) - other.bounds).max() > SAME_PX:
        return False
    if one.geom_type == "LineString":
        ends = shapely.get_coordinates(one)[[0, -1]] - shapely.get_coordinates(other)[[0, -1]]
        if np.hypot(*ends.T).max() > SAME_PX:
            return False
    edges = [shapely.boundary(shape) if shape.area > 0 else shape for shape in (one, other)]
    if shapely.equals(*edges):
        return True
    near = [shapely.buffer(edge, 1.05 * SAME_PX) for edge in edges]  # circles are of straight pieces
    return bool(shapely.covers(near[0], edges[1]) and shapely.covers(near[1], edges[0]))

"""The ribbon between two strokes across the cortex: what a mapper means who draws an area by its two borders."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely

from meshgnn.errors import InputError

LONGER_MM = (0.0, 0.5, 1.0, 2.0)
"""Strokes that end short of the cortex's rim are drawn out by so much at both ends, in turn, until they cross it."""
_TOUCH = 0.02  # pixels: lines that coincide up to rounding


def between(cortex: Any, strokes: Sequence[Any], pixel_um: float) -> Any:
    """The part of the cortex between two strokes across it.

    Of parts that both strokes bound (a ring of cortex has two) the smallest.

    Args:
        cortex: shapely geometry.
        strokes: two LineStrings, in its unit (pixels).
        pixel_um: width of a pixel.

    Returns:
        A Polygon.

    Raises:
        InputError: a stroke does not cross the cortex, or nothing lies between them.
    """
    if cortex.is_empty:
        raise InputError("no cortex is known on this section; draw the outline itself")
    inside = np.array([stroke.intersection(cortex).length for stroke in strokes])
    for longer_mm in LONGER_MM:
        lines = [_longer(stroke, longer_mm * 1000 / pixel_um) for stroke in strokes]
        edges = shapely.union_all([shapely.boundary(cortex), *lines])
        parts = list(shapely.get_parts(shapely.polygonize(shapely.get_parts(shapely.node(edges)))))
        parts = [part for part in parts if cortex.contains(part.representative_point())]
        shared = np.array([[_shared(part, stroke) for stroke in strokes] for part in parts]).reshape(-1, 2)
        bounds = ((shared > 0.5 * inside) & (inside > 0)).all(axis=1)
        found = [parts[k] for k in np.flatnonzero(bounds)]
        if found:
            return min(found, key=lambda part: part.area)
    for name, length in zip(("first", "second"), inside):
        if not length > 0:
            raise InputError(f"the {name} stroke does not cross the cortex; draw it from its outer to its inner rim")
    raise InputError(
        "no cortex lies between the two strokes; draw both across the same fold, from its outer to its inner rim"
    )


def band(tissue: Any, strokes: Sequence[Any]) -> Any:
    """What stands for the cortex where no mesh tells it: the tissue from its edge as deep as both strokes reach."""
    edge, depths = shapely.boundary(tissue), []
    for stroke in strokes:
        points = shapely.get_coordinates(stroke.segmentize(max(stroke.length / 50, 1e-6)).intersection(tissue))
        depths.append(float(shapely.distance(shapely.points(points), edge).max()) if len(points) else 0.0)
    return tissue.intersection(edge.buffer(min(depths) * 0.999)) if min(depths) > 0 else shapely.Polygon()


def _longer(stroke: Any, by: float) -> Any:
    """A line drawn out at both ends, in the direction that it has there."""
    points = shapely.get_coordinates(stroke)
    if not by:
        return stroke
    ends = []
    for end, inner in ((points[0], points[1:]), (points[-1], points[-2::-1])):
        lengths = np.linalg.norm(inner - end, axis=1)
        behind = inner[min(int(np.searchsorted(lengths, by)), len(inner) - 1)]  # hands tremble: not the last alone
        step = end - behind
        length = float(np.linalg.norm(step))
        ends.append(end + step / length * by if length > 0 else end)
    return shapely.LineString(np.concatenate([ends[:1], points, ends[1:]]))


def _shared(part: Any, stroke: Any) -> float:
    """Length of a stroke that bounds a part."""
    return float(stroke.intersection(shapely.boundary(part).buffer(_TOUCH)).length)

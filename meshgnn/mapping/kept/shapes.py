"""Geometries that come from outside, checked and put in order. GeoJSON in pixels of a section's image as stored."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.source.annotations import OUTSIDE

MOST_POINTS = 200_000
"""Of one geometry."""
MOST_CROSSINGS = 20_000
"""Of one outline with itself."""
TYPES = {"area": ("Polygon", "MultiPolygon"), "border": ("LineString",), "note": ("Point",)}


def checked(geometry: Any, kind: str, size: tuple[int, int]) -> dict[str, Any]:
    """The geometry of a record of this kind, valid and within the section.

    Outlines that cross themselves are parted (`shapely.make_valid`, its structure method), rings closed and turned as
    RFC 7946 has them (by the numbers: outer rings counter-clockwise), coordinates rounded to a thousandth of a pixel.

    Args:
        geometry: GeoJSON.
        kind: of the record.
        size: rows and columns of the section.

    Raises:
        InputError: not of a type that this kind has, coordinates that are no finite numbers or lie far outside the
            section, too many points, or nothing left of it.
    """
    found = parsed(geometry, TYPES[kind], kind)
    points = shapely.get_coordinates(found)
    over = max((-points).max(), (points - np.array(size)[::-1]).max())
    if over > OUTSIDE * max(size):
        raise InputError(f"the {kind} reaches {over:.0f} px over the section ({size[1]} x {size[0]} px)")
    if kind == "area":
        found = valid_area(found)
        if found.is_empty:
            raise InputError("the outline encloses nothing; draw it again")
    elif kind == "border" and not found.length > 0:
        raise InputError("the border has no length; draw it again")
    return plain(found)


def parsed(geometry: Any, types: tuple[str, ...], name: str) -> Any:
    """A shapely geometry of one of these types. Raises InputError as `checked` does."""
    kind = geometry.get("type") if isinstance(geometry, Mapping) else None
    if kind not in types:
        raise InputError(f"the {name} is a {str(kind)[:40]}, not a {' or '.join(types)}")
    given = geometry.get("coordinates")
    if kind == "Point":
        return shapely.Point(_points([given])[0])
    if kind == "LineString":
        line = _points(given)
        if len(line) < 2:
            raise InputError(f"the {name} is a single point; a line needs two")
        return shapely.LineString(line)
    parts = []
    for rings in [given] if kind == "Polygon" else _list(given):
        outer, *holes = (_ring(ring) for ring in _list(rings))
        parts.append(shapely.Polygon(outer, holes))
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def valid_area(found: Any) -> Any:
    """A Polygon or MultiPolygon without self-crossings, of its parts that have an area; empty if there are none.

    Raises:
        InputError: it crosses itself more than `MOST_CROSSINGS` times: to part it could take hours.
    """
    if not found.is_valid:
        if _crossings(found) > MOST_CROSSINGS:
            raise InputError(f"the outline crosses itself more than {MOST_CROSSINGS} times; draw it again")
        found = shapely.make_valid(found, method="structure", keep_collapsed=False)
    parts = [part for part in shapely.get_parts(found, return_index=False) if part.geom_type == "Polygon"]
    if not parts and found.geom_type == "GeometryCollection":
        parts = [one for part in found.geoms for one in shapely.get_parts(part) if one.geom_type == "Polygon"]
    parts = [part for part in parts if part.area > 0]
    if not parts:
        return shapely.Polygon()
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def _crossings(found: Any) -> int:
    """Pairs of edges that cross, counted until they are more than `MOST_CROSSINGS`."""
    points, ring = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(found)), return_index=True)
    edges = shapely.linestrings(np.stack([points[:-1], points[1:]], axis=1)[ring[:-1] == ring[1:]])
    tree, count = shapely.STRtree(edges), 0
    step = max(1, 2_000_000 // max(len(edges), 1))
    for start in range(0, len(edges), step):
        count += tree.query(edges[start : start + step], predicate="crosses").shape[1]
        if count > 2 * MOST_CROSSINGS:
            break
    return count // 2


def plain(found: Any) -> dict[str, Any]:
    """GeoJSON of a shapely geometry, rounded and turned as RFC 7946 has it; see `checked`."""
    found = shapely.transform(found, lambda points: np.round(points, 3))
    if found.geom_type in ("Polygon", "MultiPolygon"):
        found = shapely.orient_polygons(valid_area(found))
    return dict(json.loads(shapely.to_geojson(found)))


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple) or not value:
        raise InputError(f"coordinates are {str(value)[:40]}; a list that is not empty is needed")
    return list(value)


def _points(value: Any) -> NDArray[np.float64]:
    """[n, 2] of a list of points; further numbers of a point (heights) are left out."""
    try:
        points = np.array([point[:2] for point in _list(value)])
    except (ValueError, TypeError, KeyError):
        points = np.zeros(0, "U1")
    if points.dtype.kind not in "iuf" or points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise InputError("coordinates must be [x, y] pairs of finite numbers")
    if len(points) > MOST_POINTS:
        raise InputError(f"{len(points)} points in one line; at most {MOST_POINTS} are taken")
    if np.abs(points).max() > 1e9:
        raise InputError("a coordinate lies more than a billion pixels away")
    return points.astype(np.float64)


def _ring(value: Any) -> NDArray[np.float64]:
    points = _points(value)
    if (points[0] != points[-1]).any():
        points = np.concatenate([points, points[:1]])
    if len(points) < 4:
        raise InputError("a ring needs at least three different points")
    return points

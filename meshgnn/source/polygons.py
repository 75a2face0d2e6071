"""Label images as polygons with holes and back, and the GeoJSON (RFC 7946) that QuPath reads and writes.

Coordinates are (x, y) = (column, row) in pixels of the full-resolution image, counted as in QuPath from the outer
corner of the first pixel: pixel (row, column) covers [column, column + 1] x [row, row + 1], its centre lies at + 0.5.
An outline runs along the edges of its pixels; a pixel is inside if its centre is. So an image comes back as it was.

A ring is [n, 2] float64 with the first point repeated at the end; a polygon is its outer ring, counter-clockwise by the
numbers (positive area), and then its holes, clockwise; an area is a list of polygons.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from meshgnn.errors import InputError

Ring = NDArray[np.float64]
Polygon = list[Ring]

# Steps (x, y) of the directions in which edges run with their pixel on the inner side: top, right, bottom, left edge.
_STEPS = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])


def signed_area(ring: Ring) -> float:
    """Enclosed area, positive if the ring runs counter-clockwise by the numbers."""
    x, y = ring.T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


# -- from pixels to polygons ---------------------------------------------------------------------------------------


def outlines(labels: NDArray[np.integer], *, step: float = 1.0) -> dict[int, list[Polygon]]:
    """Outlines of every value from 0 up of a label image [rows, columns], by value.

    Pixels that share an edge are one polygon, those that share a corner are two. No ring touches itself.

    Args:
        step: pixels of the full-resolution image per pixel of `labels`.
    """
    pieces = np.pad(np.asarray(label(np.where(labels >= 0, labels, -1), background=-1, connectivity=1)), 1)
    _, first = np.unique(pieces[1:-1, 1:-1], return_index=True)
    values = labels.ravel()[first[len(first) - int(pieces.max()) :]]
    areas: dict[int, list[Polygon]] = {int(value): [] for value in np.unique(values)}
    shapes: list[Polygon] = [[] for _ in values]
    for number, ring in _rings(pieces):
        points = ring.astype(np.float64) * step
        shapes[number - 1].insert(0 if signed_area(points) > 0 else len(shapes[number - 1]), points)
    for value, shape in zip(values, shapes):
        areas[int(value)].append(shape)
    return areas


def _rings(pieces: NDArray[np.integer]) -> Iterable[tuple[int, NDArray[np.int64]]]:
    """Simple rings [n, 2] (x, y) around every connected piece of a padded image of piece numbers (0 = none)."""
    edges = []
    for direction, inside, outside in (
        (0, pieces[1:, 1:-1], pieces[:-1, 1:-1]),
        (1, pieces[1:-1, :-1], pieces[1:-1, 1:]),
        (2, pieces[:-1, 1:-1], pieces[1:, 1:-1]),
        (3, pieces[1:-1, 1:], pieces[1:-1, :-1]),
    ):
        y, x = np.nonzero((inside != outside) & (inside > 0))
        start = np.stack([x + (direction == 2), y + (direction == 3)], axis=1)
        edges.append(np.column_stack([inside[y, x], start, np.full(len(x), direction)]))
    piece, x, y, direction = np.concatenate(edges).astype(np.int64).T
    width, nodes = pieces.shape[1], pieces.size
    order = np.argsort((piece * nodes + y * width + x), kind="stable")
    piece, x, y, direction = piece[order], x[order], y[order], direction[order]
    begin = piece * nodes + y * width + x
    end = begin + _STEPS[direction, 0] + _STEPS[direction, 1] * width
    follow = np.searchsorted(begin, end)
    # Where two pixels of a piece meet at a corner, stay on the same pixel.
    second = np.minimum(follow + 1, len(begin) - 1)
    follow = np.where((begin[second] == end) & (direction[second] == (direction + 1) % 4), second, follow)
    chain, corner = follow.tolist(), (y * width + x).tolist()
    seen = np.zeros(len(chain), bool)
    for first in range(len(chain)):
        walk, at = [], first
        while not seen[at]:
            seen[at] = True
            walk.append(corner[at])
            at = chain[at]
        for loop in _simple(walk) if walk else ():
            points = np.stack([np.array(loop) % width, np.array(loop) // width], axis=1)
            ahead, behind = np.roll(points, -1, 0) - points, points - np.roll(points, 1, 0)
            points = points[(ahead != behind).any(1)]
            yield int(piece[first]), np.concatenate([points, points[:1]])


def _simple(walk: list[int]) -> Iterable[list[int]]:
    """A closed walk cut at every corner that it passes twice: a hole that touches the outer ring becomes its own."""
    path: list[int] = []
    place: dict[int, int] = {}
    for corner in walk:
        if corner in place:
            loop = path[place[corner] :]
            yield loop
            del path[place[corner] + 1 :]
            for passed in loop[1:]:
                del place[passed]
        else:
            place[corner] = len(path)
            path.append(corner)
    yield path


# -- from polygons to pixels ---------------------------------------------------------------------------------------


def paint(drawn: Sequence[tuple[int, Sequence[Polygon]]], shape: tuple[int, int]) -> NDArray[np.int32]:
    """A label image [rows, columns] of values and their polygons, -1 where there is none.

    Holes count by the even-odd rule. Where polygons overlap the smaller one lies on top, so that an area drawn within
    another one is seen in whatever order they come.
    """
    image = np.full(shape, -1, np.int32)
    each = [(value, polygon) for value, polygons in drawn for polygon in polygons]
    for value, polygon in sorted(each, key=lambda one: -abs(signed_area(one[1][0]))):
        _fill(image, polygon, value)
    return image


def _fill(image: NDArray[np.int32], polygon: Polygon, value: int) -> None:
    """Set the pixels whose centres lie inside. Rows and columns are half open: polygons that share an edge share no
    pixel and leave none out."""
    ends = np.concatenate([np.concatenate([ring[:-1], ring[1:]], axis=1) for ring in polygon])
    turned = ends[:, 1] > ends[:, 3]
    ends[turned] = ends[turned][:, [2, 3, 0, 1]]  # top to bottom: a shared edge crosses at the same place for both
    x0, y0, x1, y1 = ends.T
    top, bottom = (np.clip(np.ceil(y - 0.5), 0, image.shape[0]).astype(np.int64) for y in (y0, y1))
    count = bottom - top
    if not count.any():
        return
    edge = np.repeat(np.arange(len(ends)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count - top, count)
    at = x0[edge] + (row + 0.5 - y0[edge]) / (y1[edge] - y0[edge]) * (x1[edge] - x0[edge])
    column = np.clip(np.ceil(at - 0.5), 0, image.shape[1]).astype(np.int64)
    r0, c0 = row.min(), column.min()
    flips = np.zeros((row.max() - r0 + 1, column.max() - c0 + 1), np.uint8)
    np.add.at(flips, (row - r0, column - c0), 1)
    inside = np.bitwise_xor.accumulate(flips & 1, axis=1)[:, :-1].astype(bool)
    image[r0 : r0 + inside.shape[0], c0 : c0 + inside.shape[1]][inside] = value


# -- GeoJSON -------------------------------------------------------------------------------------------------------


def to_geojson(
    areas: Mapping[int, Sequence[Polygon]],
    names: Sequence[str] | Mapping[int, str],
    colours: NDArray[np.floating] | Mapping[int, Sequence[float]],
) -> dict[str, Any]:
    """A FeatureCollection as QuPath imports it: one annotation per area, its class named and coloured.

    Args:
        areas: polygons by class number.
        names, colours: by class number; RGBA in [0, 1].
    """
    features = []
    for number, polygons in sorted(areas.items()):
        shapes = [[np.round(ring, 3).tolist() for ring in polygon] for polygon in polygons]
        single = len(shapes) == 1
        geometry = {"type": "Polygon" if single else "MultiPolygon", "coordinates": shapes[0] if single else shapes}
        colour = np.round(np.asarray(colours[number])[:3] * 255).astype(int).tolist()
        about = {"objectType": "annotation", "classification": {"name": names[number], "color": colour}}
        features.append({"type": "Feature", "geometry": geometry, "properties": about})
    return {"type": "FeatureCollection", "features": features}


def read_geojson(path: Path) -> list[tuple[str, list[Polygon]]]:
    """Class name and polygons of every annotation of a GeoJSON file, in the file's order; see `areas_of_geojson`.

    Raises:
        InputError: see there; or the file cannot be read.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not valid GeoJSON; export the annotations as GeoJSON again") from None
    return areas_of_geojson(content, str(path))


def areas_of_geojson(content: Any, path: str) -> list[tuple[str, list[Polygon]]]:
    """Class name and polygons of every annotation in the content of a GeoJSON file.

    A FeatureCollection, a bare list of features (QuPath before 0.3) or a single feature. The name is that of the class
    (`classification.name`, or `names` joined by ": "), else the object's own. Colours (`color`, `colorRGB`) are not
    read: areas.json has them. QuPath's cells, detections and tiles are left out.

    Raises:
        InputError: no GeoJSON, an annotation without a name or that is no area, or a ring that is broken; begins with
            `path`.
    """
    return [
        (class_name(about, where), polygons_of(geometry, where))
        for where, about, geometry in annotations_of_geojson(content, path)
    ]


def annotations_of_geojson(content: Any, path: str) -> list[tuple[str, Mapping[str, Any], Any]]:
    """Where each annotation stands in the file (for messages), its properties and its geometry, as they are; see
    `areas_of_geojson`. Raises InputError: no GeoJSON."""
    features = content
    if isinstance(content, dict):
        features = [content] if content.get("type") == "Feature" else content.get("features")
    if not isinstance(features, list) or not all(isinstance(one, dict) for one in features):
        raise InputError(f"{path}: no GeoJSON features; export the annotations as GeoJSON again")
    found: list[tuple[str, Mapping[str, Any], Any]] = []
    for number, feature in enumerate(features, start=1):
        where = f"{path}, feature {number}"
        about = feature.get("properties") or {}
        if not isinstance(about, dict):
            raise InputError(f"{where}: `properties` is no JSON object")
        kind = about.get("objectType", about.get("object_type", feature.get("id")))
        if kind in ("cell", "detection", "tile", "tma_core", "root", "PathCellObject", "PathDetectionObject",
                    "PathTileObject", "PathRootObject", "TMACoreObject"):  # fmt: skip
            continue
        found.append((where, about, feature.get("geometry")))
    return found


def class_name(about: Mapping[str, Any], where: str) -> str:
    """Of an annotation's properties. Raises InputError: it has none."""
    named = about.get("classification")
    if isinstance(named, dict):
        several = named.get("names")
        named = ": ".join(map(str, several)) if isinstance(several, list) else named.get("name")
    name = str(named or about.get("name") or "").strip()
    if not name:
        raise InputError(f"{where}: has no class; give it the name of an area in areas.json, or delete it")
    return name


def polygons_of(geometry: Any, where: str) -> list[Polygon]:
    """Of a Polygon, a MultiPolygon or a GeometryCollection of them. Raises InputError: no area, or a broken ring."""
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind == "GeometryCollection" and isinstance(geometry.get("geometries"), list):
        parts = geometry["geometries"]
        if any(isinstance(part, dict) and part.get("type") == "GeometryCollection" for part in parts):
            raise InputError(f"{where}: geometry collections within each other are not read")
        return [polygon for part in parts for polygon in polygons_of(part, where)]
    if kind not in ("Polygon", "MultiPolygon"):
        raise InputError(f"{where}: is a {kind or 'feature without geometry'}, not an area; draw a closed polygon")
    shapes = [geometry.get("coordinates")] if kind == "Polygon" else geometry.get("coordinates")
    if not isinstance(shapes, list) or not all(isinstance(rings, list) and rings for rings in shapes):
        raise InputError(f"{where}: a {kind} without rings")
    return [[_ring(ring, where) for ring in rings] for rings in shapes]


def _ring(ring: Any, where: str) -> Ring:
    try:
        points = np.array([[float(x), float(y)] for x, y, *_ in ring], np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{where}: a ring must be a list of [x, y] pairs of numbers") from None
    if not np.isfinite(points).all():
        raise InputError(f"{where}: a coordinate is not a finite number")
    if len(points) and (points[0] != points[-1]).any():
        points = np.concatenate([points, points[:1]])
    if len(points) < 4:
        raise InputError(f"{where}: a ring needs at least three different points")
    return points

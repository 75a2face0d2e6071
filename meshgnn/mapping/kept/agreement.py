"""How far mappers agree who drew the same area on the same section."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import shapely

from meshgnn.mapping.record import Record

STEP_MM = 0.1
"""Borders are compared at points that lie so far apart."""


def agreement(records: Iterable[Record], pixel_um: Mapping[int, float]) -> list[dict[str, Any]]:
    """Every pair of mappers and every area that both drew on a section.

    Args:
        records: newest versions; accepted predictions are nobody's opinion and take no part.
        pixel_um: width of a pixel by section.

    Returns:
        `{mappers: [a, b], area, sections, dice, border_mm}`: number of sections, Dice of the outlines (over all of
        them together), and the mean distance between outlines, both ways, in mm.
    """
    drawn: dict[tuple[str, int], dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.kind == "area" and record.origin != "accepted" and not record.deleted:
            drawn[record.area, record.section][record.mapper].append(shapely.from_geojson(json.dumps(record.geometry)))
    pairs: dict[tuple[str, str, str], list[tuple[float, float, float]]] = defaultdict(list)
    for (area, section), by_mapper in sorted(drawn.items()):
        shapes = {mapper: shapely.union_all(shapely.make_valid(parts)) for mapper, parts in sorted(by_mapper.items())}
        for (one, first), (other, second) in combinations(shapes.items(), 2):
            scale = pixel_um[section] / 1000
            pairs[one, other, area].append(
                (
                    float(first.intersection(second).area) * scale**2,
                    float(first.area + second.area) * scale**2,
                    _border(first, second, STEP_MM / scale) * scale,
                )
            )
    return [
        {
            "mappers": [one, other], "area": area, "sections": len(found),
            "dice": round(2 * sum(both for both, _, _ in found) / max(sum(size for _, size, _ in found), 1e-12), 4),
            "border_mm": round(float(np.mean([border for _, _, border in found])), 4),
        }
        for (one, other, area), found in sorted(pairs.items())
    ]  # fmt: skip


def _border(first: Any, second: Any, step: float) -> float:
    """Mean distance from points on each outline to the other one, both ways."""
    edges = [shapely.boundary(shape) for shape in (first, second)]
    ways = []
    for here, there in (edges, edges[::-1]):
        points = shapely.points(shapely.get_coordinates(shapely.segmentize(here, step)))
        ways.append(float(shapely.distance(points, there).mean()))
    return (ways[0] + ways[1]) / 2

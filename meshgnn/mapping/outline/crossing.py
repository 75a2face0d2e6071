"""Where the surfaces of a mesh cross the plane of a section."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from meshgnn.graph import MeshGraph
from meshgnn.source.sections import Section

SURFACES = ("pial", "white")
_SLIVER_MM2 = 0.05  # parts of cortex below this size are crossings of surfaces that touch


def has_surfaces(graph: MeshGraph) -> bool:
    return set(SURFACES) <= set(graph.surfaces)


def stored(section: Section, row: NDArray[np.floating], column: NDArray[np.floating]) -> NDArray[np.float64]:
    """Points [n, 2] (x, y) of the image as stored, from rows and columns of pixel centres of the image as read."""
    if section.mirrored:
        column = section.shape[1] - 1 - column
    return np.column_stack([column + 0.5, row + 0.5]).astype(np.float64)


def crossing(graph: MeshGraph, name: str, section: Section) -> list[list[NDArray[np.float64]]]:
    """Lines [n, 2] (x, y) along which a surface crosses the plane of a section, per hemisphere.

    Points lie on edges of the mesh, at the linear zero of the distance to the plane. Lines around closed surfaces are
    closed; others end at the mesh's rim.

    Args:
        graph: with the surface `name` in the section's space.
        section: its pose is its `to_space`.
    """
    row, column, away = section.mm_to_pixel(graph.surfaces[name])
    points = stored(section, row, column)
    found = []
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        found.append(_lines(mesh.faces, points[place], away[place]))
    return found


def cortex(graph: MeshGraph, section: Section) -> Any:
    """The cortex on a section: inside pial and outside white; a shapely geometry, empty where there is none."""
    parts = []
    lines = [crossing(graph, name, section) for name in SURFACES]
    for pial, white in zip(*lines):
        parts.append(_inside(pial).difference(_inside(white)))
    least = _SLIVER_MM2 / (section.pixel_um / 1000) ** 2
    whole = shapely.union_all(parts)
    kept = [part for part in shapely.get_parts(whole) if part.geom_type == "Polygon" and part.area >= least]
    return shapely.MultiPolygon(kept)


def _lines(
    faces: NDArray[np.integer], points: NDArray[np.float64], away: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    above = away[faces] > 0
    cut = faces[above.any(1) & ~above.all(1)]
    if not len(cut):
        return []
    corners = np.stack([cut, np.roll(cut, -1, axis=1)], axis=-1)  # [F, 3, 2] edges
    crosses = (away[corners] > 0)[..., 0] != (away[corners] > 0)[..., 1]  # two of each face's three
    ends = np.sort(corners[crosses].reshape(-1, 2, 2), axis=-1)
    edges, number = np.unique(ends.reshape(-1, 2), axis=0, return_inverse=True)
    a, b = edges.T
    share = (away[a] / (away[a] - away[b]))[:, None]
    places = points[a] * (1 - share) + points[b] * share
    return [places[chain] for chain in _chains(number.reshape(-1, 2), len(edges))]


def _chains(segments: NDArray[np.integer], count: int) -> list[list[int]]:
    """Segments joined end to end; closed chains repeat their first number at the end."""
    beside: list[list[int]] = [[] for _ in range(count)]
    for a, b in segments.tolist():
        beside[a].append(b)
        beside[b].append(a)
    seen = [False] * count
    chains = []
    ends = [at for at in range(count) if len(beside[at]) == 1]
    for start in [*ends, *range(count)]:
        if seen[start]:
            continue
        chain, at = [start], start
        seen[start] = True
        while True:
            following = next((other for other in beside[at] if not seen[other]), None)
            if following is None:
                break
            seen[following] = True
            chain.append(following)
            at = following
        if len(chain) > 2 and start in beside[at]:
            chain.append(start)
        if len(chain) > 1:
            chains.append(chain)
    return chains


def _inside(lines: Sequence[NDArray[np.float64]]) -> Any:
    """What closed lines enclose: within an odd number of them."""
    whole: Any = shapely.Polygon()
    for line in lines:
        if len(line) > 3 and (line[0] == line[-1]).all():
            whole = whole.symmetric_difference(shapely.make_valid(shapely.Polygon(line)).buffer(0))
    return whole

"""Where the surfaces of a mesh cross the plane of a section."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from meshgnn.borders.ribbon import section_chains
from meshgnn.graph import MeshGraph
from meshgnn.mapping.situation import stored_points
from meshgnn.source.sections import Section

SURFACES = ("pial", "white")
_SLIVER_MM2 = 0.05  # parts of cortex below this size are crossings of surfaces that touch


def has_surfaces(graph: MeshGraph) -> bool:
    return set(SURFACES) <= set(graph.surfaces)


def crossing(graph: MeshGraph, name: str, section: Section) -> list[list[NDArray[np.float64]]]:
    """Lines [n, 2] (x, y) along which a surface crosses the plane of a section, per hemisphere.

    Points lie on edges of the mesh, at the linear zero of the distance to the plane. Lines around closed surfaces are
    closed; others end at the mesh's rim.

    Args:
        graph: with the surface `name` in the section's space.
        section: its pose is its `to_space`.
    """
    row, column, away = section.mm_to_pixel(graph.surfaces[name])
    points = stored_points(section, row, column)
    found = []
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        lines = []
        for edges, share, closed in section_chains(away[place], mesh.faces):
            ends = points[place][edges]
            line = ends[:, 0] * (1 - share[:, None]) + ends[:, 1] * share[:, None]
            lines.append(np.concatenate([line, line[:1]]) if closed else line)
        found.append(lines)
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


def _inside(lines: Sequence[NDArray[np.float64]]) -> Any:
    """What closed lines enclose: within an odd number of them."""
    whole: Any = shapely.Polygon()
    for line in lines:
        if len(line) > 3 and (line[0] == line[-1]).all():
            whole = whole.symmetric_difference(shapely.make_valid(shapely.Polygon(line)).buffer(0))
    return whole

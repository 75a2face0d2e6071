"""Lines from pial to white, as they run within the sections on which nodes lie. V nodes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.locations import along_surface_mm, towards_pial
from meshgnn.errors import InputError
from meshgnn.graph import MeshGraph, NodeLocations
from meshgnn.source.sections import SectionStack

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class CorticalLines:
    """One line for every node, along the cortical normal as it runs within the node's section.

    Args:
        locations: of the nodes.
        length_mm: [V] thickness over the cosine of the obliqueness.
        shift_mm: [V] from the node's location to the middle of its line, where the section meets the midsurface,
            towards pial.
        clear: [V] bool, nodes in cortex that lie on a section, not too obliquely, and meet it near the midsurface.
    """

    locations: NodeLocations
    length_mm: Floats
    shift_mm: Floats
    clear: NDArray[np.bool_]


def cortical_lines(graph: MeshGraph, stack: SectionStack, max_obliqueness_deg: float) -> CorticalLines:
    """Lines of all nodes, by the surfaces of the mesh.

    Args:
        graph: with locations, and thickness: from its surfaces pial and white, or a column "thickness" (mm).
        stack: the sections that the locations name, in the graph's space.
        max_obliqueness_deg: beyond it the cortex is cut too slantingly for a line to be clear.

    Raises:
        InputError: no locations, no thickness, another space, a section that is not in the stack.
    """
    places = graph.locations
    if places is None:
        raise InputError(f"{graph.brain}: lines across the cortex need node locations on sections")
    if graph.space != stack.space:
        raise InputError(f"{graph.brain}: the mesh lies in space {graph.space!r}, the sections in {stack.space!r}")
    thickness = _thickness(graph)
    oblique = np.radians(places.obliqueness_deg.astype(np.float64))
    shift = along_surface_mm(graph.vertices_mm, towards_pial(graph), places, stack)
    length = thickness / np.maximum(np.cos(oblique), 0.05)
    clear = places.observed & graph.cortex & (places.obliqueness_deg <= max_obliqueness_deg)
    clear &= (np.abs(shift) <= length) & (thickness > 0)
    return CorticalLines(locations=places, length_mm=length, shift_mm=shift, clear=clear)


def _thickness(graph: MeshGraph) -> Floats:
    """Thickness [V] in mm."""
    if "pial" in graph.surfaces and "white" in graph.surfaces:
        across = graph.surfaces["pial"].astype(np.float64) - graph.surfaces["white"]
        return np.asarray(np.linalg.norm(across, axis=1))
    for table in graph.tables.values():
        if "thickness" in table.columns:
            thickness = table.values[:, table.columns.index("thickness")].astype(np.float64)
            return np.asarray(thickness * table.mask)
    raise InputError(
        f"{graph.brain}: lines across the cortex need pial and white surfaces, or a feature 'thickness' in mm"
    )

"""Where a section cuts the surfaces of a brain: what lies within the pial and within the white surface."""

import numpy as np
from numpy.typing import NDArray

from meshgnn.borders.ribbon import section_chains
from meshgnn.graph import MeshGraph
from meshgnn.source.polygons import paint
from meshgnn.source.sections import Section

SURFACES = ("pial", "white")


def has_surfaces(graph: MeshGraph) -> bool:
    return set(SURFACES) <= set(graph.surfaces)


def inside_surfaces(
    graph: MeshGraph, section: Section, shape: tuple[int, int], step: tuple[float, float]
) -> NDArray[np.bool_]:
    """[2, rows, columns] within the pial and within the white surfaces, on a working image of a section.

    Args:
        graph: see `has_surfaces`.
        shape: rows and columns of the working image of the section as stored.
        step: pixels of the section per working pixel, down and across.
    """
    masks = np.zeros((2, *shape), bool)
    for name, mask in zip(SURFACES, masks):
        for mesh, part in zip(graph.meshes, graph.slices().values()):
            row, column, away = section.mm_to_pixel(graph.surfaces[name][part].astype(np.float64))
            if section.mirrored:
                column = section.shape[1] - 1 - column
            # Counted from the corner of the first pixel.
            places = [(at + 0.5) / size for at, size in zip((column, row), reversed(step))]
            rings = []
            for edges, along, _ in section_chains(away, mesh.faces):
                ring = np.stack([at[edges[:, 0]] * (1 - along) + at[edges[:, 1]] * along for at in places], axis=1)
                if len(ring) > 2:
                    rings.append(np.concatenate([ring, ring[:1]]))
            if rings:  # even-odd: what lies within a ring within a ring is outside again
                mask |= paint([(0, [rings])], shape) == 0
    return masks

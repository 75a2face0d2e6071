"""The meshes that subjects share: FreeSurfer's icospheres, known by their number of nodes alone.

fsaverage and its coarser levels are one icosphere, subdivided; the nodes of a coarser level are the first ones of a
finer level. So the number of nodes says which nodes are neighbours, and a coarse level divides a fine one into parcels.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from meshgnn.errors import InputError
from meshgnn.mesh.record import HEMISPHERES, SurfaceMesh
from meshgnn.mesh.topology import directed_edges
from meshgnn.source.virtual.subjects import SPACE, coarse
from meshgnn.source.virtual.surfaces import read_template

LEVELS = (12, 42, 162, 642, 2562, 10242)  # nodes of a hemisphere; nilearn ships no finer level


@dataclass(frozen=True, kw_only=True, eq=False)
class StandardMesh:
    """Both hemispheres, left first.

    Args:
        edges: [2, E] directed edges.
        places: [V, 3] unit vectors on the spheres.
    """

    edges: NDArray[np.int64]
    places: NDArray[np.float64]

    def parcels(self, count: int) -> NDArray[np.int64]:
        """[V] number of the parcel of every node, 0 to 2 count - 1: that of the nearest of the first `count` nodes of
        its hemisphere."""
        half = len(self.places) // 2
        sides = [self.places[:half], self.places[half:]]
        return np.concatenate([k * count + cKDTree(own[:count]).query(own)[1] for k, own in enumerate(sides)])


@lru_cache(maxsize=4)
def standard_mesh(nodes: int) -> StandardMesh:
    """The mesh of so many nodes, both hemispheres together.

    Raises:
        InputError: no icosphere has as many.
    """
    half = nodes // 2
    if nodes % 2 or half not in LEVELS:
        listed = ", ".join(str(2 * level) for level in LEVELS)
        raise InputError(
            f"{nodes} nodes are no mesh of FreeSurfer's icospheres, both hemispheres together ({listed}); resample the "
            "surfaces to fsaverage5 or coarser"
        )
    edges, places = [], []
    for number, side in enumerate(HEMISPHERES):
        hemi = coarse(read_template(None, side), half)
        mesh = SurfaceMesh(vertices_mm=hemi.white_mm.astype(np.float32), faces=hemi.faces, hemisphere=side, space=SPACE)
        edges.append(directed_edges(mesh).astype(np.int64) + number * half)
        places.append(hemi.sphere)
    return StandardMesh(edges=np.concatenate(edges, axis=1), places=np.concatenate(places))

"""Where the virtual cohort's effects are planted: regions of the brain, edges of the network, columns of the table."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from meshgnn.mesh.record import HEMISPHERES, frozen
from meshgnn.source.virtual.areas import ISOCORTEX, isocortical_areas, lay_out
from meshgnn.source.virtual.fields import Floats
from meshgnn.source.virtual.head import Head
from meshgnn.source.virtual.subjects import coarse
from meshgnn.source.virtual.surfaces import Hemisphere, read_template
from meshgnn.source.volume import MNI305_TO_MNI152

REACH_MM = 6.0
TRAITS = ("sex", "age", "score")


@dataclass(frozen=True, kw_only=True, eq=False)
class Planted:
    """The truth of a virtual cohort, by trait (sex, age, score; nothing is planted for the null target).

    Args:
        areas: names of the cortical areas where the trait moves T1 intensity.
        weights: [S, S, S] float32 from 0 to 1, how much a voxel of the template takes part.
        edges: [E = R(R-1)/2] bool, upper triangle: pairs of regions whose connectivity the trait moves.
        columns: of the table that the trait moves.
    """

    areas: dict[str, tuple[str, ...]]
    weights: dict[str, NDArray[np.float32]]
    edges: dict[str, NDArray[np.bool_]]
    columns: dict[str, tuple[str, ...]]


def area_weights(head: Head, names: Sequence[str]) -> NDArray[np.float32]:
    """[S, S, S] exp(-d^2 / 2 s^2) of the way d from a voxel of the brain to the nearest cortical node of these areas,
    both hemispheres, in the middle layout of the virtual brains; s = 6 mm, or half a voxel where that is more."""
    return weights_near(head, np.concatenate([_nodes_mm(side, names) for side in HEMISPHERES]))


def weights_near(head: Head, nodes: Floats) -> NDArray[np.float32]:
    """[S, S, S] the same for nodes [P, 3] in mm of MNI152."""
    inside = np.argwhere(head.t1 > 0)
    points = inside @ head.affine[:3, :3].T + head.affine[:3, 3]
    away = cKDTree(nodes).query(points)[0]
    out = np.zeros(head.t1.shape, np.float32)
    reach = max(REACH_MM, float(head.affine[0, 0]) / 2)
    out[tuple(inside.T)] = np.exp(-(away**2) / (2 * reach**2))
    return frozen(np.where(out > 0.01, out, 0), np.float32)  # type: ignore[return-value]


def network_edges(regions: int, members: slice) -> NDArray[np.bool_]:
    """[E] True for pairs within these regions."""
    inside = np.zeros(regions, bool)
    inside[members] = True
    rows, columns = np.triu_indices(regions, 1)
    return inside[rows] & inside[columns]


def _nodes_mm(side: str, names: Sequence[str]) -> Floats:
    """Middle surface of the template at nodes of these areas, in mm of MNI152."""
    hemi, label = middle_layout(side)
    here = hemi.cortex & np.isin(label, [isocortical_areas().names.index(name) for name in names])
    return middle_mm(hemi)[here]


def middle_mm(hemi: Hemisphere) -> Floats:
    """[V, 3] middle surface in mm of MNI152."""
    middle = (hemi.white_mm + hemi.pial_mm) / 2
    return np.asarray(middle @ MNI305_TO_MNI152[:3, :3].T + MNI305_TO_MNI152[:3, 3])


@lru_cache(maxsize=2)
def middle_layout(side: str) -> tuple[Hemisphere, NDArray[np.int64]]:
    """The template, and the number of the area that every node lies in, before any individual variation."""
    hemi = coarse(read_template(None, side), 2562)
    areas = isocortical_areas()
    class_of = np.full(len(ISOCORTEX), -1)
    class_of[ISOCORTEX] = np.arange(len(areas))
    fields = lay_out(0, hemi.name, hemi.pial_mm, hemi.sphere, warp_mm=0.0, size_mm=0.0)
    return hemi, class_of[fields.scores_mm(hemi.sphere).argmax(1)]

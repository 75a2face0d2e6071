"""Areas between annotated sections by interpolating their contours: what mappers do by hand."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

FALL_MM = 1.0  # distance over which a vote falls to a third
FARTHEST_MM = 20.0


def contour_interpolation(
    nodes_mm: NDArray[np.floating],
    points_mm: NDArray[np.floating],
    classes: NDArray[np.integer],
    sections: NDArray[np.integer],
    axis: NDArray[np.floating],
    n_classes: int,
) -> NDArray[np.float32]:
    """Shape-based interpolation (Raya & Udupa 1990) with distances to the drawn areas: probabilities [V, K].

    A node between two annotated sections is projected onto both along the cutting axis. Its distance to each area on
    each section is averaged, weighted by nearness to the sections, and the nearest area wins. Beyond the first or last
    annotated section that section alone speaks.

    Args:
        nodes_mm: [V, 3] in the space of the points.
        points_mm: [N, 3] drawn points (`annotation_points`); classes, sections: [N].
        axis: [3] unit vector along the cutting axis.
        n_classes: K.

    Returns:
        Rows of 0 if nothing was drawn.
    """
    votes = np.zeros((len(nodes_mm), n_classes), np.float32)
    numbers: Sequence[int] = np.unique(sections).tolist()
    if not numbers:
        return votes
    place = np.array([float((points_mm[sections == number] @ axis).mean()) for number in numbers])
    order = np.argsort(place)
    place, numbers = place[order], [numbers[k] for k in order]
    along = nodes_mm @ axis
    after = np.searchsorted(place, along)
    before, after = np.maximum(after - 1, 0), np.minimum(after, len(place) - 1)
    gap = place[after] - place[before]
    share = np.divide(along - place[before], gap, out=np.zeros_like(along), where=gap > 0).clip(0, 1)

    plane = np.linalg.svd(axis.reshape(1, 3))[2][1:].T  # [3, 2], a basis of the section plane
    flat_nodes, flat_points = nodes_mm @ plane, points_mm @ plane
    away = np.zeros((len(nodes_mm), n_classes))
    for k, number in enumerate(numbers):
        weight = np.where(before == k, 1 - share, 0) + np.where((after == k) & (after != before), share, 0)
        asked = np.flatnonzero(weight > 0)
        for area in range(n_classes):
            drawn = (sections == number) & (classes == area)
            distance = np.full(len(asked), FARTHEST_MM)
            if drawn.any() and len(asked):
                distance = np.minimum(cKDTree(flat_points[drawn]).query(flat_nodes[asked])[0], FARTHEST_MM)
            away[asked, area] += weight[asked] * distance
    near = np.exp(-(away - away.min(1, keepdims=True)) / FALL_MM)
    votes[:] = near / near.sum(1, keepdims=True)
    return votes

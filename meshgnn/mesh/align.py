"""Bringing one hemisphere's coordinates into the frame of another."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree


@dataclass(frozen=True, kw_only=True, eq=False)
class Similarity:
    """x -> scale * (x @ rotation.T) + shift_mm; rotation [3, 3] may mirror."""

    rotation: NDArray[np.float64]
    shift_mm: NDArray[np.float64]
    scale: float = 1.0

    def __call__(self, points_mm: NDArray[np.floating]) -> NDArray[np.float64]:
        return self.scale * (np.asarray(points_mm, np.float64) @ self.rotation.T) + self.shift_mm


MIRROR = Similarity(rotation=np.diag([-1.0, 1.0, 1.0]), shift_mm=np.zeros(3))
IDENTITY = Similarity(rotation=np.eye(3), shift_mm=np.zeros(3))


def fit_similarity(
    source_mm: NDArray[np.floating], target_mm: NDArray[np.floating], *, with_scale: bool = False
) -> Similarity:
    """Least-squares rotation, shift (and scale) from matched points [N, 3]. Umeyama 1991; never mirrors."""
    source, target = np.asarray(source_mm, np.float64), np.asarray(target_mm, np.float64)
    a, b = source.mean(0), target.mean(0)
    u, singular, vt = np.linalg.svd((target - b).T @ (source - a))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / ((source - a) ** 2).sum()) if with_scale else 1.0
    return Similarity(rotation=rotation, shift_mm=b - scale * rotation @ a, scale=scale)


def align_points(
    source_mm: NDArray[np.floating], target_mm: NDArray[np.floating], *, with_scale: bool = False, steps: int = 50
) -> Similarity:
    """Rigid (or similarity) alignment of two clouds [N, 3], [M, 3] by iterated closest points (Besl & McKay 1992).

    Starts at the identity with the centroids matched; the 20 % worst matches are left out of every step. Deterministic.
    """
    source, target = np.asarray(source_mm, np.float64), np.asarray(target_mm, np.float64)
    # A few thousand points fix six numbers.
    source = source[:: max(1, len(source) // 4000)]
    start = Similarity(rotation=np.eye(3), shift_mm=target.mean(0) - source.mean(0))
    found, last = start, np.inf
    for motion, error in islice(closest_points(source, target, start, keep=0.8, with_scale=with_scale), steps):
        found = motion
        if last - error < 1e-4:
            break
        last = error
    return found


def closest_points(
    source_mm: NDArray[np.float64],
    target_mm: NDArray[np.float64],
    start: Similarity,
    *,
    keep: float,
    with_scale: bool = False,
) -> Iterator[tuple[Similarity, float]]:
    """Trimmed iterated closest points (Besl & McKay 1992; Chetverikov et al. 2002): one step after another, endlessly.

    Args:
        source_mm, target_mm: [N, 3], [M, 3].
        start: where to look for the first matches from.
        keep: share of the matches that count, the nearest ones.
        with_scale: whether a scale is fitted too.

    Yields:
        The motion after each step, and the mean distance in mm of the kept matches before it.
    """
    tree, current = cKDTree(target_mm), start
    while True:
        distance, nearest = tree.query(current(source_mm))
        kept = distance <= np.quantile(distance, keep)
        current = fit_similarity(source_mm[kept], target_mm[nearest[kept]], with_scale=with_scale)
        yield current, float(distance[kept].mean())

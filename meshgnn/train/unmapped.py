"""Nodes unlike anything annotated: an area is named everywhere, here is said where none should be believed.

A node's score is how far the logarithm of its squared Mahalanobis distance to the nearest class mean lies from that of
the brain's median, to either side: tissue unlike any area lies too far, a blurred place, which says nothing, too near.
Class means are the brain's own, as expectation maximisation left them, with the smooth field taken off
(`adaptation.py`), and another staining, which stretches all distances of a brain, does not make the whole brain
unmapped. (Distances to class means as scores of strangeness: Lee et al. 2018.) The conformal p-value of a node of
score s

    p = (1 + number of annotated nodes whose score is at least s) / (1 + number of annotated nodes)

(Vovk et al. 2005; Bates et al. 2023) counts annotated nodes of training brains, each scored as a node of a new
brain by a discriminant that was fitted on the other brains. It would be exact if nodes could be exchanged; nodes of
one brain resemble each other, so that the rate of false alarms of a single brain lies around the level, not below it.
V nodes, J classes, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from meshgnn.export.area_map import UNMAPPED_LEVEL
from meshgnn.train.adaptation import Adaptation

LEVEL = UNMAPPED_LEVEL
LEAST = 1e-12  # of a distance, so that its logarithm is finite


def nearest_distance(even: NDArray[np.floating], means: NDArray[np.floating]) -> NDArray[np.float32]:
    """[V] squared distance of whitened features [V, D] to the nearest of means [J, D]."""
    with threadpool_limits(1):
        own = (means**2).sum(1) - 2 * (even @ means.T)
    return np.asarray(np.maximum((even**2).sum(1) + own.min(1), 0), np.float32)


def unlikeness(
    adaptation: Adaptation, features: NDArray[np.floating], start: NDArray[np.floating], weight: float,
    edges: NDArray[np.integer],
) -> NDArray[np.float32]:  # fmt: skip
    """Scores [V] of the nodes of one brain's cortex, 0 at the median distance; see `Adaptation.own_statistics`."""
    if not len(features):
        return np.zeros(0, np.float32)
    distance = nearest_distance(*adaptation.own_statistics(features, start, weight, edges))
    ratio = distance / max(float(np.median(distance)), LEAST)
    return np.asarray(np.abs(np.log(np.maximum(ratio, LEAST))), np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Unmapped:
    """
    Args:
        scores: [N] float32, ascending, of annotated nodes of brains that were left out of the fit.

    Raises:
        ValueError: scores that are not finite.
    """

    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.scores.ndim != 1 or not np.isfinite(self.scores).all():
            raise ValueError("scores of annotated nodes must be finite and one row")

    @staticmethod
    def of(scores: Sequence[NDArray[np.floating]]) -> "Unmapped":
        """Of the annotated nodes of each left-out brain; none where there is no such brain."""
        return Unmapped(scores=np.sort(np.concatenate([np.zeros(0), *scores])).astype(np.float32))

    def reaches(self, level: float = LEVEL) -> bool:
        """Whether there are enough annotated nodes for a p-value as small as the level."""
        return 1 / (1 + len(self.scores)) <= level

    def p_values(self, scores: NDArray[np.floating]) -> NDArray[np.float32]:
        """[V] conformal p-values of scores [V]."""
        at_least = len(self.scores) - np.searchsorted(self.scores, scores.astype(np.float32), side="left")
        return ((1 + at_least) / (1 + len(self.scores))).astype(np.float32)

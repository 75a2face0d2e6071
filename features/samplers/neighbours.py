"""Batches of pairs of nodes that lie near each other on the cortex: near nodes count as one another's views."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from features.samplers.pool import Pool
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError


class NeighbourBatches:
    """Pairs of items at most `rings` edges apart on the mesh, drawn from (seed, step) alone.

    Cortex changes slowly along its surface and abruptly at few places, so that neighbours are positives that need no
    label, as neighbouring frames of a film are (van den Oord et al. 2018, arXiv 1807.03748).
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            pairs: of a batch (fewer if there are not as many nodes with a neighbour).
            rings: edges between the two nodes of a pair, at most.
        """

        pairs: int = 64
        rings: int = 2

        def __post_init__(self) -> None:
            if self.pairs < 2 or not 1 <= self.rings <= 10:
                raise SettingError("<pairs> must be at least 2, <rings> lie between 1 and 10")

        def build(self, pool: Pool, seed: int) -> "NeighbourBatches":
            return NeighbourBatches(self, pool, seed)

    together = 2

    def __init__(self, config: Config, pool: Pool, seed: int) -> None:
        """Raises InputError when fewer than two items have a neighbour."""
        count, free = len(pool.labels), ~pool.held
        edges = pool.edges[:, free[pool.edges].all(0)]
        step = csr_array((np.ones(edges.shape[1], np.int32), (edges[0], edges[1])), shape=(count, count))
        near = reached = (step > 0).astype(np.int32)
        for _ in range(config.rings - 1):
            reached = ((reached @ step) > 0).astype(np.int32)
            near = ((near + reached) > 0).astype(np.int32)
        near.setdiag(0)
        near.eliminate_zeros()
        self.near, self.seed = near.tocsr(), seed
        self.anchors = np.flatnonzero(np.diff(self.near.indptr) > 0)
        if len(self.anchors) < 2:
            raise InputError(f"{len(self.anchors)} node to learn from has a neighbour; at least 2 are needed")
        self.size = 2 * min(config.pairs, len(self.anchors))

    def draw(self, step: int) -> NDArray[np.int64]:
        """[size] item numbers of batch `step`: node, its neighbour, node, its neighbour, ..."""
        rng = np.random.default_rng((abs(self.seed), step, 0x9E))
        chosen = self.anchors[rng.permutation(len(self.anchors))[: self.size // 2]]
        first, after = self.near.indptr[chosen], self.near.indptr[chosen + 1]
        place = first + (rng.random(len(chosen)) * (after - first)).astype(np.int64)
        return np.stack([chosen, self.near.indices[place]], axis=1).ravel().astype(np.int64)

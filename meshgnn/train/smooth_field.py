"""Wide averages over a graph, many rings at once: what varies smoothly over the cortex, whatever the area.

A lazy step, the mean of a node and of the mean M of its neighbours, is P = (1 + M) / 2. Its power P^n is a polynomial
of degree n in M, of which few terms are needed: written in Chebyshev polynomials, all but the first sqrt(n) or so can
be left out (Sachdeva & Vishnoi 2014, theorem 3.3), so that 100 steps take 21 products. V nodes, E directed edges, D
channels.
"""

import numpy as np
import torch
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy.sparse import coo_array, csgraph

from meshgnn.data.derived import scaled_rounds
from meshgnn.nn import Adjacency

LEFT_OUT = 3e-3  # sum of the coefficients that are dropped: the largest error at values within 1
CHANNELS = 64  # at a time, so that memory grows with V alone


class SmoothField:
    """P^n on one graph, with n for a mesh of 10,000 nodes.

    Args:
        n_nodes: V; edges: [2, E], both directions.
        rounds: n; more on finer meshes, so that it means the same area of cortex (the largest connected part counts as
            a hemisphere).
    """

    def __init__(self, n_nodes: int, edges: NDArray[np.integer], rounds: int) -> None:
        self.near = Adjacency(n_nodes, edges)
        ones = np.ones(edges.shape[1], np.int8)
        _, part = csgraph.connected_components(
            coo_array((ones, tuple(edges)), shape=(n_nodes, n_nodes)), directed=False
        )
        (self.rounds,) = scaled_rounds((rounds,), int(np.bincount(part).max(initial=0)))
        self.terms = power_terms(self.rounds)
        self.lonely = (self.near.degree == 0)[:, None]

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """[V, D] -> [V, D]; a node without neighbours keeps its value."""
        found = np.empty(values.shape, np.float32)
        with torch.no_grad():
            for start in range(0, values.shape[1], CHANNELS):
                some = slice(start, start + CHANNELS)
                block = torch.from_numpy(np.ascontiguousarray(values[:, some], dtype=np.float32))
                found[:, some] = self._smoothed(block).numpy()
        return found

    def _smoothed(self, values: torch.Tensor) -> torch.Tensor:
        """The polynomial by its recurrence: T_0 = 1, T_1 = M, T_k+1 = 2 M T_k - T_k-1."""
        before, now = values, self._mean(values)
        found = self.terms[0] * before + self.terms[1] * now
        for term in self.terms[2:]:
            before, now = now, 2 * self._mean(now) - before
            found += term * now
        return found

    def _mean(self, values: torch.Tensor) -> torch.Tensor:
        return torch.where(self.lonely, values, self.near.mean(values))


def power_terms(rounds: int) -> list[float]:
    """Chebyshev coefficients of ((1 + y) / 2)^rounds on [-1, 1], two at least.

    Those at the end that sum to less than LEFT_OUT are dropped.
    """
    degree = max(1, min(rounds, 20 + int(8 * np.sqrt(rounds))))
    nodes = chebyshev.chebpts1(degree + 1)  # interpolation there is by a discrete cosine transform
    terms = np.asarray(chebyshev.chebfit(nodes, ((1 + nodes) / 2) ** rounds, degree))
    rest = np.cumsum(np.abs(terms[::-1]))[::-1]  # of a term and all after it
    return [float(term) for term in terms[: max(2, int((rest >= LEFT_OUT).sum()))]]

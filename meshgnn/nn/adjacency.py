"""Neighbour sums and means on a mesh graph, deterministic and fast on one thread or many.

A list of neighbours per node in sorted CSR order, summed row by row (`neighbour_ops`): without atomics, and with the
same bits at any number of threads. A mesh graph is symmetric, so the backward pass is the same sum over the same lists
and no transpose is kept. V nodes, E directed edges, C channels.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from meshgnn.nn.neighbour_ops import propagated, scaled_sum


class Adjacency:
    """Symmetric neighbour lists of a graph.

    Args:
        n_nodes: V.
        edges: [2, E] directed edges, both directions present; order does not matter, repeats count once.

    Raises:
        ValueError: an edge whose reverse is missing, or an index out of range.
    """

    def __init__(self, n_nodes: int, edges: NDArray[np.integer]) -> None:
        edges = np.asarray(edges, dtype=np.int64).reshape(2, -1)
        if edges.size and (edges.min() < 0 or edges.max() >= n_nodes):
            raise ValueError(f"an edge names node {edges.max()} of {n_nodes}")
        keys = np.unique(edges[0] * n_nodes + edges[1])
        receivers, senders = keys // max(n_nodes, 1), keys % max(n_nodes, 1)
        if not np.array_equal(np.unique(senders * n_nodes + receivers), keys):
            raise ValueError("every edge must be present in both directions")
        degree = np.bincount(receivers, minlength=n_nodes)
        self.n_nodes = n_nodes
        self.indices = torch.from_numpy(senders)
        self.offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(degree)[:-1]]).astype(np.int64))
        self.degree = torch.from_numpy(degree.astype(np.float32))

    def to(self, device: torch.device | str) -> "Adjacency":
        """The same lists on another device."""
        moved = object.__new__(Adjacency)
        moved.n_nodes = self.n_nodes
        moved.indices, moved.offsets = self.indices.to(device), self.offsets.to(device)
        moved.degree = self.degree.to(device)
        return moved

    @cached_property
    def edge_index(self) -> Tensor:
        """[2, E] int64 senders and receivers, sorted by receiver: the form that PyTorch Geometric's layers take."""
        receivers = torch.arange(self.n_nodes, device=self.degree.device).repeat_interleave(self.degree.long())
        return torch.stack([self.indices, receivers])

    @cached_property
    def csr(self) -> Tensor:
        """[V, V] torch.sparse CSR, 1 at every edge."""
        ones = torch.ones(len(self.indices), device=self.degree.device)
        size = (self.n_nodes, self.n_nodes)
        return torch.sparse_csr_tensor(self.starts.long(), self.indices, ones, size, check_invariants=True)

    @cached_property
    def starts(self) -> Tensor:
        """[V + 1] int32 where each node's neighbours begin and end in `near`."""
        return torch.cat([self.offsets, self.offsets.new_tensor([len(self.indices)])]).int()

    @cached_property
    def near(self) -> Tensor:
        """[E] int32 neighbours."""
        return self.indices.int()

    @cached_property
    def reverse(self) -> Tensor:
        """[E] int32 place of the edge that runs the other way."""
        senders, receivers = self.edge_index
        return torch.argsort(senders * self.n_nodes + receivers).int()

    @cached_property
    def with_loops(self) -> "Adjacency":
        """The same with every node among its own neighbours."""
        own = torch.arange(self.n_nodes, device=self.indices.device).expand(2, -1)
        edges = torch.cat([self.edge_index, own], dim=1).cpu().numpy()
        return Adjacency(self.n_nodes, edges).to(self.indices.device)

    @cached_property
    def _scales(self) -> tuple[Tensor, Tensor, Tensor]:
        """[V] ones, one over the degree, and one over the root of the degree of A + I."""
        return torch.ones_like(self.degree), 1 / self.degree.clamp(min=1), (self.degree + 1).rsqrt()

    def sum(self, x: Tensor) -> Tensor:
        """Sum over neighbours, [V, C] -> [V, C]; 0 for an isolated node."""
        ones, _, _ = self._scales
        return scaled_sum(x, self.starts, self.near, ones, ones)

    def mean(self, x: Tensor) -> Tensor:
        """Mean over neighbours, [V, C] -> [V, C]; 0 for an isolated node."""
        ones, parts, _ = self._scales
        return scaled_sum(x, self.starts, self.near, parts, ones)

    def propagated(self, x: Tensor, back: float, rounds: int) -> Tensor:
        """Rounds of personalised propagation by the mean over neighbours, [V, C] -> [V, C]; see `neighbour_ops`."""
        ones, parts, _ = self._scales
        return propagated(x, self.starts, self.near, parts, ones, back, rounds)

    def normalised_sum(self, x: Tensor) -> Tensor:
        """D^-1/2 (A + I) D^-1/2 x with D the degree of A + I (Kipf & Welling 2017, eq. 2)."""
        root = self._scales[2]
        return scaled_sum(x, self.starts, self.near, root, root) + (root**2)[:, None] * x


def end_to_end(parts: Sequence[Adjacency]) -> Adjacency:
    """Several graphs as one without edges between them; nodes are numbered in the order of the graphs."""
    joined = object.__new__(Adjacency)
    starts = np.cumsum([0, *(part.n_nodes for part in parts)]).tolist()
    ends = np.cumsum([0, *(len(part.indices) for part in parts)]).tolist()
    joined.n_nodes = starts[-1]
    joined.indices = torch.cat([part.indices + start for part, start in zip(parts, starts)])
    joined.offsets = torch.cat([part.offsets + end for part, end in zip(parts, ends)])
    joined.degree = torch.cat([part.degree for part in parts])
    return joined


def side_by_side(parts: Sequence[tuple[int, NDArray[np.integer]]]) -> Adjacency:
    """The same for graphs given as (n_nodes, edges [2, E])."""
    return end_to_end([Adjacency(count, edges) for count, edges in parts])

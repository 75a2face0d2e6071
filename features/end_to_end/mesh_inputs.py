"""Inputs of a network from the embeddings of all nodes, as `meshgnn.data.inputs` makes them, with their gradient.

V nodes of one brain, N of them in cortex within a hemisphere, C channels, S scales.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from features.end_to_end.sparse_map import SparseMap
from meshgnn.data.derived import scaled_rounds
from meshgnn.data.model_inputs import edges_among
from meshgnn.data.split import inner_edges
from meshgnn.errors import InputError
from meshgnn.graph import MeshGraph
from meshgnn.nn import Adjacency

_RINGS = 50  # over which a gap is filled; `meshgnn.data.inputs.fill_gaps` has the same
_LEAST_SD = 1e-8


@dataclass(frozen=True, kw_only=True, eq=False)
class _Side:
    """One hemisphere: [N] its nodes in cortex, the map that fills gaps among them, their neighbours, and the rounds."""

    nodes: Tensor
    filled: SparseMap
    near: Adjacency
    rounds: tuple[int, ...]

    def to(self, device: torch.device | str) -> "_Side":
        return _Side(
            nodes=self.nodes.to(device), filled=self.filled.to(device), near=self.near.to(device), rounds=self.rounds
        )


class MeshInputs:
    """Fill gaps, standardise, average over the mesh at several scales, standardise each scale.

    Equal to `NodeInputs.features` with `scaling=zscore`: ranks, the default there, have no gradient. Means and
    standard deviations are part of what is differentiated.

    Args:
        graph: the brain.
        known: [V] nodes with an embedding.
        rounds: scales, in rounds of one-ring averages on a mesh of 10,000 nodes.

    Raises:
        InputError: a hemisphere with cortex and no node in it that has an embedding.
    """

    def __init__(self, graph: MeshGraph, known: NDArray[np.bool_], rounds: Sequence[int]) -> None:
        self.n_nodes, self.scales = graph.n_nodes, len(rounds) + 1
        known, inner = known & graph.cortex, inner_edges(graph)
        self.sides: list[_Side] = []
        for side, place in graph.slices().items():
            inside = np.zeros(graph.n_nodes, bool)
            inside[place] = graph.cortex[place]
            if not inside.any():
                continue
            if not (known & inside).any():
                raise InputError(f"{graph.brain}: no node of hemisphere {side} has a patch that can be read")
            edges, nodes = edges_among(inner, inside), np.flatnonzero(inside)
            rows = _gap_rows(known[nodes], edges)
            columns = sparse.csr_array((np.ones(len(nodes)), (np.arange(len(nodes)), nodes)),
                                       shape=(len(nodes), graph.n_nodes))  # fmt: skip
            self.sides.append(_Side(
                nodes=torch.from_numpy(nodes), filled=SparseMap(sparse.csr_array(rows @ columns)),
                near=Adjacency(len(nodes), edges), rounds=scaled_rounds(tuple(rounds), len(nodes)),
            ))  # fmt: skip

    def to(self, device: torch.device | str) -> "MeshInputs":
        """The same on another device."""
        moved = object.__new__(MeshInputs)
        moved.n_nodes, moved.scales = self.n_nodes, self.scales
        moved.sides = [side.to(device) for side in self.sides]
        return moved

    def __call__(self, rows: Tensor) -> Tensor:
        """Embeddings [V, C] -> inputs [V, C S], 0 outside cortex; rows of nodes without an embedding do not matter."""
        out = rows.new_zeros((self.n_nodes, rows.shape[1] * self.scales))
        for side in self.sides:
            current = _standardised(side.filled(rows))
            own = 1 / (side.near.degree.to(rows.dtype) + 1)[:, None]
            kept = [current]
            for step in range(1, (side.rounds[-1] if side.rounds else 0) + 1):
                current = (current + side.near.sum(current)) * own
                if step in side.rounds:
                    kept.append(current)
            block = torch.cat([_standardised(scale) for scale in kept], dim=1).clamp(-5, 5)
            out = out.index_copy(0, side.nodes, block)
        return out


def _standardised(values: Tensor) -> Tensor:
    """Columns with mean 0 and deviation 1 over the rows; a constant column becomes 0."""
    centred = values - values.mean(0)
    variance = centred.square().mean(0)
    varies = variance > _LEAST_SD**2
    return torch.where(varies, centred * variance.where(varies, torch.ones_like(variance)).rsqrt(), 0)


def _gap_rows(known: NDArray[np.bool_], edges: NDArray[np.int32]) -> sparse.csr_array:
    """[N, N] each node as a mean of known ones: itself, or its known neighbourhood, ring by ring.

    What no ring reaches becomes the mean of all.
    """
    count = len(known)
    found, have = sparse.csr_array(sparse.diags_array(known.astype(np.float64))), known.copy()
    for _ in range(_RINGS):
        if have.all():
            break
        receiver, sender = edges[:, ~have[edges[0]] & have[edges[1]]]
        if not len(receiver):
            break
        parts = 1 / np.bincount(receiver, minlength=count)[receiver]
        mean = sparse.csr_array((parts, (receiver, sender)), shape=(count, count))
        found = sparse.csr_array(found + mean @ found)
        have[receiver] = True
    left = np.flatnonzero(~have)
    if len(left):
        every = np.flatnonzero(known)
        rows, columns = np.repeat(left, len(every)), np.tile(every, len(left))
        share = np.full(len(rows), 1 / len(every))
        found = sparse.csr_array(found + sparse.csr_array((share, (rows, columns)), shape=(count, count)))
    found.eliminate_zeros()
    return found

"""Eigenvector centrality by igraph, with what tells whether it can be trusted."""

from dataclasses import dataclass

import igraph
import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.networks.record import Layer

LEAST_GAP = 0.01  # of the two largest eigenvalues, relative to the largest
MOST_NODES = 5000


@dataclass(frozen=True, kw_only=True, eq=False)
class Centrality:
    """
    Args:
        values: [N] of maximum 1 in every part; `l2` has L2 norm 1 in every part (networkx's and graph-tool's scaling).
        eigenvalue: of the largest part.
        residual: largest |A v - l v| over the parts, v of norm 1, relative to l.
        gap: smallest 1 - l2 / l1 over the parts; vectors of a small gap change with the slightest change of weights.
        parts: sizes of the connected parts, largest first.
    """

    values: NDArray[np.float64]
    l2: NDArray[np.float64]
    eigenvalue: float
    residual: float
    gap: float
    parts: tuple[int, ...]

    @property
    def doubtful(self) -> str:
        """Why it must not be read as a ranking; "" if it may."""
        if self.gap < LEAST_GAP:
            return f"ill-conditioned: the two largest eigenvalues differ by {self.gap:.2%} (meshes are like that)"
        if self.residual > 1e-6:
            return f"not converged: residual {self.residual:.1e}"
        return "" if len(self.parts) == 1 else f"{len(self.parts)} parts, each scaled by itself"


def eigenvector_centrality(layer: Layer, *, apart: bool = False) -> Centrality:
    """Of a layer's weights; edges without a weight count as 0.

    Args:
        apart: take a network of several parts, each by itself; its ranks hold within a part alone.

    Raises:
        InputError: negative weights (take |r|, not r), no edge at all, several parts without `apart`, or a mesh.
    """
    if len(layer.weights) > MOST_NODES:
        raise InputError(
            f"centrality: {len(layer.weights)} nodes, at most {MOST_NODES} make sense; on meshes, whose nodes all have "
            "about six neighbours, it is ill-conditioned: take areas or parcels"
        )
    weights = np.nan_to_num(layer.weights)
    if (weights < 0).any():
        count = int((weights < 0).sum() // 2)
        raise InputError(f"centrality: {count} negative weights; take their size, or similarities in place of them")
    if not weights.any():
        raise InputError("centrality: no edge has a weight above 0")
    part = layer.parts()
    sizes = np.bincount(part)
    if len(sizes) > 1 and not apart:
        shown = ", ".join(map(str, np.sort(sizes)[::-1][:5]))
        raise InputError(
            f"the network falls into {len(sizes)} parts ({shown}{', ...' if len(sizes) > 5 else ''} nodes), and "
            "eigenvector centrality would lie on one of them; take all edges, or leave out the lone nodes"
        )
    values, l2 = np.zeros(len(weights)), np.zeros(len(weights))
    eigenvalue, residual, gap = 0.0, 0.0, 1.0
    for one in np.argsort(-sizes, kind="stable"):
        here = np.flatnonzero(part == one)
        if len(here) < 2:
            continue
        inner = weights[np.ix_(here, here)]
        graph = igraph.Graph.Weighted_Adjacency(inner.tolist(), mode="undirected", loops=False)
        found = np.array(graph.eigenvector_centrality(weights="weight", scale=True))
        unit = found / np.linalg.norm(found)
        own = float(unit @ inner @ unit)
        values[here], l2[here] = found / found.max(), unit
        eigenvalue = eigenvalue or own
        residual = max(residual, float(np.linalg.norm(inner @ unit - own * unit)) / own)
        spectrum = np.linalg.eigvalsh(inner)
        gap = min(gap, 1 - float(spectrum[-2]) / float(spectrum[-1]))
    return Centrality(
        values=values, l2=l2, eigenvalue=eigenvalue, residual=residual, gap=gap,
        parts=tuple(np.sort(sizes)[::-1].tolist()),
    )  # fmt: skip

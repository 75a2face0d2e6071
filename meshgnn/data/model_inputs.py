"""What the models of a run see: one record for the network and every baseline, so that none is given more.

V nodes (of one brain, or of several end to end), D inputs, C raw features, K classes, F folds over all seeds.
"""

import random
from dataclasses import dataclass, replace

import igraph
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from meshgnn.errors import InputError

FIXED_ROUNDS = (5, 15, 40)  # scales of the fixed recipes


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelInputs:
    """Inputs, training labels and folds.

    Args:
        features: [V, D] float32, every feature at every scale, standardised; 0 outside cortex.
        coordinates: [V, 3] float32 aligned, in units of `unit_mm`; [V, 0] in a run without coordinates.
        unit_mm: size of the coordinates' unit.
        edges: [2, E], cut between the parts of the split.
        brain: [V] int32, number of the brain that a node belongs to.
        part: [V] bool, the training part, labelled or not: no edge leaves it.
        labels: [V] int32; -1 everywhere but on labelled nodes of the training part (test labels are not even here).
        n_classes: K.
        train: [F, V] bool, nodes that fold trains on; validation: [F, V] bool, nodes that it is judged on.
        raw: [V, C] values as they were read, gaps filled: for the fixed recipes.
        smoothed: [V, 4 C] raw values and their averages over fixed numbers of rounds: for the fixed recipes.
        mirrored_mm: [V, 3] coordinates mirrored at most (or, between spaces, aligned): for the fixed recipes.
        registered: [V, 3] unit vectors on a sphere on which hemispheres are registered; [V, 0] without registration.
    """

    features: NDArray[np.float32]
    coordinates: NDArray[np.float32]
    unit_mm: float
    edges: NDArray[np.int32]
    brain: NDArray[np.int32]
    part: NDArray[np.bool_]
    labels: NDArray[np.int32]
    n_classes: int
    train: NDArray[np.bool_]
    validation: NDArray[np.bool_]
    raw: NDArray[np.float32]
    smoothed: NDArray[np.float32]
    mirrored_mm: NDArray[np.float32]
    registered: NDArray[np.float32]

    def __post_init__(self) -> None:
        count = len(self.labels)
        for name in ("features", "coordinates", "brain", "part", "raw", "smoothed", "mirrored_mm", "registered"):
            if len(getattr(self, name)) != count:
                raise InputError(f"model inputs: {name} has {len(getattr(self, name))} rows for {count} nodes")
        for name in ("train", "validation"):
            if getattr(self, name).shape != (len(self.train), count):
                raise InputError(f"model inputs: {name} must be [folds, {count}]")
            if (self.labels[getattr(self, name).any(0)] < 0).any():
                raise InputError(f"model inputs: {name} holds nodes without a label")
        if (self.labels[~self.part] >= 0).any() or (self.part[self.edges[0]] != self.part[self.edges[1]]).any():
            raise InputError("model inputs: labels or edges leave the training part")
        if (self.train & self.validation).any():
            raise InputError("model inputs: a fold validates on nodes that it trains on")

    @property
    def known(self) -> NDArray[np.bool_]:
        """[V] bool, labelled nodes of the training part."""
        return self.labels >= 0

    @property
    def prior(self) -> NDArray[np.float32]:
        """[K] class frequencies of the training part."""
        count = np.bincount(self.labels[self.known], minlength=self.n_classes)
        return (count / max(count.sum(), 1)).astype(np.float32)

    def with_folds(self, count: int) -> "ModelInputs":
        """The same with the first `count` folds only."""
        return replace(self, train=self.train[:count], validation=self.validation[:count])

    def everything(self) -> NDArray[np.float32]:
        """[V, D + 3] (or [V, D]): exactly what the network sees of a node."""
        return np.concatenate([self.features, self.coordinates], axis=1)

    def with_edges(self, more: NDArray[np.integer]) -> "ModelInputs":
        """The same with further edges [2, E] of both directions, within the parts of the split; each counts once."""
        joined = np.unique(np.concatenate([self.edges, more.astype(np.int32)], axis=1), axis=1)
        return replace(self, edges=joined)

    def with_edges_shuffled(self, seed: int) -> "ModelInputs":
        """The same on a random graph in which every node keeps its number of neighbours.

        Pairs of edges exchange their ends (Maslov & Sneppen 2002), ten times as often as there are edges, within each
        connected piece of the graph: no edge comes to join two brains, or two parts of the split.
        """
        return replace(self, edges=rewired(self.edges, len(self.labels), seed))


def rewired(edges: NDArray[np.int32], n_nodes: int, seed: int) -> NDArray[np.int32]:
    """Edges [2, E] of a random graph with the same numbers of neighbours and the same connected pieces; see
    `ModelInputs.with_edges_shuffled`."""
    once = edges[:, edges[0] < edges[1]]
    joined = sparse.coo_array((np.ones(once.shape[1], bool), (once[0], once[1])), shape=[n_nodes] * 2)
    piece = csgraph.connected_components(joined, directed=False)[1][once[0]]
    order = np.argsort(piece, kind="stable")
    found = []
    try:
        for part in np.split(order, np.flatnonzero(np.diff(piece[order])) + 1) if len(order) else ():
            igraph.set_random_number_generator(random.Random(seed))  # a piece does not depend on the others
            nodes, local = np.unique(once[:, part], return_inverse=True)
            graph = igraph.Graph(n=len(nodes), edges=local.reshape(2, -1).T.tolist())
            graph.rewire(10 * len(part))
            found.append(nodes[np.array(graph.get_edgelist(), np.int64).T])
    finally:
        igraph.set_random_number_generator(random)
    mixed = np.concatenate(found, axis=1) if found else once
    return np.concatenate([mixed, mixed[::-1]], axis=1).astype(np.int32)


def plain_inputs(
    values: NDArray[np.floating], labels: NDArray[np.integer], known: NDArray[np.bool_], n_classes: int
) -> ModelInputs:
    """One table [V, C] as everything that a fixed recipe may ask for, on nodes without neighbours or folds.

    Args:
        known: [V] bool, nodes whose labels may be seen.
    """
    values = np.asarray(values, np.float32)
    nothing, folds = np.zeros((len(values), 0), np.float32), np.zeros((0, len(values)), bool)
    return ModelInputs(
        features=values, coordinates=nothing, unit_mm=1.0, edges=np.zeros((2, 0), np.int32),
        brain=np.zeros(len(values), np.int32), part=known, labels=np.where(known, labels, -1).astype(np.int32),
        n_classes=n_classes, train=folds, validation=folds, raw=values, smoothed=values, mirrored_mm=values,
        registered=nothing,
    )  # fmt: skip


def edges_among(edges: NDArray[np.integer], nodes: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The edges [2, E] between the chosen ones of `nodes` [V], which are numbered anew."""
    number = np.cumsum(nodes) - 1
    return np.asarray(number[edges[:, nodes[edges].all(0)]], np.int32)

"""Annotations carried into the gaps between annotated sections, on top of a network's probabilities."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from meshgnn.graph import MeshGraph
from meshgnn.mesh.operators import adjacency
from meshgnn.train.cohort import Cohort, inner_edges
from meshgnn.train.metrics import macro_f1

ALPHAS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95)
ROUNDS = 50


def propagate(
    graph: MeshGraph, votes: NDArray[np.floating], labels: NDArray[np.integer], alpha: float
) -> NDArray[np.float32]:
    """Z <- (1 - alpha) G + alpha (mean of Z over neighbours): the smoothing step of Huang et al. 2021, eq. 4.

    Args:
        votes: [V, K] probabilities of a network.
        labels: [V] annotations, -1 = none; G is one-hot where there is one, `votes` elsewhere.
        alpha: 0 leaves `votes`; near 1 neighbours decide.

    Returns:
        [V, K] probabilities; rows outside cortex are those of `votes`.
    """
    known = labels >= 0
    start = votes.astype(np.float32)
    start[known] = np.eye(votes.shape[1], dtype=np.float32)[labels[known]]
    if alpha == 0:
        return start
    near = adjacency(graph.n_nodes, inner_edges(graph)).astype(np.float32)
    count = np.asarray(near.sum(1)).ravel()
    mean = sparse.diags_array(np.divide(1, count, out=np.zeros_like(count), where=count > 0)) @ near
    alone = count == 0
    found = start.copy()
    for _ in range(ROUNDS):
        found = (1 - alpha) * start + alpha * (mean @ found)
        found[alone] = start[alone]
    return found / np.maximum(found.sum(1, keepdims=True), 1e-12)


def choose_alpha(
    graphs: Sequence[MeshGraph], votes: Sequence[NDArray[np.floating]], out_of_fold: Sequence[NDArray[np.floating]]
) -> tuple[float, dict[float, float]]:
    """The alpha that fills the gaps best if every other annotated section is hidden; with macro-F1 of each.

    Hidden nodes enter with the votes of members that did not train on them. No truth takes part.

    Args:
        graphs: training brains, labelled by a mapper, with node locations.
        votes: [V, K] per brain.
        out_of_fold: [N, K] per brain, of its labelled nodes in cortex, in order.
    """
    scores = {}
    for alpha in ALPHAS:
        true, called = [], []
        for graph, own, fold in zip(graphs, votes, out_of_fold):
            assert graph.locations is not None
            known = graph.cortex & (graph.labels >= 0)
            section = graph.locations.section
            hidden = known & np.isin(section, np.unique(section[known])[1::2])
            start = own.astype(np.float32)
            start[known] = fold
            filled = propagate(graph, start, np.where(known & ~hidden, graph.labels, -1), alpha)
            true.append(graph.labels[hidden])
            called.append(filled[hidden].argmax(1))
        labels = np.concatenate(true)
        scores[alpha] = macro_f1(labels, np.concatenate(called), votes[0].shape[1]) if len(labels) else 0.0
    return max(scores, key=lambda alpha: scores[alpha]), scores


def fill_gaps(
    cohort: Cohort, by_seed: Sequence[Sequence[NDArray[np.floating]]], folds: Sequence[NDArray[np.floating]]
) -> tuple[list[list[NDArray[np.float32]]], float, dict[float, float]]:
    """`propagate` on every training brain with the alpha that `choose_alpha` finds; unseen brains stay as they are.

    Args:
        by_seed: [seed][brain] probabilities [V, K].
        folds: [seed] out-of-fold probabilities [N, K] of the labelled nodes of all training brains end to end.

    Returns:
        maps like `by_seed`, alpha, and macro-F1 on hidden sections by alpha.
    """
    counts = [int((graph.cortex & (graph.labels >= 0)).sum()) for graph in cohort.training]
    starts = np.cumsum([0, *counts])
    votes = np.mean(folds, axis=0)
    mean = [np.mean(one, axis=0) for one, unseen in zip(zip(*by_seed), cohort.unseen) if not unseen]
    alpha, scores = choose_alpha(cohort.training, mean, [votes[a:b] for a, b in pairwise(starts)])
    filled = [
        [
            np.asarray(own, np.float32) if unseen else propagate(graph, own, drawn(graph), alpha)
            for graph, own, unseen in zip(cohort.graphs, maps, cohort.unseen)
        ]
        for maps in by_seed
    ]
    return filled, alpha, scores


def drawn(graph: MeshGraph) -> NDArray[np.int32]:
    """[V] annotations inside cortex, -1 elsewhere."""
    return np.where(graph.cortex, graph.labels, -1).astype(np.int32)

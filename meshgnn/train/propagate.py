"""Annotations carried into the gaps between annotated sections, and joined with a network's probabilities."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from meshgnn.confusion import macro_f1
from meshgnn.data.split import inner_edges
from meshgnn.graph import MeshGraph
from meshgnn.mesh.operators import adjacency
from meshgnn.train.cohort import Cohort, nearest_annotation

WEIGHTS = (0.0, 0.2, 0.3, 0.5, 1.0, 2.0)
ROUNDS = 20
FLOOR = 0.01  # least share of an area that no annotation near by supports


def annotations_in_cortex(graph: MeshGraph) -> NDArray[np.int32]:
    """The mapper's annotations [V] inside cortex, -1 elsewhere."""
    return np.where(graph.cortex, graph.labels, -1).astype(np.int32)


def carried_labels(graph: MeshGraph, labels: NDArray[np.integer]) -> NDArray[np.float32]:
    """Label propagation with clamped annotations (Zhu, Ghahramani & Lafferty 2003), [V, K].

    Starts from the area of the geodesically nearest annotation and takes means over neighbours for a few rounds.
    Rows are 0 in a hemisphere without annotation.

    Args:
        labels: [V] annotations, -1 = none.
    """
    found, _ = nearest_annotation(graph, labels)
    fixed = labels >= 0
    near = adjacency(graph.n_nodes, inner_edges(graph)).astype(np.float32)
    count = np.asarray(near.sum(1)).ravel()
    fixed = fixed | (count == 0)
    mean = sparse.diags_array(1 / np.maximum(count, 1)) @ near
    start = found[fixed]
    for _ in range(ROUNDS):
        found = mean @ found
        found[fixed] = start
    return found.astype(np.float32)


def join(carried: NDArray[np.floating], votes: NDArray[np.floating], weight: float) -> NDArray[np.float32]:
    """Product of experts: carried annotations times votes to the power `weight`, both [V, K], rows summing to 1.

    Rows without annotation or vote (0 everywhere) stay what the other one says.
    """
    joint = np.log(carried + FLOOR) + weight * np.log(votes + 1e-6)
    joint = np.exp(joint - joint.max(1, keepdims=True))
    return (joint / joint.sum(1, keepdims=True)).astype(np.float32)


def choose_weight(
    graphs: Sequence[MeshGraph], out_of_fold: Sequence[NDArray[np.floating]]
) -> tuple[float, dict[float, float]]:
    """The weight that names hidden annotations best if every other annotated section is hidden; macro-F1 of each.

    Hidden nodes enter with the votes of members that did not train on them. No truth takes part.

    Args:
        graphs: training brains, labelled by a mapper, with node locations.
        out_of_fold: [N, K] per brain, of its labelled nodes in cortex, in order.
    """
    true: list[NDArray[np.int32]] = []
    carried: list[NDArray[np.float32]] = []
    votes: list[NDArray[np.floating]] = []
    for graph, fold in zip(graphs, out_of_fold):
        assert graph.locations is not None
        labels = annotations_in_cortex(graph)
        section = graph.locations.section
        hidden = (labels >= 0) & np.isin(section, np.unique(section[labels >= 0])[1::2])
        true.append(labels[hidden])
        carried.append(carried_labels(graph, np.where(hidden, -1, labels))[hidden])
        votes.append(fold[hidden[labels >= 0]])
    labels, shown, own = np.concatenate(true), np.concatenate(carried), np.concatenate(votes)
    scores = {
        weight: macro_f1(labels, join(shown, own, weight).argmax(1), own.shape[1]) if len(labels) else 0.0
        for weight in WEIGHTS
    }
    return max(scores, key=lambda weight: scores[weight]), scores


def join_with_annotations(
    cohort: Cohort,
    by_seed: Sequence[Sequence[NDArray[np.floating]]],
    folds: Sequence[NDArray[np.floating]],
    carried: Sequence[NDArray[np.floating]],
) -> tuple[list[list[NDArray[np.float32]]], float, dict[float, float]]:
    """Maps of training brains joined with their annotations; unseen brains stay as they are.

    Every method chooses its own weight, on hidden annotations and its own out-of-fold votes.

    Args:
        by_seed: [seed][brain] probabilities [V, K] of one method.
        folds: [seed] its out-of-fold probabilities [N, K] of the labelled nodes of all training brains end to end.
        carried: `carried_labels` of every brain of the cohort.

    Returns:
        maps like `by_seed`, the weight, and macro-F1 on hidden sections by weight.
    """
    counts = [int((annotations_in_cortex(graph) >= 0).sum()) for graph in cohort.training]
    votes = np.mean(folds, axis=0)
    parts = [votes[start:end] for start, end in pairwise(np.cumsum([0, *counts]).tolist())]
    weight, scores = choose_weight(cohort.training, parts)
    filled = [
        [
            np.asarray(own, np.float32) if unseen else join(labels, own, weight)
            for labels, own, unseen in zip(carried, maps, cohort.unseen)
        ]
        for maps in by_seed
    ]
    return filled, weight, scores

"""Paired intervals for the difference of two methods' area maps on the same nodes.

B brains, S seeds, K classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from meshgnn.confusion import confusion_matrix
from meshgnn.data.split import contiguous_blocks
from meshgnn.graph import MeshGraph
from meshgnn.results import Interval

Maps = Sequence[NDArray[np.floating]]  # probabilities [V, K], one per brain
FEWEST_BRAINS, BLOCKS = 3, 40


def paired_interval(
    graphs: Sequence[MeshGraph],
    judged: Sequence[NDArray[np.bool_]],
    ours: Sequence[Maps],
    theirs: Sequence[Maps],
    *,
    places: Sequence[NDArray[np.int32]] | None = None,
    draws: int = 2000,
) -> Interval:
    """macro-F1 of `ours` minus that of `theirs`: mean over brains of (mean over our seeds - mean over their seeds).

    Three brains or more: Student's t over the brains' differences. Fewer: a Bayesian bootstrap (Rubin 1981) over
    contiguous blocks of cortex within each brain, since neighbouring nodes err together; such an interval speaks of
    other places of these brains, not of other brains. Every block keeps some weight in every draw, so that each
    draw averages over the same classes: those present in the brain's truth.

    Args:
        graphs: labels are the truth.
        judged: [V] bool per brain; only nodes with a label count.
        ours, theirs: [seed][brain] probabilities.
        places: `judged_blocks`, if they are known already.
    """
    places = judged_blocks(graphs, judged) if places is None else places
    counts = [
        _block_counts(graph, place, [m[k] for m in ours], [m[k] for m in theirs])
        for k, (graph, place) in enumerate(zip(graphs, places))
    ]
    each = np.array([_gap(table.sum(0)[None], len(ours))[0] for table in counts])
    difference = float(each.mean())
    if len(each) >= FEWEST_BRAINS:
        half = float(stats.t.ppf(0.975, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each)))
        return Interval(
            difference=difference, low=difference - half, high=difference + half, over="brains", replicates=len(each)
        )
    rng = np.random.default_rng(0)
    drawn = np.mean(
        [_gap(np.tensordot(rng.exponential(size=(draws, len(table))), table, 1), len(ours)) for table in counts], axis=0
    )
    low, high = np.percentile(drawn, [2.5, 97.5])
    replicates = sum(len(table) for table in counts)
    return Interval(difference=difference, low=float(low), high=float(high), over="blocks", replicates=replicates)


def judged_blocks(
    graphs: Sequence[MeshGraph], judged: Sequence[NDArray[np.bool_]], blocks: int = BLOCKS
) -> list[NDArray[np.int32]]:
    """Number [V] of the contiguous block that each judged labelled node of a brain lies in, -1 elsewhere."""
    found = []
    for graph, nodes in zip(graphs, judged):
        labelled = nodes & (graph.labels >= 0)
        found.append(contiguous_blocks(graph, labelled, min(blocks, int(labelled.sum())), seed=0))
    return found


def _block_counts(graph: MeshGraph, place: NDArray[np.int32], ours: Maps, theirs: Maps) -> NDArray[np.float64]:
    """[blocks, S + S', 3, K] of every map, ours first: hits, true nodes and called nodes of each class."""
    n_classes = len(graph.areas)
    called = [votes.argmax(1) for votes in (*ours, *theirs)]
    counts = np.zeros((int(place.max()) + 1, len(called), 3, n_classes))
    for k in range(len(counts)):
        here = place == k
        for side, names in enumerate(called):
            table = confusion_matrix(graph.labels[here], names[here], n_classes)
            counts[k, side] = np.diag(table), table.sum(1), table.sum(0)
    return counts


def _gap(counts: NDArray[np.float64], n_ours: int) -> NDArray[np.float64]:
    """[draws, S + S', 3, K] -> [draws] differences of mean macro-F1 over the classes with a true node."""
    hit, true, called = counts[:, :, 0], counts[:, :, 1], counts[:, :, 2]
    total = true + called
    f1 = np.divide(2 * hit, total, out=np.zeros_like(hit), where=total > 0)
    present = true > 0
    macro = (f1 * present).sum(2) / np.maximum(present.sum(2), 1)
    return macro[:, :n_ours].mean(1) - macro[:, n_ours:].mean(1)

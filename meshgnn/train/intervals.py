"""Paired intervals for the difference of two methods' area maps on the same nodes.

B brains, S seeds, K classes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from meshgnn.data.split import contiguous_blocks
from meshgnn.graph import MeshGraph
from meshgnn.train.metrics import confusion_matrix

Maps = Sequence[NDArray[np.floating]]  # probabilities [V, K], one per brain
FEWEST_BRAINS = 3


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A difference of macro-F1 with its 95 % interval.

    Args:
        over: what the interval generalises to: "brains" (other brains), or "blocks" (other places of these brains).
        replicates: how many of them there are.
    """

    difference: float
    low: float
    high: float
    over: Literal["brains", "blocks"]
    replicates: int

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def paired_interval(
    graphs: Sequence[MeshGraph],
    judged: Sequence[NDArray[np.bool_]],
    ours: Sequence[Maps],
    theirs: Sequence[Maps],
    *,
    blocks: int = 40,
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
        blocks: per brain.
    """
    counts = [
        _block_counts(graph, nodes & (graph.labels >= 0), [m[k] for m in ours], [m[k] for m in theirs], blocks)
        for k, (graph, nodes) in enumerate(zip(graphs, judged))
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
    places = sum(len(table) for table in counts)
    return Interval(difference=difference, low=float(low), high=float(high), over="blocks", replicates=places)


def _block_counts(
    graph: MeshGraph, nodes: NDArray[np.bool_], ours: Maps, theirs: Maps, blocks: int
) -> NDArray[np.float64]:
    """[blocks, S + S', 3, K] of every map, ours first: hits, true nodes and called nodes of each class."""
    n_classes = len(graph.areas)
    place = contiguous_blocks(graph, nodes, min(blocks, int(nodes.sum())), seed=0)
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

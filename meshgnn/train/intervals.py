"""Paired intervals for the difference of two area maps on the same nodes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshgnn.data.split import contiguous_blocks
from meshgnn.graph import MeshGraph
from meshgnn.train.metrics import confusion_matrix, per_class_f1


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A difference of macro-F1 with its 95 % interval."""

    difference: float
    low: float
    high: float

    def plain(self) -> dict[str, float]:
        return {"difference": self.difference, "low": self.low, "high": self.high}


def paired_interval(
    graphs: Sequence[MeshGraph],
    judged: Sequence[NDArray[np.bool_]],
    ours: Sequence[NDArray[np.floating]],
    theirs: Sequence[NDArray[np.floating]],
    *,
    blocks: int = 40,
    draws: int = 2000,
) -> Interval:
    """macro-F1 of `ours` minus that of `theirs`, with a spatial block bootstrap (percentiles 2.5 and 97.5).

    Neighbouring nodes err together, so whole contiguous blocks of cortex are drawn with replacement, within each brain
    (Efron & Tibshirani 1993, ch. 8). With one brain the interval speaks of other places of that brain, not of other
    brains.

    Args:
        graphs: labels are the truth.
        judged: [V] bool per brain; only nodes with a label count.
        ours, theirs: probabilities [V, K] per brain.
        blocks: per brain.
    """
    n_classes = len(graphs[0].areas)
    tables: list[NDArray[np.int64]] = []  # per brain [blocks, 2, K, K]
    for graph, nodes, first, second in zip(graphs, judged, ours, theirs):
        nodes = nodes & (graph.labels >= 0)
        place = contiguous_blocks(graph, nodes, min(blocks, int(nodes.sum())), seed=0)
        counts = np.zeros((int(place.max()) + 1, 2, n_classes, n_classes), np.int64)
        for k in range(len(counts)):
            here = place == k
            for side, votes in enumerate((first, second)):
                counts[k, side] = confusion_matrix(graph.labels[here], votes[here].argmax(1), n_classes)
        tables.append(counts)

    def gap(counts: NDArray[np.int64]) -> float:
        return float(np.nanmean(per_class_f1(counts[0])) - np.nanmean(per_class_f1(counts[1])))

    rng = np.random.default_rng(0)
    differences = [
        gap(np.sum([table[rng.integers(0, len(table), len(table))].sum(0) for table in tables], axis=0))
        for _ in range(draws)
    ]
    low, high = np.percentile(differences, [2.5, 97.5])
    whole = np.sum([table.sum(0) for table in tables], axis=0)
    return Interval(difference=gap(whole), low=float(low), high=float(high))

"""Features derived from a brain before anything is learnt, and a check that features mean the same in two parts."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from meshgnn.graph import FeatureTable, MeshGraph
from meshgnn.mesh.operators import one_ring_average

RIM_ROUNDS = (5, 15, 40, 80, 160)
RIM_PREFIX = "cortexShare"


def scaled_rounds(rounds: tuple[int, ...], n_nodes: int) -> tuple[int, ...]:
    """Round counts for a mesh of `n_nodes`, given for one of 10,000: the same area of cortex on finer meshes."""
    factor = max(1.0, n_nodes / 10_000)
    return tuple(dict.fromkeys(round(count * factor) for count in rounds))


def rim_table(graph: MeshGraph, *, always: bool = False) -> FeatureTable | None:
    """How much cortex lies around each node, at several scales: where it is relative to the rim of the cortex mask.

    Column cortexShareN: N rounds of one-ring averages of the mask over the whole mesh, 1 deep inside cortex, about 1/2
    at the rim. None if everything is cortex, unless `always` (then it is constant, for a model that expects it).
    Where the mask was drawn from an atlas, its rim tells about the areas:
    leave the table out to see by how much.
    """
    if graph.cortex.all() and not always:
        return None
    parts = []
    for place in graph.slices().values():
        here = graph.edges[:, (graph.edges[0] >= place.start) & (graph.edges[0] < place.stop)] - place.start
        inside = graph.cortex[place]
        rounds = scaled_rounds(RIM_ROUNDS, int(inside.sum()))
        shares = one_ring_average(inside[:, None].astype(np.float32), np.ones(len(inside), bool), here, rounds)
        parts.append(np.concatenate(shares, axis=1))
    names = tuple(f"{RIM_PREFIX}{count}" for count in RIM_ROUNDS)
    return FeatureTable(name="rim", values=np.concatenate(parts), mask=np.ones(graph.n_nodes, bool), columns=names)


def inconsistent_features(
    values: NDArray[np.floating], first: NDArray[np.bool_], second: NDArray[np.bool_]
) -> dict[int, float]:
    """Columns whose rank correlations with the other columns differ between two sets of nodes, with the difference.

    A feature that was mapped wrongly in one hemisphere keeps its distribution but loses its relation to the others.
    Reported is a column whose mean |difference of Spearman correlations| exceeds both 0.1 and three times the median
    over columns. Looks at features only, at no label and no position.

    Args:
        values: [V, C], C >= 4 for the comparison to mean anything (else nothing is reported).
        first, second: [V] bool.
    """
    if values.shape[1] < 4 or min(first.sum(), second.sum()) < 100:
        return {}

    def correlations(part: NDArray[np.bool_]) -> NDArray[np.float64]:
        ranks = rankdata(values[part], axis=0)
        ranks -= ranks.mean(0)
        length = np.linalg.norm(ranks, axis=0)
        unit = np.divide(ranks, length, out=np.zeros_like(ranks), where=length > 0)
        return unit.T @ unit

    gap = np.abs(correlations(first) - correlations(second))
    found: dict[int, float] = {}
    left = list(range(values.shape[1]))
    # One at a time: a broken column also disturbs the means of the others.
    while len(left) >= 4:
        means = gap[np.ix_(left, left)].sum(1) / (len(left) - 1)
        worst = int(means.argmax())
        if means[worst] <= max(0.1, 3 * float(np.median(means))):
            break
        found[left.pop(worst)] = float(means[worst])
    return found

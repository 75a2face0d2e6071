"""Partitions of the same nodes: how alike, what many of them agree on. N nodes, R partitions."""

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import adjusted_rand_score

Labels = NDArray[np.int64]


def adjusted_rand(first: NDArray[np.integer], second: NDArray[np.integer]) -> float:
    """Hubert & Arabie's (1985) index, 1 for the same groups, about 0 by chance; groups may bear any numbers."""
    return float(adjusted_rand_score(first, second))


def renumbered(labels: NDArray[np.integer]) -> Labels:
    """[N] groups numbered from 0 by size, largest first; equal ones by their first node."""
    _, first, inverse, size = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -size))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[inverse]


def together(partitions: NDArray[np.integer]) -> NDArray[np.float64]:
    """[N, N] share of the partitions [R, N] in which two nodes are in one group."""
    return np.mean([one[:, None] == one[None, :] for one in partitions], axis=0)


def consensus(partitions: NDArray[np.integer]) -> Labels:
    """[N] the groups of average linkage on the shares of `together`, at the median number of groups."""
    share = together(partitions)
    count = int(np.median([len(np.unique(one)) for one in partitions]))
    if len(share) < 2:
        return np.zeros(len(share), np.int64)
    tree = linkage(squareform(1 - share, checks=False), "average")
    return renumbered(fcluster(tree, max(count, 1), "maxclust"))


def stability(partitions: NDArray[np.integer], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """[N] how surely a node is in its group: mean agreement of the partitions on whether each other node is in it.

    1 if all partitions place the node as `labels` does.
    """
    share = together(partitions)
    same = labels[:, None] == labels[None, :]
    agreed = np.where(same, share, 1 - share)
    np.fill_diagonal(agreed, 0)
    # Members and others weigh the same; in large networks the others would drown the members.
    inside = same & ~np.eye(len(labels), dtype=bool)
    parts = [
        np.divide((agreed * side).sum(1), side.sum(1), out=np.full(len(labels), np.nan), where=side.sum(1) > 0)
        for side in (inside, ~same)
    ]
    return np.nanmean(parts, axis=0) if len(labels) > 1 else np.ones(len(labels))

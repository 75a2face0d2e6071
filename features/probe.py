"""How well embeddings tell areas apart: nearest neighbours by cosine similarity. numpy only."""

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError


def knn_classes(
    known: NDArray[np.floating], labels: NDArray[np.integer], unknown: NDArray[np.floating], neighbours: int = 15
) -> NDArray[np.int64]:
    """Classes [Q] of rows by weighted vote of their nearest known rows (Wu et al. 2018, sec. 3.4: weight exp(s / 0.1)).

    Args:
        known: [N, C] embeddings with `labels` [N].
        unknown: [Q, C].
        neighbours: that vote.
    """
    if not len(known):
        raise InputError("no known embeddings to compare with")
    k = min(neighbours, len(known))
    n_classes = int(labels.max()) + 1
    known = known / np.maximum(np.linalg.norm(known, axis=1, keepdims=True), 1e-12)
    out = np.empty(len(unknown), np.int64)
    for start in range(0, len(unknown), 4096):
        part = unknown[start : start + 4096]
        part = part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)
        similar = part @ known.T
        nearest = np.argpartition(-similar, k - 1, axis=1)[:, :k]
        weight = np.exp((np.take_along_axis(similar, nearest, 1) - 1) / 0.1)
        votes = np.zeros((len(part), n_classes))
        np.add.at(votes, (np.arange(len(part))[:, None], labels[nearest]), weight)
        out[start : start + 4096] = votes.argmax(1)
    return out

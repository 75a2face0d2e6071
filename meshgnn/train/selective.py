"""Whether a map knows where it is wrong: risk against coverage, and conformal sets of areas.

A node's set holds every area whose probability is at least a threshold, and the most probable one (least ambiguous
set-valued classifier, Sadinle et al. 2019). The threshold is such that the sets of nodes of left-out training brains
hold the true area at the stated rate (split conformal, Vovk et al. 2005). The rate would hold for a new brain if its
nodes could be exchanged with those; nodes of one brain resemble each other, so it has to be measured on new brains.

Networks are not trained anew without each brain, so thresholds of that kind are the closed form's. A network's votes
are less sure of themselves; its sets are made as large, on average over a brain, as those of the closed form there.
"""

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.export.area_map import SET_COVERAGE, in_set


def risk_coverage(wrong: NDArray[np.bool_], confidence: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of errors [N] among the 1, 2, ..., N most confident nodes, from `wrong` [N] and `confidence` [N].

    Nodes of equal confidence stand in no order: each counts the mean error of its group (Geifman & El-Yaniv 2017).
    Raises InputError where there is no node, the lengths differ or a confidence is not finite.
    """
    if not len(wrong) or len(wrong) != len(confidence) or not np.isfinite(confidence).all():
        raise InputError("a risk-coverage curve needs one finite confidence for each of at least one node")
    _, group, size = np.unique(-np.asarray(confidence), return_inverse=True, return_counts=True)
    mean_error = np.bincount(group, weights=wrong) / size
    return np.cumsum(np.repeat(mean_error, size)) / np.arange(1, len(wrong) + 1)


def aurc(wrong: NDArray[np.bool_], confidence: NDArray[np.floating]) -> tuple[float, float]:
    """Area under the risk-coverage curve, and its excess over the best order (Geifman et al. 2019)."""
    area = float(risk_coverage(wrong, confidence).mean())
    return area, area - float(risk_coverage(wrong, -np.asarray(wrong, dtype=np.float64)).mean())


def least_probability(
    p: NDArray[np.floating], labels: NDArray[np.integer], coverage: float = SET_COVERAGE
) -> float | None:
    """The threshold of sets of the stated coverage, from probabilities [N, K] of nodes left out, with labels [N].

    None where the nodes are too few for the coverage. Raises InputError for values that are not finite or do not fit.
    """
    if not 0 < coverage < 1 or len(p) != len(labels) or not np.isfinite(p).all():
        raise InputError("conformal sets need a coverage between 0 and 1 and finite probabilities of labelled nodes")
    worst = len(labels) + 1 - int(np.ceil(round((len(labels) + 1) * coverage, 9)))  # so many may fall below
    if not worst:
        return None
    return float(np.sort(p[np.arange(len(labels)), labels])[worst - 1])


def as_large(p: NDArray[np.floating], other: NDArray[np.floating], least: float) -> float:
    """The threshold at which sets from p [N, K] are as large, on average, as those from `other` [N, K] at `least`.

    Raises InputError for values that are not finite or do not fit.
    """
    if p.shape != other.shape or not (np.isfinite(p).all() and np.isfinite(other).all()):
        raise InputError("sets are compared on finite probabilities of the same nodes and areas")
    if not p.size:
        return least
    further = int(in_set(other, least).sum()) - len(other)  # areas beside the most probable ones
    rest = np.delete(np.sort(p, axis=1), -1, axis=1).ravel()
    return float(np.sort(rest)[len(rest) - further]) if further else 1.0

"""Whether a map knows where it is wrong: risk against coverage."""

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError


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

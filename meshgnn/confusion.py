"""Counts of true and called classes, and F1 from them. The one place for macro-F1; numpy only."""

import numpy as np
from numpy.typing import NDArray


def confusion_matrix(true: NDArray[np.integer], predicted: NDArray[np.integer], n_classes: int) -> NDArray[np.int64]:
    """[K, K] counts, rows true, columns predicted."""
    flat = np.bincount(true.astype(np.int64) * n_classes + predicted, minlength=n_classes * n_classes)
    return flat.reshape(n_classes, n_classes)


def per_class_f1(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 [K]; NaN for classes that do not occur in the truth."""
    hit = np.diag(confusion).astype(float)
    support, called = confusion.sum(1), confusion.sum(0)
    total = support + called
    f1 = np.divide(2 * hit, total, out=np.zeros_like(hit), where=total > 0)
    return np.where(support > 0, f1, np.nan)


def macro_f1(true: NDArray[np.integer], predicted: NDArray[np.integer], n_classes: int = 0) -> float:
    """Mean F1 over the classes present in the truth; 0 where there is none.

    Args:
        true, predicted: [N] class numbers.
        n_classes: at least as many as occur; 0 counts them.
    """
    n_classes = n_classes or 1 + int(max(true.max(initial=0), predicted.max(initial=0)))
    f1 = per_class_f1(confusion_matrix(true, predicted, n_classes))
    return float(np.nanmean(f1)) if np.isfinite(f1).any() else 0.0

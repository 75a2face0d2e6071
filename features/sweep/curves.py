"""Learning curves: how many subjects from scratch a pretrained network is worth. n sizes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

Floats = NDArray[np.float64]


def equivalent_subjects(sizes: Sequence[int], scores: Floats, level: float) -> float:
    """With how many subjects a curve reaches a score.

    The curve is made to ascend (isotonic regression) and read off between its points, linear in log n. What lies below
    its first point or above its last is not known: then the first or the last size.

    Args:
        sizes: [n] ascending.
        scores: [n] of the curve.
        level: the score.
    """
    x = np.log2(np.asarray(sizes, float))
    rising = IsotonicRegression().fit_transform(x, np.asarray(scores, float))
    if level <= rising[0]:
        return float(sizes[0])
    if level > rising[-1]:
        return float(sizes[-1])
    after = max(1, int(np.searchsorted(rising, level - 1e-9)))
    share = (level - rising[after - 1]) / (rising[after] - rising[after - 1])
    return float(2 ** (x[after - 1] + share * (x[after] - x[after - 1])))


def mean_gap(sizes: Sequence[int], ours: Floats, theirs: Floats) -> float:
    """Area between two curves over log n, in units of the score: their mean difference; of one size the difference."""
    gap = np.asarray(ours, float) - np.asarray(theirs, float)
    if len(gap) == 1:
        return float(gap[0])
    x = np.log2(np.asarray(sizes, float))
    return float(((gap[1:] + gap[:-1]) / 2 * np.diff(x)).sum() / (x[-1] - x[0]))

"""Mutual information of two columns, in nats.

    two discrete columns     plug-in estimate on the table of counts with the correction of Miller (1955) and Madow
    two continuous ones      k nearest neighbours, the first algorithm of Kraskov, Stoegbauer & Grassberger (2004)
    one of each              k nearest neighbours within a class, Ross (2014)

Estimates may be slightly negative: they are not cut at 0, so that a null distribution has its true mean. scikit-learn's
`mutual_info_regression` is the same estimator (a test compares them) but cuts at 0 and takes a hundred times longer on a
few hundred people, which is what a permutation null draws thousands of times.
"""

from typing import Literal

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

Floats = NDArray[np.float64]
NEIGHBOURS = 4
JITTER = 1e-10  # of the spread; parts equal numbers, whose distance has no logarithm (as scikit-learn does)

Estimator = Literal["plug-in, Miller-Madow", "nearest neighbours (KSG)", "nearest neighbours within classes (Ross)"]
DISCRETE: Estimator = "plug-in, Miller-Madow"
CONTINUOUS: Estimator = "nearest neighbours (KSG)"
MIXED: Estimator = "nearest neighbours within classes (Ross)"


def gaussian_information(r: float) -> float:
    """-0.5 ln(1 - r^2), in nats: of two normal variables with correlation r."""
    return float(-0.5 * np.log(1 - r * r))


def estimator_of(first_discrete: bool, second_discrete: bool) -> Estimator:
    """Which one two columns get."""
    if first_discrete == second_discrete:
        return DISCRETE if first_discrete else CONTINUOUS
    return MIXED


def discrete_information(first: NDArray[np.integer], second: NDArray[np.integer]) -> float:
    """Of two columns of classes [N].

    The correction adds (occupied rows + occupied columns - occupied cells - 1) / 2N: 0 on average for independent
    columns, the corrected entropy for two that are the same.
    """
    _, a = np.unique(first, return_inverse=True)
    _, b = np.unique(second, return_inverse=True)
    table = np.bincount(a * (b.max() + 1) + b, minlength=(a.max() + 1) * (b.max() + 1)).astype(np.float64)
    table = table.reshape(a.max() + 1, b.max() + 1) / len(a)
    rows, columns = table.sum(1), table.sum(0)
    full = table > 0
    plain = float((table[full] * np.log(table[full] / np.outer(rows, columns)[full])).sum())
    return plain + (len(rows) + len(columns) - int(full.sum()) - 1) / (2 * len(a))


def parted(values: NDArray[np.floating], rng: np.random.Generator) -> Floats:
    """Values [N] of standard deviation 1, with a noise that parts equal ones. Constant columns stay constant."""
    values = np.asarray(values, np.float64)
    spread = values.std()
    scaled = (values - values.mean()) / spread if spread > 0 else values * 0
    return scaled + JITTER * rng.standard_normal(len(values))


def continuous_information(first: Floats, second: Floats, k: int = NEIGHBOURS) -> float:
    """Of two columns of numbers [N] without equal values (`parted`); k is lowered to N - 1 where there are fewer."""
    count, k = len(first), min(k, len(first) - 1)
    order = np.argsort(first, kind="stable")
    x, y = np.ascontiguousarray(first[order]), np.ascontiguousarray(second[order])
    along_x, along_y = _ksg_counts(x, y, np.sort(y), k)
    table = digamma(np.arange(1, count + 1))
    return float(table[k - 1] + table[count - 1] - table[along_x].mean() - table[along_y].mean())


def mixed_information(classes: NDArray[np.integer], values: Floats, k: int = NEIGHBOURS) -> float:
    """Of a column of classes [N] and one of numbers without equal values; classes with one member are left out."""
    _, label, size = np.unique(classes, return_inverse=True, return_counts=True)
    kept = size[label] > 1
    if not kept.any():
        return 0.0
    label, values = label[kept], np.asarray(values, np.float64)[kept]
    order = np.lexsort((values, label))
    within, near = _ross_counts(values[order], label[order].astype(np.int64), np.sort(values), k)
    count = len(values)
    table = digamma(np.arange(1, count + 1))
    return float(table[count - 1] + table[within - 1].mean() - table[size[label] - 1].mean() - table[near - 1].mean())


@numba.njit(cache=True, nogil=True)
def _ksg_counts(x: Floats, y: Floats, y_sorted: Floats, k: int):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Numbers of others nearer than the k-th neighbour (largest of both distances) along x and along y; x ascends."""
    count = len(x)
    along_x, along_y = np.empty(count, np.int64), np.empty(count, np.int64)
    best = np.empty(k)
    for i in range(count):
        best[:] = np.inf
        low, high = i - 1, i + 1
        while True:
            left = x[i] - x[low] if low >= 0 else np.inf
            right = x[high] - x[i] if high < count else np.inf
            step = min(left, right)
            if step >= best[k - 1]:  # also when both ends are reached
                break
            if left <= right:
                j = low
                low -= 1
            else:
                j = high
                high += 1
            distance = max(step, abs(y[j] - y[i]))
            if distance < best[k - 1]:
                place = k - 1
                while place > 0 and best[place - 1] > distance:
                    best[place] = best[place - 1]
                    place -= 1
                best[place] = distance
        radius = best[k - 1]
        # The first and the one after the last strictly within the radius; the point itself is not counted.
        along_x[i] = _within(x, x[i], radius) - 1
        along_y[i] = _within(y_sorted, y[i], radius) - 1
    return along_x, along_y


@numba.njit(cache=True, nogil=True)
def _within(ascending: Floats, at: float, radius: float):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Number of values strictly nearer to `at` than the radius."""
    first = np.searchsorted(ascending, at - radius, side="right")
    last = np.searchsorted(ascending, at + radius, side="left")
    # The sums above are rounded, and the k-th neighbour lies exactly at the radius: decided by differences.
    while first > 0 and at - ascending[first - 1] < radius:
        first -= 1
    while first < last and at - ascending[first] >= radius:
        first += 1
    while last < len(ascending) and ascending[last] - at < radius:
        last += 1
    while last > first and ascending[last - 1] - at >= radius:
        last -= 1
    return max(last - first, 1)


@numba.njit(cache=True, nogil=True)
def _ross_counts(values: Floats, label: NDArray[np.int64], everybody: Floats, k: int):  # type: ignore[no-untyped-def]  # pragma: no cover
    """k of every point's class (lowered in small ones), and the number of points (itself too) nearer than the k-th
    neighbour of its class; values ascend within classes."""
    count = len(values)
    within, near = np.empty(count, np.int64), np.empty(count, np.int64)
    start = 0
    while start < count:
        end = start
        while end < count and label[end] == label[start]:
            end += 1
        own = min(k, end - start - 1)
        for i in range(start, end):
            low, high, radius = i - 1, i + 1, 0.0
            for _ in range(own):
                left = values[i] - values[low] if low >= start else np.inf
                right = values[high] - values[i] if high < end else np.inf
                if left <= right:
                    radius = left
                    low -= 1
                else:
                    radius = right
                    high += 1
            within[i] = own
            near[i] = _within(everybody, values[i], radius)
        start = end
    return within, near

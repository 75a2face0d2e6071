"""Mutual information of two columns, in nats.

    two discrete columns     plug-in estimate on the table of counts with the correction of Miller (1955) and Madow
    two continuous ones      k nearest neighbours, the first algorithm of Kraskov, Stoegbauer & Grassberger (2004)
    one of each              k nearest neighbours within a class, Ross (2014)

Estimates may be slightly negative: they are not cut at 0, so that a null distribution has its true mean. scikit-learn's
`mutual_info_regression` and `mutual_info_classif` are the same estimators (a test compares them) but cut at 0 and are
too slow for the thousands of draws of a permutation null.
"""

from collections.abc import Callable
from typing import Any, Literal

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
    return float(_plug_in(*_coded(first), *_coded(second)))


def _coded(values: NDArray[Any]) -> tuple[NDArray[np.int64], int]:
    names, codes = np.unique(values, return_inverse=True)
    return codes.astype(np.int64), len(names)


def parted(values: NDArray[np.floating], rng: np.random.Generator) -> Floats:
    """Values [N] of standard deviation 1, with a noise that parts equal ones. Constant columns stay constant."""
    values = np.asarray(values, np.float64)
    spread = values.std()
    scaled = (values - values.mean()) / spread if spread > 0 else values * 0
    return scaled + JITTER * rng.standard_normal(len(values))


def continuous_information(first: Floats, second: Floats, k: int = NEIGHBOURS) -> float:
    """Of two columns of numbers [N] without equal values (`parted`); k is lowered to N - 1 where there are fewer."""
    order = np.argsort(first, kind="stable")
    return float(_ksg(first[order], second[order], np.sort(second), min(k, len(first) - 1), _digammas(len(first))))


def mixed_information(classes: NDArray[np.integer], values: Floats, k: int = NEIGHBOURS) -> float:
    """Of a column of classes [N] and one of numbers without equal values; classes with one member are left out."""
    codes, count = _coded(classes)
    order = np.argsort(values, kind="stable")
    return float(_ross(codes[order], count, np.asarray(values, np.float64)[order], k, _digammas(len(codes))))


def permutable(
    first: NDArray[np.floating], second: NDArray[np.floating], kind: Estimator, k: int, rng: np.random.Generator
) -> Callable[[NDArray[np.integer]], float]:
    """The estimate for two columns, the second one in another order: a function of an order [N].

    What does not change with the order is done once.

    Args:
        first, second: [N]; of `MIXED` the first holds classes.
        rng: of the noise that parts equal numbers.
    """
    table = _digammas(len(first))
    if kind == DISCRETE:
        (a, rows), (b, columns) = _coded(first), _coded(second)
        return lambda order: float(_plug_in(a, rows, b[order], columns))
    values = parted(second, rng)
    if kind == MIXED:
        codes, count = _coded(first)
        ascending, place = np.sort(values), np.argsort(np.argsort(values, kind="stable"), kind="stable")

        def mixed(order: NDArray[np.integer]) -> float:
            moved = np.empty_like(codes)
            moved[place[order]] = codes
            return float(_ross(moved, count, ascending, k, table))

        return mixed
    x = parted(first, rng)
    along = np.argsort(x, kind="stable")
    x, ascending = x[along], np.sort(values)
    k = min(k, len(x) - 1)
    return lambda order: float(_ksg(x, values[order][along], ascending, k, table))


def _digammas(count: int) -> Floats:
    """digamma of 1 to N + 1."""
    return digamma(np.arange(1, count + 2, dtype=np.float64))


@numba.njit(cache=True, nogil=True)
def _plug_in(a, rows, b, columns):  # pragma: no cover
    """Of class numbers [N] below `rows` and `columns`, all of which occur."""
    table = np.zeros((rows, columns))
    for i in range(len(a)):
        table[a[i], b[i]] += 1.0
    row, column = table.sum(1), table.sum(0)
    total, cells, count = 0.0, 0, len(a)
    for i in range(rows):
        for j in range(columns):
            if table[i, j] > 0:
                cells += 1
                total += table[i, j] * np.log(table[i, j] * count / (row[i] * column[j]))
    return total / count + (rows + columns - cells - 1) / (2 * count)


@numba.njit(cache=True, nogil=True)
def _ksg(x, y, y_sorted, k, table):  # pragma: no cover
    """psi(k) + psi(N) - <psi(n_x + 1) + psi(n_y + 1)>; n of others nearer than the k-th neighbour (largest of both
    distances) along x and along y; x ascends."""
    count, total = len(x), 0.0
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
        # With the point itself, hence n + 1.
        total += table[_within(x, x[i], radius) - 1] + table[_within(y_sorted, y[i], radius) - 1]
    return table[k - 1] + table[count - 1] - total / count


@numba.njit(cache=True, nogil=True)
def _within(ascending, at, radius):  # pragma: no cover
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
def _ross(codes, classes, values, k, table):  # pragma: no cover
    """psi(N) + <psi(k_i)> - <psi(N_class)> - <psi(m_i)>; m points (itself too) nearer than the k-th neighbour of a
    point's class, k lowered in small classes; values ascend, class numbers stand beside them."""
    size = np.zeros(classes, np.int64)
    for code in codes:
        size[code] += 1
    start = np.zeros(classes, np.int64)
    for c in range(1, classes):
        start[c] = start[c - 1] + size[c - 1]
    at, grouped = start.copy(), np.empty(len(codes))
    everybody, count = np.empty(len(codes)), 0
    for i in range(len(codes)):
        grouped[at[codes[i]]] = values[i]
        at[codes[i]] += 1
        if size[codes[i]] > 1:
            everybody[count] = values[i]
            count += 1
    if count == 0:
        return 0.0
    everybody = everybody[:count]
    total = 0.0
    for c in range(classes):
        if size[c] < 2:
            continue
        first, end = start[c], start[c] + size[c]
        own = min(k, size[c] - 1)
        for i in range(first, end):
            low, high, radius = i - 1, i + 1, 0.0
            for _ in range(own):
                left = grouped[i] - grouped[low] if low >= first else np.inf
                right = grouped[high] - grouped[i] if high < end else np.inf
                if left <= right:
                    radius = left
                    low -= 1
                else:
                    radius = right
                    high += 1
            total += table[own - 1] - table[size[c] - 1] - table[_within(everybody, grouped[i], radius) - 1]
    return table[count - 1] + total / count

"""One set of features judged: learning curves on unseen brains, and what the space itself looks like. No torch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.judging.scores import (
    NEIGHBOURS,
    PENALTIES,
    Rows,
    chosen,
    clusters,
    linear_classes,
    neighbour_classes,
    retrieval,
    spatial_spearman,
)
from meshgnn.confusion import macro_f1
from meshgnn.errors import InputError

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)
PROBES: dict[str, Any] = {"linear": (linear_classes, PENALTIES), "knn": (neighbour_classes, NEIGHBOURS)}


def annotated_sections(groups: NDArray[np.integer], share: float, seed: int) -> NDArray[np.integer]:
    """Sections of all training brains that count as annotated: the first of one random order, at least one.

    Of one seed, those of a smaller share lie within those of a larger one.
    """
    if not 0 < share <= 1:
        raise InputError(f"a share of annotated sections must lie above 0 and at most at 1, got {share}")
    sections = np.unique(groups)
    order = np.random.default_rng((abs(seed), 0x5EC)).permutation(sections)
    return np.sort(order[: max(1, round(share * len(sections)))])


def probed(train: Rows, test: Mapping[str, Rows]) -> dict[str, dict[str, float]]:
    """Macro-F1 of both probes on every test brain: {"linear": {brain: score}, "knn": ...}.

    Areas of a test brain that no training row has count as not found.
    """
    found: dict[str, dict[str, float]] = {}
    for name, (fit, settings) in PROBES.items():
        setting = chosen(fit, settings, train)
        found[name] = {
            brain: macro_f1(rows.labels, fit(train.values, train.labels, rows.values, setting))
            for brain, rows in test.items()
        }
    return found


def described(test: Mapping[str, Rows]) -> dict[str, dict[str, float]]:
    """Clusters, retrieval and spatial correlation of every brain by itself: {score: {brain: value}}."""
    found: dict[str, dict[str, float]] = {}
    for brain, rows in test.items():
        row = clusters(rows.values, rows.labels) | retrieval(rows.values, rows.labels, rows.groups)
        row["spatial_spearman"] = spatial_spearman(rows.values, rows.places_mm)
        for name, value in row.items():
            found.setdefault(name, {})[brain] = value
    return found


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval by Student's t over brains; no interval (NaN) below three brains, or where one is NaN."""
    from scipy import stats

    array = np.asarray(values, float)
    mean = float(array.mean()) if len(array) else float("nan")
    if len(array) < 3:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array)))
    return mean, mean - half, mean + half

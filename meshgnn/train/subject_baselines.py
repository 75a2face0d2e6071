"""Baselines of subject tasks: what can be told of a subject without a network, from the same features.

constant        the mean, or the class frequencies, of the training subjects
site            the same among the training subjects of the subject's own site: what the site alone gives away; only
                where sites are shared by training and test part
graph_means     a linear model on the mean of every feature over the cortex
parcel_means    a linear model on the mean of every feature over every area of each hemisphere
zero            0 for every number, where numbers are what is left without confounds; only where that is asked for

The linear model is a ridge regression for a number and a logistic regression with an L2 penalty and balanced classes
for classes. Its penalty is chosen on the very folds on which the members of the network validate. All get the features
of whole brains too. G subjects, P columns, K classes.
"""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

from meshgnn.data.subject_inputs import CohortValues
from meshgnn.source.subjects import Target

RIDGE = np.logspace(-1, 5, 13)
LOGISTIC = np.logspace(-5, 1, 13)
SEES = {
    "constant": "nothing",
    "site": "the site",
    "graph_means": "means of the features over the cortex",
    "parcel_means": "means of the features over every area",
}


def feature_tables(values: CohortValues, whole: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
    """[G, P] tables by baseline; parcel means only where the brains share a parcellation. NaN where an area is missing.

    Args:
        whole: [G, F] features of whole brains, as the network gets them.
    """
    found = {"graph_means": np.stack([brain.brain_means() for brain in values.brains])}
    if values.units:
        found["parcel_means"] = np.stack([brain.area_means(len(values.units)).ravel() for brain in values.brains])
    return {name: np.concatenate([table, whole], axis=1) for name, table in found.items()}


def constant(
    target: Target, values: NDArray[np.float64], train: NDArray[np.bool_], sites: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """[G, K] class frequencies or [G, 1] means of the training subjects; with `sites` [G], of each subject's site."""
    known = train & np.isfinite(values)
    result = np.tile(_mean(target, values[known]), (len(values), 1))
    for site in set(sites or ()):
        here = np.array([name == site for name in sites or ()])
        if (known & here).any():
            result[here] = _mean(target, values[known & here])
    return result


def _mean(target: Target, values: NDArray[np.float64]) -> NDArray[np.float64]:
    if not target.classes:
        return np.array([values.mean()])
    return np.bincount(values.astype(np.int64), minlength=len(target.classes)) / len(values)


def linear(
    target: Target,
    table: NDArray[np.float64],
    values: NDArray[np.float64],
    train: NDArray[np.bool_],
    validation: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Predictions [G, K] or [G, 1] of a penalised linear model, and the penalty chosen.

    Args:
        table: [G, P]; columns are standardised by the training subjects, gaps take their mean.
        values: [G], NaN where missing.
        train: [G] bool, the training part; validation: [folds, G] bool inside it.
    """
    table = _standardised(table, train)
    known = train & np.isfinite(values)
    strengths = LOGISTIC if target.classes else RIDGE
    folds = [(known & ~judged, known & judged) for judged in validation]
    folds = [(fit, judged) for fit, judged in folds if judged.any() and len(np.unique(values[fit])) > 1]
    costs = [
        sum(_cost(target, _fit(target, table, values, fit, strength), values, judged) for fit, judged in folds)
        for strength in strengths
    ]
    best = float(strengths[int(np.argmin(costs))])
    name = "inverse_penalty" if target.classes else "penalty"
    return _fit(target, table, values, known, best), {name: best}


def _standardised(table: NDArray[np.float64], train: NDArray[np.bool_]) -> NDArray[np.float64]:
    there = np.isfinite(table[train])
    count = np.maximum(there.sum(0), 1)
    centre = np.where(there, table[train], 0).sum(0) / count
    filled = np.where(np.isfinite(table), table, centre)
    spread = filled[train].std(0)
    return (filled - centre) / np.where(spread > 1e-12, spread, 1)


def _fit(
    target: Target, table: NDArray[np.float64], values: NDArray[np.float64], fit: NDArray[np.bool_], strength: float
) -> NDArray[np.float64]:
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if not target.classes:
            return Ridge(alpha=strength).fit(table[fit], values[fit]).predict(table)[:, None]
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000)
        model.fit(table[fit], values[fit].astype(np.int64))
        result = np.zeros((len(table), len(target.classes)))
        result[:, model.classes_] = model.predict_proba(table)
        return result


def _cost(
    target: Target, predicted: NDArray[np.float64], values: NDArray[np.float64], judged: NDArray[np.bool_]
) -> float:
    """Squared error, or log loss, summed over the judged subjects."""
    if not target.classes:
        return float(((predicted[judged, 0] - values[judged]) ** 2).sum())
    chance = predicted[judged, values[judged].astype(np.int64)]
    return float(-np.log(np.maximum(chance, 1e-6)).sum())


def nothing_left(targets: Sequence[Target], constants: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """The baseline `zero` [G, 1] of every number; of classes the class frequencies, for which 0 says nothing.

    Args:
        constants: what `constant` says of every target.
    """
    return [own if target.classes else np.zeros_like(own) for target, own in zip(targets, constants)]


def baselines(
    targets: Sequence[Target],
    values: NDArray[np.float64],
    tables: Mapping[str, NDArray[np.float64]],
    train: NDArray[np.bool_],
    validation: NDArray[np.bool_],
    sites: Sequence[str] | None = None,
) -> dict[str, list[NDArray[np.float64]]]:
    """Predictions of every baseline, one array [G, K] or [G, 1] per target.

    Args:
        sites: [G] where training and test part share sites; None leaves the baseline `site` out.
    """
    found: dict[str, list[NDArray[np.float64]]] = {"constant": []}
    found |= {"site": []} if sites is not None else {}
    found |= {name: [] for name in tables}
    for column, target in enumerate(targets):
        own = values[:, column]
        found["constant"].append(constant(target, own, train))
        if sites is not None:
            found["site"].append(constant(target, own, train, sites))
        for name, table in tables.items():
            found[name].append(linear(target, table, own, train, validation)[0])
    return found

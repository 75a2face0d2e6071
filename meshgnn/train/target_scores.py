"""Scores of predicted traits of subjects, with intervals over subjects. N judged subjects, K classes, S seeds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from meshgnn.source.subjects import Target

DRAWS = 1000
Scores = dict[str, float]
NAMES = {"classification": ("balanced_accuracy", "auroc", "accuracy"), "regression": ("mae", "mse", "r2", "r")}
NEED_TWO = ("balanced_accuracy", "auroc", "r2", "r")  # tell nothing of subjects that are all alike
# The score that chance is told for.
JUDGED_BY = {"classification": "balanced_accuracy", "regression": "r"}


def classification_scores(true: NDArray[np.integer], probabilities: NDArray[np.floating]) -> Scores:
    """Balanced accuracy, AUROC and accuracy; only classes that occur in the truth count.

    AUROC is the chance that a subject of the class gets a higher probability of it than one of another class, ties
    counting half (Hanley & McNeil 1982); with more than two classes the mean over one class against the others.
    """
    present = np.unique(true)
    called = probabilities.argmax(1)  # of equal votes the first
    recall = [float((called[true == k] == k).mean()) for k in present]
    of_class = present[-1:] if probabilities.shape[1] == 2 else present
    return {
        "balanced_accuracy": float(np.mean(recall)),
        "auroc": float(np.mean([_auroc(true == k, probabilities[:, k]) for k in of_class])),
        "accuracy": float((called == true).mean()),
    }


def _auroc(inside: NDArray[np.bool_], votes: NDArray[np.floating]) -> float:
    hits, others = int(inside.sum()), int((~inside).sum())
    if not hits or not others:
        return float("nan")
    return float((rankdata(votes)[inside].sum() - hits * (hits + 1) / 2) / (hits * others))


def regression_scores(true: NDArray[np.floating], predicted: NDArray[np.floating]) -> Scores:
    """Mean absolute and mean squared error, R2 against the mean of the judged subjects, Pearson's r (0 where one side
    is constant)."""
    gap, around = true - predicted, true - true.mean()
    total = float((around**2).sum())
    side = predicted - predicted.mean()
    length = float(np.sqrt((side**2).sum() * total))
    return {
        "mae": float(np.abs(gap).mean()),
        "mse": float((gap**2).mean()),
        "r2": 1 - float((gap**2).sum()) / total if total > 0 else float("nan"),
        "r": float((side * around).sum()) / length if length > 1e-12 else 0.0,
    }


def scores_of(target: Target, true: NDArray[np.float64], predicted: NDArray[np.floating]) -> Scores:
    """Scores of one prediction: probabilities [N, K] of classes, or numbers [N, 1]."""
    if target.classes:
        return classification_scores(true.astype(np.int64), predicted)
    return regression_scores(true, predicted[:, 0].astype(np.float64))


def mean_scores(
    target: Target,
    true: NDArray[np.float64],
    by_seed: Sequence[NDArray[np.floating]],
    division: NDArray[np.integer],
) -> Scores:
    """Every score as a mean over seeds, and over divisions weighted by their subjects.

    Divisions are judged apart: each was predicted by a model of its own, and a constant that differs between them would
    rank their subjects the wrong way round if they were pooled.

    Args:
        division: [N] which division tested a subject. One whose subjects are all alike has no say in a score that needs
            two kinds.
    """
    rows, weights = [], []
    for number in np.unique(division):
        here = division == number
        each = [scores_of(target, true[here], predicted[here]) for predicted in by_seed]
        alike = len(np.unique(true[here])) < 2
        rows.append([[np.nan if alike and name in NEED_TWO else one[name] for name in one] for one in each])
        weights.append(float(here.sum()))
    table = np.array(rows)  # [divisions, seeds, scores]
    weight = np.where(np.isfinite(table), np.array(weights)[:, None, None], 0)
    total = weight.sum(0)
    mean = np.where(total > 0, np.nansum(np.nan_to_num(table) * weight, axis=0) / np.maximum(total, 1), np.nan)
    return {name: float(value) for name, value in zip(NAMES[target.kind], mean.mean(0))}


def resampled(groups: Sequence[str], draws: int = DRAWS, seed: int = 0) -> list[NDArray[np.int64]]:
    """Bootstrap samples of subjects: whole groups (families) are drawn with replacement (Davison & Hinkley 1997, 3.8).

    Returns:
        For every draw the rows drawn.
    """
    rng = np.random.default_rng(seed)
    names = {name: k for k, name in enumerate(dict.fromkeys(groups))}
    number = np.array([names[name] for name in groups])
    members = [np.flatnonzero(number == k) for k in range(len(names))]
    return [np.concatenate([members[k] for k in rng.integers(0, len(members), len(members))]) for _ in range(draws)]


def drawn_scores(
    target: Target,
    true: NDArray[np.float64],
    by_seed: Sequence[NDArray[np.floating]],
    division: NDArray[np.integer],
    samples: Sequence[NDArray[np.int64]],
) -> dict[str, NDArray[np.float64]]:
    """Every score over bootstrap samples [draws]; NaN where a sample cannot tell."""
    rows = [mean_scores(target, true[one], [votes[one] for votes in by_seed], division[one]) for one in samples]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def interval(drawn: NDArray[np.float64]) -> list[float]:
    """The middle 95 % of draws; NaN draws are left out."""
    known = drawn[np.isfinite(drawn)]
    if not len(known):
        return [float("nan")] * 2
    low, high = np.percentile(known, [2.5, 97.5])
    return [float(low), float(high)]


def chance_interval(
    target: Target,
    true: NDArray[np.float64],
    by_seed: Sequence[NDArray[np.floating]],
    division: NDArray[np.integer],
) -> list[float]:
    """Where the middle 95 % of the score `JUDGED_BY` lie if the true targets of each division's subjects are dealt out
    at random among them while the predictions stay: what a method that knows nothing of a subject would reach."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(DRAWS):
        dealt = true.copy()
        for number in np.unique(division):
            here = division == number
            dealt[here] = rng.permutation(true[here])
        found.append(mean_scores(target, dealt, by_seed, division)[JUDGED_BY[target.kind]])
    return interval(np.array(found))


def judged(
    target: Target,
    true: NDArray[np.float64],
    by_seed: Sequence[NDArray[np.floating]],
    division: NDArray[np.integer],
    samples: Sequence[NDArray[np.int64]],
) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """One row of the tables (scores and their intervals), and the drawn scores for differences."""
    drawn = drawn_scores(target, true, by_seed, division, samples)
    found: dict[str, Any] = dict(mean_scores(target, true, by_seed, division))
    found["intervals"] = {name: interval(values) for name, values in drawn.items()}
    return found, drawn


def differences(
    ours: tuple[dict[str, Any], dict[str, NDArray[np.float64]]],
    theirs: tuple[dict[str, Any], dict[str, NDArray[np.float64]]],
) -> dict[str, dict[str, float]]:
    """Every score of ours minus theirs, with a paired interval over the same samples of subjects."""
    found = {}
    for name, drawn in ours[1].items():
        low, high = interval(drawn - theirs[1][name])
        found[name] = {"difference": ours[0][name] - theirs[0][name], "low": low, "high": high}
    return found

"""Scores of features against areas. N training rows, Q test rows, C channels; groups are sections. No torch.

Whatever is chosen (strength of the penalty, number of neighbours) is chosen on training sections alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.probe import knn_classes
from meshgnn.confusion import macro_f1
from meshgnn.errors import InputError

Floats = NDArray[np.floating]
Classes = NDArray[np.integer]
PENALTIES = (0.01, 0.1, 1.0)  # inverse strengths that the linear probe chooses among
NEIGHBOURS = (1, 5, 15, 40)
RECALL_AT = (1, 10)
MOST_PAIRS = 20000
Fit = Callable[[Floats, Classes, Floats, float], Classes]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Features of nodes with a known area.

    Args:
        values: [N, C], finite.
        labels: [N] classes, none negative.
        groups: [N] sections; sections of different brains have different numbers.
        places_mm: [N, 3] in the brain's space.
    """

    values: Floats
    labels: Classes
    groups: Classes
    places_mm: Floats

    def __post_init__(self) -> None:
        count = len(self.values)
        if np.ndim(self.values) != 2 or not len(self.labels) == len(self.groups) == len(self.places_mm) == count:
            raise InputError("features, labels, sections and places must have one row per node")
        if not count:
            raise InputError("no node with both a feature and an area; nothing to judge")
        if not np.isfinite(self.values).all():
            raise InputError("features that are not finite cannot be judged; mask those rows")

    def __getitem__(self, keep: NDArray[Any]) -> "Rows":
        return Rows(values=self.values[keep], labels=self.labels[keep], groups=self.groups[keep],
                    places_mm=self.places_mm[keep])  # fmt: skip


def standardised(train: Floats, *others: Floats) -> list[NDArray[np.float64]]:
    """All with mean 0 and sd 1 of the columns of `train` [N, C]; constant columns become 0."""
    mean, sd = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    sd = np.where(sd > 1e-9, sd, np.inf)
    return [(one - mean) / sd for one in (train, *others)]


def linear_classes(train: Floats, labels: Classes, test: Floats, penalty: float) -> Classes:
    """Classes [Q] by multinomial logistic regression with balanced class weights (scikit-learn).

    Args:
        train, test: [N, C] and [Q, C]; standardised here.
        labels: [N].
        penalty: inverse strength of the square penalty.
    """
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(labels)) == 1:
        return np.full(len(test), labels[0])
    known, unknown = standardised(train, test)
    model = LogisticRegression(C=penalty, max_iter=300, tol=1e-3, class_weight="balanced")
    with np.errstate(all="ignore"):
        return np.asarray(_quiet(model.fit, known, labels).predict(unknown))


def neighbour_classes(train: Floats, labels: Classes, test: Floats, neighbours: float) -> Classes:
    """Classes [Q] by cosine nearest neighbours of standardised features (`features.probe.knn_classes`)."""
    known, unknown = standardised(train, test)
    return knn_classes(known, labels, unknown, int(neighbours))


def chosen(fit: Fit, settings: Sequence[float], train: Rows, folds: int = 3) -> float:
    """The setting with the best macro-F1 on left-out sections of the training rows.

    Sections are dealt out to folds in the order of their numbers. With a single section there is nothing to choose on:
    the middle setting.
    """
    sections = np.unique(train.groups)
    if len(sections) < 2:
        return settings[len(settings) // 2]
    fold = np.searchsorted(sections, train.groups) % min(folds, len(sections))
    totals = []
    for setting in settings:
        found = np.full(len(fold), -1)
        for one in np.unique(fold):
            held = fold == one
            found[held] = fit(train.values[~held], train.labels[~held], train.values[held], setting)
        totals.append(macro_f1(train.labels, found))
    return settings[int(np.argmax(totals))]


def retrieval(values: Floats, labels: Classes, groups: Classes) -> dict[str, float]:
    """Mean average precision and recall at k, cosine similarity: does a node find nodes of its area in other sections?

    Candidates of a query are all rows of other sections. Average precision as in Manning et al. 2008, section 8.4;
    recall at k is the share of queries with a node of their area among the first k. Queries whose area lies in no
    other section are left out, and counted (`retrieval_left_out`).
    """
    z = standardised(values)[0]
    z /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    precision, hits, left = [], [], 0
    for query in range(len(z)):
        other = groups != groups[query]
        same = labels[other] == labels[query]
        if not same.any():
            left += 1
            continue
        ranked = same[np.argsort(-(z[other] @ z[query]), kind="stable")]
        at = np.flatnonzero(ranked) + 1
        precision.append(float((np.arange(1, len(at) + 1) / at).mean()))
        hits.append([bool(ranked[:k].any()) for k in RECALL_AT])
    mean = np.mean(hits, axis=0) if hits else np.full(len(RECALL_AT), np.nan)
    scores = {"map": float(np.mean(precision)) if precision else float("nan")}
    return scores | {f"recall_at_{k}": float(v) for k, v in zip(RECALL_AT, mean)} | {"retrieval_left_out": float(left)}


def clusters(values: Floats, labels: Classes, seed: int = 0) -> dict[str, float]:
    """Purity and adjusted Rand index (Hubert & Arabie 1985) of as many clusters as areas, k-means and Ward."""
    from sklearn.cluster import AgglomerativeClustering, KMeans
    from sklearn.metrics import adjusted_rand_score

    z, count = standardised(values)[0], len(np.unique(labels))
    found: dict[str, Any] = {
        "kmeans": KMeans(count, n_init=3, random_state=seed).fit_predict(z),
        "ward": AgglomerativeClustering(count).fit_predict(z),
    }
    scores = {}
    for name, cluster in found.items():
        table = np.zeros((int(cluster.max()) + 1, int(labels.max()) + 1))
        np.add.at(table, (cluster, labels), 1)
        scores[f"{name}_purity"] = float(table.max(1).sum() / len(labels))
        scores[f"{name}_ari"] = float(adjusted_rand_score(labels, cluster))
    return scores


def spatial_spearman(values: Floats, places_mm: Floats, seed: int = 0) -> float:
    """Spearman correlation of the distance in space with that of features (cosine), over random pairs of nodes."""
    from scipy.stats import spearmanr

    rng = np.random.default_rng(seed)
    one, other = rng.integers(0, len(values), (2, MOST_PAIRS))
    one, other = one[one != other], other[one != other]
    z = standardised(values)[0]
    z /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    apart = np.linalg.norm(places_mm[one] - places_mm[other], axis=1)
    unlike = 1 - (z[one] * z[other]).sum(1)
    return float(spearmanr(apart, unlike).statistic) if len(one) and unlike.std() > 0 else float("nan")


def _quiet(fit: Callable[..., Any], *arguments: Any) -> Any:
    """Not converged after all iterations is an answer too: the penalty is chosen on what it predicts."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit(*arguments)

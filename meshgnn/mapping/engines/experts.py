"""Carried outlines and votes of a model of the features, joined as a product of experts and calibrated.

    log p  ~  (log[(1 - m) carried + m prior] + w log votes) / T,     m = 1 - (1 - LEAST) exp(-d / L)

d is the geodesic distance to the nearest node of which anything is known. Weight w, reach L and temperature T are those
of least log loss on hidden sections. V nodes, A areas that were drawn; column A is "none of them".
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from meshgnn.mapping.engines.evidence import Evidence
from meshgnn.train.adaptation import LEAST_P, fitted_discriminant, normalised
from meshgnn.train.same_inputs import Discriminant

LEAST = 0.02  # share of the prior even beside what was drawn
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
REACHES_MM = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
TEMPERATURES = (0.7, 0.85, 1.0, 1.2, 1.5, 2.0)
SAMPLE = 3000  # hidden nodes on which the three are chosen

Votes = Callable[[Evidence, NDArray[np.float32]], NDArray[np.float32]]  # evidence, carried [V, A + 1] -> log p


@dataclass(frozen=True, kw_only=True)
class Joining:
    """w, L in mm and T; the defaults hold where too little was drawn to choose them."""

    weight: float = 0.3
    reach_mm: float = 16.0
    temperature: float = 1.0

    def apply(
        self, carried: NDArray[np.floating], away_mm: NDArray[np.floating], votes: NDArray[np.floating],
        prior: NDArray[np.floating],
    ) -> NDArray[np.float32]:  # fmt: skip
        """[V, A + 1] probabilities; rows of which nothing was carried rest on prior and votes."""
        mixed = 1 - (1 - LEAST) * np.exp(-np.where(np.isfinite(away_mm), away_mm, 1e6) / self.reach_mm)[:, None]
        log_p = np.log((1 - mixed) * carried + mixed * prior + 1e-9) + self.weight * votes
        return np.exp(normalised(log_p / self.temperature)).astype(np.float32)

    def plain(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class Hidden:
    """What is said with some drawn sections hidden.

    Args:
        sections: that were hidden.
        nodes: [H] nodes on them of which something is known; allowed: [H, A + 1] bool, what they may be.
        carried, away_mm, votes, prior: as `Joining.apply` takes them, of all nodes.
    """

    sections: tuple[int, ...]
    nodes: NDArray[np.intp]
    allowed: NDArray[np.bool_]
    carried: NDArray[np.float32]
    away_mm: NDArray[np.float32]
    votes: NDArray[np.float32]
    prior: NDArray[np.float32]


def allowed(evidence: Evidence) -> NDArray[np.bool_]:
    """[V, A + 1] what every node may be by what was drawn."""
    one = evidence.value.any(1)
    areas = np.where(one[:, None], evidence.value > 0, ~evidence.known)
    return np.column_stack([areas, ~one])


def class_prior(evidence: Evidence) -> NDArray[np.float32]:
    """[A + 1] how frequent every area is among labelled nodes, each with one more."""
    count = np.bincount(evidence.labels[evidence.labels >= 0], minlength=evidence.value.shape[1] + 1) + 1.0
    if not (evidence.labels == evidence.value.shape[1]).any() and evidence.known.all(1).any():
        count[-1] = 0.1
    return (count / count.sum()).astype(np.float32)


def choose(hidden: Sequence[Hidden]) -> tuple[Joining, float]:
    """The joining of least log loss on hidden nodes, and that loss; the default and NaN without any."""
    found, total = [], sum(len(one.nodes) for one in hidden)
    for one in hidden:
        every = max(1, total // SAMPLE)
        nodes, may = one.nodes[::every], one.allowed[::every]
        if len(nodes):
            found.append((one.carried[nodes], one.away_mm[nodes], one.votes[nodes], one.prior, may))
    if not found:
        return Joining(), float("nan")

    def loss(joining: Joining) -> float:
        return float(np.concatenate([
            -np.log(np.maximum((joining.apply(*one[:4]) * one[4]).sum(1), LEAST_P)) for one in found
        ]).mean())  # fmt: skip

    joinings = [Joining(weight=w, reach_mm=reach) for w, reach in product(WEIGHTS, REACHES_MM)]
    best = min(joinings, key=loss)
    tempered = [Joining(weight=best.weight, reach_mm=best.reach_mm, temperature=t) for t in TEMPERATURES]
    best = min(tempered, key=loss)
    return best, loss(best)


def training_labels(evidence: Evidence, carried: NDArray[np.float32]) -> NDArray[np.int32]:
    """[V] labels for a model of the features, -1 where there is none.

    A node that is known to lie outside the outlines of its section, but may be of an area that was not drawn there,
    counts as none of the areas if what was carried to it says so.
    """
    count = evidence.value.shape[1]
    open_ = evidence.known.any(1) & (evidence.labels < 0) & (carried[:, -1] > 0.5)
    return np.where(open_, count, evidence.labels).astype(np.int32)


def discriminant_votes(features: NDArray[np.floating]) -> Votes:
    """Log probabilities [V, A + 1] of a shrunk linear discriminant on features [V, D]; even without two classes."""

    def vote(evidence: Evidence, carried: NDArray[np.float32]) -> NDArray[np.float32]:
        classes = evidence.value.shape[1] + 1
        labels = training_labels(evidence, carried)
        nodes = np.flatnonzero(labels >= 0)
        even = np.full((len(labels), classes), -np.log(classes), np.float32)
        if not features.shape[1] or len(np.unique(labels[nodes])) < 2:
            return even
        model = fitted_discriminant(features[nodes], labels[nodes])
        fitted = Discriminant(slope=model.coef_, offset=model.intercept_, classes=model.classes_)
        return fitted.log_p(features, classes)

    return vote

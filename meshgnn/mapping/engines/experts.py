"""Carried outlines and votes of a model of the features, joined as a product of experts and calibrated.

    log p  ~  (log[(1 - m) carried + m around] + w log votes) / (1 + d / t),     m = 1 - (1 - LEAST) exp(-d / REACH_MM)

d is the geodesic distance to the nearest node of which anything is known; `around` is what was carried, blurred, with a
share of how frequent areas are. Weight w and length t are those of least log loss on hidden sections. These lie farther
from what is shown than undrawn sections do in the map; so what is learnt of doubt must depend on the distance. V nodes,
A areas that were drawn; column A is "none of them".
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from meshgnn.data.split import inner_edges
from meshgnn.graph import MeshGraph
from meshgnn.mapping.engines.evidence import Evidence
from meshgnn.mapping.situation import edge_lengths_mm
from meshgnn.mesh.operators import adjacency
from meshgnn.train.adaptation import LEAST_P, fitted_discriminant, normalised
from meshgnn.train.same_inputs import Discriminant

LEAST = 0.02  # share of what lies around even beside what was drawn
REACH_MM = 128.0
BLUR_MM = 6.0  # width over which it is blurred
FREQUENT = 0.1  # share of how frequent areas are
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5)
LENGTHS_MM = (8.0, 16.0, 32.0, 64.0, 128.0)
FARTHEST_MM = 1000.0
MOST_ROUNDS = 100
SAMPLE = 3000  # hidden nodes on which the two are chosen

Votes = Callable[[Evidence, NDArray[np.float32]], NDArray[np.float32]]  # evidence, carried [V, A + 1] -> log p


@dataclass(frozen=True, kw_only=True)
class Joining:
    """w, and t in mm; the defaults hold where too little was drawn to choose them."""

    weight: float = 0.3
    length_mm: float = 16.0

    def apply(
        self, carried: NDArray[np.floating], away_mm: NDArray[np.floating], votes: NDArray[np.floating],
        around: NDArray[np.floating],
    ) -> NDArray[np.float32]:  # fmt: skip
        """[V, A + 1] probabilities; rows of which nothing was carried rest on frequencies and votes."""
        away = np.minimum(away_mm, FARTHEST_MM)[:, None]
        mixed = 1 - (1 - LEAST) * np.exp(-away / REACH_MM)
        log_p = np.log((1 - mixed) * carried + mixed * around + 1e-9) + self.weight * votes
        return np.exp(normalised(log_p / (1 + away / self.length_mm))).astype(np.float32)

    def plain(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class Hidden:
    """What is said with some drawn sections hidden.

    Args:
        sections: that were hidden.
        nodes: [H] nodes on them of which something is known; allowed: [H, A + 1] bool, what they may be.
        carried, away_mm, votes, around: as `Joining.apply` takes them, of all nodes.
    """

    sections: tuple[int, ...]
    nodes: NDArray[np.intp]
    allowed: NDArray[np.bool_]
    carried: NDArray[np.float32]
    away_mm: NDArray[np.float32]
    votes: NDArray[np.float32]
    around: NDArray[np.float32]


def allowed(evidence: Evidence) -> NDArray[np.bool_]:
    """[V, A + 1] what every node may be by what was drawn."""
    one = np.asarray(evidence.value.any(1))
    areas = np.where(one[:, None], evidence.value > 0, ~evidence.known)
    return np.column_stack([areas, ~one])


def around(graph: MeshGraph, evidence: Evidence, carried: NDArray[np.float32]) -> NDArray[np.float32]:
    """[V, A + 1] what was carried to the nodes around, and how frequent areas are among labelled nodes."""
    count = np.bincount(evidence.labels[evidence.labels >= 0], minlength=carried.shape[1]) + 1.0
    near = adjacency(graph.n_nodes, inner_edges(graph)) + sparse.eye_array(graph.n_nodes, dtype=np.float32)
    mean = sparse.csr_array(sparse.diags_array(1 / np.asarray(near.sum(1)).ravel()) @ near, dtype=np.float32)
    rounds = round((BLUR_MM / float(np.median(edge_lengths_mm(graph)))) ** 2)
    for _ in range(min(max(rounds, 1), MOST_ROUNDS)):
        carried = mean @ carried
    return ((1 - FREQUENT) * carried + FREQUENT * count / count.sum()).astype(np.float32)


def choose(hidden: Sequence[Hidden]) -> tuple[Joining, float]:
    """The joining of least log loss on hidden nodes, and that loss; the default and NaN without any."""
    found, total = [], sum(len(one.nodes) for one in hidden)
    for one in hidden:
        every = max(1, total // SAMPLE)
        nodes, may = one.nodes[::every], one.allowed[::every]
        if len(nodes):
            found.append((one.carried[nodes], one.away_mm[nodes], one.votes[nodes], one.around[nodes], may))
    if not found:
        return Joining(), float("nan")

    def loss(joining: Joining) -> float:
        return float(np.concatenate([
            -np.log(np.maximum((joining.apply(*one[:4]) * one[4]).sum(1), LEAST_P)) for one in found
        ]).mean())  # fmt: skip

    joinings = [Joining(weight=w, length_mm=length) for w, length in product(WEIGHTS, LENGTHS_MM)]
    best = min(joinings, key=loss)
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

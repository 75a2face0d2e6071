"""Models that see exactly what the network sees, with its folds, its ensembling and its calibration.

position_knn        5, 25 or 50 nearest training nodes in aligned coordinates
position_prior      share of each area among the 50 nearest, + 0.001: a probabilistic atlas
lda                 shrunk linear discriminant on the multi-scale features (Ledoit & Wolf 2004), uniform class prior
prior_lda           log position_prior + w log lda, normalised; w chosen on validation nodes
same_features_trees extra-trees (100 to a fold, leaf 3, balanced) on the features
same_inputs_trees   the same on features and aligned coordinates
registered_prior    share among the 5 nearest on the sphere on which hemispheres are registered, where there is one
registered_lda      log registered_prior + w log lda

Every row has one member per validation fold. A member never sees the labels of its fold; its votes there choose what is
to be chosen (neighbours, weights, prior shift, temperature). Members are calibrated one by one and then averaged, as
the network's are: the calibration is fitted on votes of single members and applied to such votes.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from threadpoolctl import threadpool_limits

from meshgnn.data.model_inputs import ModelInputs
from meshgnn.train.baselines import trees
from meshgnn.train.calibration import Calibration, pooled
from meshgnn.train.metrics import macro_f1

FLOOR = 1e-3
NEIGHBOURS = (5, 25, 50)
PRIOR_NEIGHBOURS, REGISTERED_NEIGHBOURS = 50, 5
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)
TREES = 100
NO_REGISTRATION = "no registered sphere (surface sphere_reg) on which hemispheres correspond"

Member = Callable[[NDArray[np.bool_], int], NDArray[np.float32]]  # training nodes, fold -> log p [V, K]


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """One row of one seed.

    Args:
        probabilities: [V, K], mean over members.
        out_of_fold: [N, K] of the labelled training nodes in order, each by the member that did not train on it.
        fits: members averaged.
        sees: inputs, in words.
        chosen: what was chosen on validation nodes.
    """

    probabilities: NDArray[np.float32]
    out_of_fold: NDArray[np.float32]
    fits: int
    sees: str
    chosen: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Votes:
    """log p [V, K] of every member, and what the right member says of every labelled node (out of fold)."""

    members: tuple[NDArray[np.float32], ...]
    out_of_fold: NDArray[np.float32]

    def joined(self, other: "_Votes", weight: float) -> "_Votes":
        """Product of experts: log p + weight log p of the other, normalised."""
        return _Votes(
            members=tuple(_normalised(a + weight * b) for a, b in zip(self.members, other.members)),
            out_of_fold=_normalised(self.out_of_fold + weight * other.out_of_fold),
        )


def _normalised(log_p: NDArray[np.floating]) -> NDArray[np.float32]:
    top = log_p.max(1, keepdims=True)
    return (log_p - top - np.log(np.exp(log_p - top).sum(1, keepdims=True))).astype(np.float32)


def neighbour_shares(
    points: NDArray[np.floating],
    labels: NDArray[np.integer],
    known: NDArray[np.bool_],
    n_classes: int,
    count: int,
    asked: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """[V, K] share of each class among the `count` nearest known nodes; rows not asked about are 0."""
    asked = np.ones(len(points), bool) if asked is None else asked
    own = labels[known]
    count = min(count, len(own))
    nearest = cKDTree(points[known]).query(points[asked], k=count)[1].reshape(int(asked.sum()), -1)
    votes = np.zeros((len(nearest), n_classes), np.float32)
    np.add.at(votes, (np.arange(len(votes))[:, None], own[nearest]), 1 / count)
    shares = np.zeros((len(points), n_classes), np.float32)
    shares[asked] = votes
    return shares


class SameInputs:
    """All rows of one seed; what several rows need is computed once."""

    def __init__(self, inputs: ModelInputs, folds: Sequence[int], seed: int) -> None:
        """folds: rows of the inputs' fold masks that belong to this seed."""
        self.inputs, self.folds, self.seed = inputs, tuple(folds), seed
        self._kept: dict[str, _Votes] = {}

    def rows(self) -> Iterator[tuple[str, Callable[[], Fitted]]]:
        """(name, fit), cheapest first."""
        i = self.inputs
        position, features, registered = (x.shape[1] > 0 for x in (i.coordinates, i.features, i.registered))
        if position:
            yield "position_knn", self._position_knn
            yield "position_prior", partial(self._plain, "position_prior", "aligned coordinates")
        if features:
            yield "lda", partial(self._plain, "lda", "the network's features")
            yield "same_features_trees", partial(self._plain, "features_trees", "the network's features")
        if position and features:
            yield "prior_lda", partial(self._product, "position_prior", "the network's inputs")
            yield "same_inputs_trees", partial(self._plain, "trees", "the network's inputs")
        if registered:
            yield "registered_prior", partial(self._plain, "registered_prior", "registered spheres")
        if registered and features:
            sees = "the network's features, registered spheres"
            yield "registered_lda", partial(self._product, "registered_prior", sees)

    # -- rows -----------------------------------------------------------------------------------------------------

    def _plain(self, name: str, sees: str) -> Fitted:
        return self._finished(self._votes(name), sees, {})

    def _position_knn(self) -> Fitted:
        inputs = self.inputs
        choices = {count: self._ensemble(partial(self._nearest, inputs.coordinates, count)) for count in NEIGHBOURS}
        best = max(choices, key=lambda count: self._score(choices[count]))
        return self._finished(choices[best], "aligned coordinates", {"neighbours": best})

    def _product(self, prior: str, sees: str) -> Fitted:
        first, second = self._votes(prior), self._votes("lda")
        joined = {weight: first.joined(second, weight) for weight in WEIGHTS}
        best = max(joined, key=lambda weight: self._score(joined[weight]))
        return self._finished(joined[best], sees, {"weight": best})

    def _finished(self, votes: _Votes, sees: str, chosen: dict[str, Any]) -> Fitted:
        inputs = self.inputs
        calibration = Calibration.fit(votes.out_of_fold, inputs.labels[inputs.known], inputs.prior)
        return Fitted(
            probabilities=pooled(votes.members, calibration, inputs.prior),
            out_of_fold=calibration.apply(votes.out_of_fold, inputs.prior),
            fits=len(votes.members),
            sees=sees,
            chosen=chosen,
        )

    def _score(self, votes: _Votes) -> float:
        inputs = self.inputs
        return macro_f1(inputs.labels[inputs.known], votes.out_of_fold.argmax(1), inputs.n_classes)

    # -- members --------------------------------------------------------------------------------------------------

    def _votes(self, name: str) -> _Votes:
        if name not in self._kept:
            inputs = self.inputs
            makers: dict[str, Member] = {
                "position_prior": partial(self._nearest, inputs.coordinates, PRIOR_NEIGHBOURS),
                "registered_prior": partial(self._nearest, inputs.registered, REGISTERED_NEIGHBOURS),
                "lda": self._lda,
                "features_trees": partial(self._trees, inputs.features),
                "trees": partial(self._trees, inputs.everything()),
            }
            self._kept[name] = self._ensemble(makers[name])
        return self._kept[name]

    def _ensemble(self, member: Member) -> _Votes:
        """One member per fold. Nodes that no fold validates keep uniform votes."""
        inputs = self.inputs
        members = []
        own = np.full((len(inputs.labels), inputs.n_classes), -np.log(inputs.n_classes), np.float32)
        for fold in self.folds:
            log_p = member(inputs.train[fold], fold)
            judged = inputs.validation[fold]
            own[judged] = log_p[judged]
            members.append(log_p)
        return _Votes(members=tuple(members), out_of_fold=own[inputs.known])

    def _nearest(
        self, points: NDArray[np.floating], count: int, known: NDArray[np.bool_], fold: int
    ) -> NDArray[np.float32]:
        """Shares of areas among the nearest training nodes; on validation nodes, among those of other brains.

        A new brain has no labels of its own near by: with several training brains, validation nodes are treated alike,
        so that weights are chosen for a prior as unsure as it will be.
        """
        inputs = self.inputs
        shares = neighbour_shares(points, inputs.labels, known, inputs.n_classes, count)
        judged = inputs.validation[fold]
        if len(np.unique(inputs.brain[known])) > 1:
            for brain in np.unique(inputs.brain[judged]):
                asked, others = judged & (inputs.brain == brain), known & (inputs.brain != brain)
                shares[asked] = neighbour_shares(points, inputs.labels, others, inputs.n_classes, count, asked)[asked]
        return _normalised(np.log(shares + FLOOR))

    def _lda(self, known: NDArray[np.bool_], fold: int) -> NDArray[np.float32]:
        inputs = self.inputs
        labels = inputs.labels[known]
        classes = np.unique(labels)
        result = np.full((len(inputs.labels), inputs.n_classes), np.log(1e-6), np.float32)
        if len(classes) < 2:
            result[:, classes] = 0
            return _normalised(result)
        model = LinearDiscriminantAnalysis(
            solver="lsqr", shrinkage="auto", priors=np.full(len(classes), 1 / len(classes))
        )
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore")  # areas with a single node have no covariance
            model.fit(inputs.features[known].astype(np.float64), labels)
            result[:, classes] = np.maximum(model.predict_log_proba(inputs.features), np.log(1e-6))
        return _normalised(result)

    def _trees(self, x: NDArray[np.float32], known: NDArray[np.bool_], fold: int) -> NDArray[np.float32]:
        inputs = self.inputs
        shares = trees(x, inputs.labels, known, inputs.n_classes, self.seed + 1000 * fold, TREES)
        return _normalised(np.log(shares + FLOOR))

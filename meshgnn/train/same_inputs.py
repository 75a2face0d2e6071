"""Models that see exactly what the network sees, as strong as they can be made without looking at the test part.

position_knn        5, 25 or 50 nearest training nodes in aligned coordinates
position_prior      share of each area among the 50 nearest, + 0.001: a probabilistic atlas
lda                 shrunk linear discriminant on the multi-scale features (Ledoit & Wolf 2004), uniform class prior
prior_lda           log position_prior + w log lda, normalised; w chosen on votes out of fold
adapted_prior_lda   the same, with class means estimated anew in every brain (`adaptation.py`); w chosen likewise
same_features_trees extra-trees (300, leaf 3, balanced) on the features
same_inputs_trees   the same on features and aligned coordinates
registered_prior    share among the 5 nearest on the sphere on which hemispheres are registered, where there is one
registered_lda      log registered_prior + w log lda
adapted_registered_lda   the same, adapted

Votes out of fold choose what is to be chosen (neighbours, weights, prior shift, temperature), as they do for the
network; then each model is fitted once on all training labels: nothing here is stopped early, so nothing has to be left
out.

A hidden block is no test for a position prior: a new hemisphere has homologues of all areas, only not exactly where
they are looked for. So a prior's votes for labelled nodes come from the other training brains; where there is one
training brain alone, from itself, looked up at places that a random smooth warp of 6 mm (root mean square) has moved.
Likewise what is joined with a prior: where there are several training brains, the discriminant that votes for one of
them was fitted on the others, and class means are adapted to it as to a new brain; where there is one, to each fold.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import log_softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from threadpoolctl import threadpool_limits

from meshgnn.confusion import macro_f1
from meshgnn.data.model_inputs import ModelInputs, edges_among
from meshgnn.train.adaptation import LEAST_P, Adaptation, fitted_discriminant, normalised
from meshgnn.train.baselines import trees
from meshgnn.train.calibration import Calibration
from meshgnn.train.unmapped import unlikeness

FLOOR = 1e-3
NEIGHBOURS = (5, 25, 50)
PRIOR_NEIGHBOURS, REGISTERED_NEIGHBOURS = 50, 5
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)
TREES, FOLD_TREES = 300, 100  # of the model, and of each one that only votes out of fold
WARP_MM, WARPS = 6.0, 5
SPHERE_MM = 100.0  # radius of the registered sphere, by convention
NO_REGISTRATION = "no registered sphere (surface sphere_reg) on which hemispheres correspond"

Fit = Callable[[NDArray[np.bool_], int], NDArray[np.float32]]  # training nodes, number -> log p [V, K]


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """One row of one seed.

    Args:
        probabilities: [V, K], fitted on all training labels.
        out_of_fold: [N, K] of the labelled training nodes in order, by models that did not train on them.
        sees: inputs, in words.
        calibration: of its votes.
        chosen: what was chosen on validation nodes.
    """

    probabilities: NDArray[np.float32]
    out_of_fold: NDArray[np.float32]
    sees: str
    calibration: Calibration
    chosen: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Votes:
    """log p [V, K] of the model fitted on everything; and of models that did not see the brain or fold of a node.

    The latter `elsewhere` [V, K], which says nothing where it was not asked for, and `out_of_fold` [N, K], its labelled
    nodes.
    """

    whole: NDArray[np.float32]
    out_of_fold: NDArray[np.float32]
    elsewhere: NDArray[np.float32]

    def joined(self, other: "_Votes", weight: float) -> "_Votes":
        """See `joined`."""
        return _Votes(
            whole=joined(self.whole, other.whole, weight),
            out_of_fold=joined(self.out_of_fold, other.out_of_fold, weight),
            elsewhere=joined(self.elsewhere, other.elsewhere, weight),
        )


def joined(log_p: NDArray[np.floating], other: NDArray[np.floating], weight: float) -> NDArray[np.float32]:
    """Product of experts: log p + weight log p of the other [V, K], normalised."""
    return normalised(log_p + weight * other)


@dataclass(frozen=True, kw_only=True, eq=False)
class Discriminant:
    """A fitted linear discriminant of J classes on D features.

    Args:
        slope: [J, D] (or [1, D] where there are two classes); offset: [J] or [1].
        classes: [J] numbers of the classes.
    """

    slope: NDArray[np.float64]
    offset: NDArray[np.float64]
    classes: NDArray[np.int64]

    def log_p(self, features: NDArray[np.floating], n_classes: int) -> NDArray[np.float32]:
        """[V, K] for features [V, D]; a class that it was not fitted on gets the least probability."""
        decision = features.astype(np.float64) @ self.slope.T + self.offset
        if decision.shape[1] == 1:
            decision = np.concatenate([np.zeros_like(decision), decision], axis=1)
        result = np.full((len(features), n_classes), np.log(LEAST_P), np.float32)
        result[:, self.classes] = np.maximum(log_softmax(decision, axis=1), np.log(LEAST_P))
        return normalised(result)


def prior_from(
    points: NDArray[np.floating], labels: NDArray[np.integer], places: NDArray[np.floating], n_classes: int,
    count: int = PRIOR_NEIGHBOURS,
) -> NDArray[np.float32]:  # fmt: skip
    """Log position prior [P, K] of `places` [P, 3] from the `count` nearest of labelled points [N, 3]."""
    known = np.ones(len(labels), bool)
    shares = neighbour_shares(points, labels, known, places, n_classes, count)
    return normalised(np.log(shares + FLOOR))


def neighbour_shares(
    points: NDArray[np.floating],
    labels: NDArray[np.integer],
    known: NDArray[np.bool_],
    places: NDArray[np.floating],
    n_classes: int,
    count: int,
) -> NDArray[np.float32]:
    """[P, K] share of each class among the `count` nodes of `known` [V] nearest to each of `places` [P, 3]."""
    own = labels[known]
    count = min(count, len(own))
    nearest = cKDTree(points[known]).query(places, k=count)[1].reshape(len(places), -1)
    votes = np.zeros((len(places), n_classes), np.float32)
    np.add.at(votes, (np.arange(len(votes))[:, None], own[nearest]), 1 / count)
    return votes


def smooth_warp(points: NDArray[np.floating], amplitude: float, rng: np.random.Generator) -> NDArray[np.floating]:
    """Points [N, 3] moved by a smooth random field of eight waves; `amplitude` is its root mean square on each axis."""
    directions, phases = 1.2 * rng.standard_normal((3, 8)), 2 * np.pi * rng.random(8)
    return points + np.sin(points @ directions + phases) @ (rng.standard_normal((8, 3)) * amplitude / 2)


class SameInputs:
    """All rows of one seed; what several rows need is computed once."""

    def __init__(self, inputs: ModelInputs, folds: Sequence[int], seed: int) -> None:
        """folds: rows of the inputs' fold masks that belong to this seed."""
        self.inputs, self.folds, self.seed = inputs, tuple(folds), seed
        self._kept: dict[str, _Votes] = {}
        self._fits: dict[bytes, LinearDiscriminantAnalysis] = {}
        # Those fitted on all labels, once a row has asked for them.
        self.discriminant: Discriminant | None = None
        self.adaptation: Adaptation | None = None

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
            if self._adaptable:
                yield "adapted_prior_lda", partial(self._adapted, "position_prior", "the network's inputs")
            yield "same_inputs_trees", partial(self._plain, "trees", "the network's inputs")
        if registered:
            yield "registered_prior", partial(self._plain, "registered_prior", "registered spheres")
        if registered and features:
            sees = "the network's features, registered spheres"
            yield "registered_lda", partial(self._product, "registered_prior", sees)
            if self._adaptable:
                yield "adapted_registered_lda", partial(self._adapted, "registered_prior", sees)

    def prior_out_of_fold(self, name: str) -> NDArray[np.float32]:
        """[N, K] log p of position_prior or registered_prior for labelled training nodes; see the head of this file."""
        return self._votes(name).out_of_fold

    # -- rows -----------------------------------------------------------------------------------------------------

    def _plain(self, name: str, sees: str) -> Fitted:
        return self._finished(self._votes(name), sees, {})

    def _position_knn(self) -> Fitted:
        inputs = self.inputs
        choices = {count: self._nearest(inputs.coordinates, inputs.unit_mm, count) for count in NEIGHBOURS}
        best = max(choices, key=lambda count: self._score(choices[count]))
        return self._finished(choices[best], "aligned coordinates", {"neighbours": best})

    def _product(self, prior: str, sees: str) -> Fitted:
        first, second = self._votes(prior), self._votes("lda_elsewhere")
        joined = {weight: first.joined(second, weight) for weight in WEIGHTS}
        best = max(joined, key=lambda weight: self._score(joined[weight]))
        return self._finished(joined[best], sees, {"weight": best})

    def _adapted(self, prior: str, sees: str) -> Fitted:
        start = self._votes(prior)
        elsewhere = {weight: self._adapted_elsewhere(start, weight) for weight in WEIGHTS}
        votes = {weight: self._of(start.whole, own) for weight, own in elsewhere.items()}
        best = max(votes, key=lambda weight: self._score(votes[weight]))
        whole = self._adapted_everywhere(start, best)
        return self._finished(self._of(whole, elsewhere[best]), f"{sees}, whole brains at once", {"weight": best})

    def _finished(self, votes: _Votes, sees: str, chosen: dict[str, Any]) -> Fitted:
        inputs = self.inputs
        calibration = Calibration.fit(votes.out_of_fold, inputs.labels[inputs.known], inputs.prior)
        return Fitted(
            probabilities=calibration.apply(votes.whole, inputs.prior),
            out_of_fold=calibration.apply(votes.out_of_fold, inputs.prior),
            sees=sees,
            calibration=calibration,
            chosen=chosen,
        )

    def _score(self, votes: _Votes) -> float:
        inputs = self.inputs
        return macro_f1(inputs.labels[inputs.known], votes.out_of_fold.argmax(1), inputs.n_classes)

    # -- votes ----------------------------------------------------------------------------------------------------

    def _votes(self, name: str) -> _Votes:
        if name not in self._kept:
            i = self.inputs
            makers: dict[str, Callable[[], _Votes]] = {
                "position_prior": lambda: self._nearest(i.coordinates, i.unit_mm, PRIOR_NEIGHBOURS),
                "registered_prior": lambda: self._nearest(i.registered, SPHERE_MM, REGISTERED_NEIGHBOURS),
                "lda": lambda: self._folded(self._lda),
                "lda_elsewhere": self._lda_elsewhere,
                "features_trees": lambda: self._folded(partial(self._trees, i.features)),
                "trees": lambda: self._folded(partial(self._trees, i.everything())),
            }
            self._kept[name] = makers[name]()
        return self._kept[name]

    def _folded(self, fit: Fit) -> _Votes:
        """One model on everything, and one for each fold's votes. Nodes that no fold validates keep uniform votes."""
        inputs = self.inputs
        own = np.full((len(inputs.labels), inputs.n_classes), -np.log(inputs.n_classes), np.float32)
        for number, fold in enumerate(self.folds, start=1):
            judged = inputs.validation[fold]
            own[judged] = fit(inputs.train[fold], number)[judged]
        return self._of(fit(inputs.known, 0), own)

    def _nearest(self, points: NDArray[np.floating], unit_mm: float, count: int) -> _Votes:
        """Shares of areas among the nearest training nodes; see the head of this file for votes out of fold."""
        inputs, known = self.inputs, self.inputs.known
        whole = neighbour_shares(points, inputs.labels, known, points, inputs.n_classes, count)
        if self.several:
            shares = np.zeros_like(whole)
            for brain in self._brains:
                asked, others = inputs.part & (inputs.brain == brain), known & (inputs.brain != brain)
                shares[asked] = neighbour_shares(points, inputs.labels, others, points[asked], inputs.n_classes, count)
        else:
            rng = np.random.default_rng(self.seed)
            moved = [smooth_warp(points[known], WARP_MM / unit_mm, rng) for _ in range(WARPS)]
            # Every node takes one of the warps, so that a choice does not hang on a single one.
            places = np.stack(moved)[np.arange(len(moved[0])) % WARPS, np.arange(len(moved[0]))]
            shares = np.zeros_like(whole)
            shares[known] = neighbour_shares(points, inputs.labels, known, places, inputs.n_classes, count)
        return self._of(normalised(np.log(whole + FLOOR)), normalised(np.log(shares + FLOOR)))

    def _of(self, whole: NDArray[np.float32], elsewhere: NDArray[np.float32]) -> _Votes:
        return _Votes(whole=whole, out_of_fold=elsewhere[self.inputs.known], elsewhere=elsewhere)

    @cached_property
    def _brains(self) -> list[int]:
        """Numbers of the brains with labelled nodes."""
        return [int(brain) for brain in np.unique(self.inputs.brain[self.inputs.known])]

    @cached_property
    def _adaptable(self) -> bool:
        """Whether a discriminant can be fitted wherever it is asked to vote."""
        labels = self.inputs.labels
        return all(len(np.unique(labels[known])) > 1 for known, _ in self._left_out)

    @cached_property
    def _left_out(self) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        """(nodes [V] to fit on, nodes [V] that are then as those of a new brain): brain by brain, or fold by fold."""
        i = self.inputs
        if len(self._brains) > 1:
            part = self._inside & i.part
            return [(i.known & (i.brain != brain), part & (i.brain == brain)) for brain in self._brains]
        return [(i.train[fold], i.validation[fold]) for fold in self.folds]

    @cached_property
    def _inside(self) -> NDArray[np.bool_]:
        """[V] bool: nodes with features; those of others are 0."""
        return np.asarray(self.inputs.features.any(1))

    def _fitted(self, known: NDArray[np.bool_]) -> Adaptation:
        i = self.inputs
        model = self._discriminant(known)
        return Adaptation.fit(i.features[known], i.labels[known], i.brain[known], model, field=self.several)

    def _discriminant(self, known: NDArray[np.bool_]) -> LinearDiscriminantAnalysis:
        """The discriminant of these nodes, fitted once for all rows that rest on it."""
        key = known.tobytes()
        if key not in self._fits:
            self._fits[key] = fitted_discriminant(self.inputs.features[known], self.inputs.labels[known])
        return self._fits[key]

    @cached_property
    def _left_out_models(self) -> list[Adaptation]:
        return [self._fitted(known) for known, _ in self._left_out]

    @property
    def several(self) -> bool:
        """Whether there are several training brains, so that votes out of fold come from brains left out."""
        return len(self._brains) > 1

    def _lda_elsewhere(self) -> _Votes:
        """The discriminant; its votes for labelled nodes come from other brains, where there are several."""
        votes, inputs = self._votes("lda"), self.inputs
        if not self.several or not self._adaptable:
            return votes
        own = np.full_like(votes.whole, -np.log(inputs.n_classes))
        for model, (_, asked) in zip(self._left_out_models, self._left_out):
            own[asked] = model.log_p(inputs.features[asked], own[asked], 1.0, rounds=0)
        return self._of(votes.whole, own)

    def _adapted_everywhere(self, start: _Votes, weight: float) -> NDArray[np.float32]:
        """log p [V, K], adapted to every brain; where one brain is split, to each part."""
        inputs, whole = self.inputs, start.whole.copy()
        self.adaptation = self.adaptation or self._fitted(inputs.known)
        for brain in np.unique(inputs.brain):
            for part in (inputs.part, ~inputs.part):
                asked = self._inside & part & (inputs.brain == brain)
                whole[asked] = self.adaptation.log_p(
                    inputs.features[asked], start.whole[asked], weight, labels=inputs.labels[asked],
                    edges=edges_among(inputs.edges, asked),
                )  # fmt: skip
        return whole

    def _adapted_elsewhere(self, start: _Votes, weight: float) -> NDArray[np.float32]:
        """log p [V, K] of brains (or folds) that the discriminant was not fitted on, adapted to each."""
        own = start.elsewhere.copy()
        for model, (_, asked) in zip(self._left_out_models, self._left_out):
            edges = edges_among(self.inputs.edges, asked)
            own[asked] = model.log_p(self.inputs.features[asked], start.elsewhere[asked], weight, edges=edges)
        return own

    def left_out_unlikeness(self, weight: float) -> list[NDArray[np.float32]]:
        """`unlikeness` of the annotated nodes of each training brain, by a discriminant fitted on the others.

        Empty where there is one training brain. Args: weight: exponent of adapted_prior_lda.
        """
        i, start, found = self.inputs, self._votes("position_prior").elsewhere, []
        for model, (_, asked) in zip(self._left_out_models, self._left_out if self.several else ()):
            edges = edges_among(i.edges, asked)
            found.append(unlikeness(model, i.features[asked], start[asked], weight, edges)[i.known[asked]])
        return found

    def _lda(self, known: NDArray[np.bool_], number: int) -> NDArray[np.float32]:
        inputs = self.inputs
        labels = inputs.labels[known]
        classes = np.unique(labels)
        result = np.full((len(inputs.labels), inputs.n_classes), np.log(LEAST_P), np.float32)
        if len(classes) < 2:
            result[:, classes] = 0
            return normalised(result)
        model = self._discriminant(known)
        with threadpool_limits(1):
            result[:, classes] = np.maximum(model.predict_log_proba(inputs.features), np.log(LEAST_P))
        if not number:
            self.discriminant = Discriminant(slope=model.coef_, offset=model.intercept_, classes=model.classes_)
        return normalised(result)

    def _trees(self, x: NDArray[np.float32], known: NDArray[np.bool_], number: int) -> NDArray[np.float32]:
        inputs = self.inputs
        count = FOLD_TREES if number else TREES
        shares = trees(x, inputs.labels, known, inputs.n_classes, self.seed + 1000 * number, count)
        return normalised(np.log(shares + FLOOR))

"""Class means of a brain that nobody has labelled: a discriminant that is adapted to the brain it is asked about.

Areas differ between people: the mean embedding of an area in a new brain is not that of the training brains, and no
averaging over the new brain's nodes removes the difference. But its nodes tell it themselves, given roughly where the
area lies. As in the unified segmentation of Ashburner & Friston 2005, spatial prior and class means are joined by
expectation maximisation (Dempster et al. 1977):

    q_vk    ~  exp(start_vk) p(x_v | m_k)^w                                posterior of node v
    m_k     =  (sum_v q_vk x_v + t M_k) / (sum_v q_vk + t)                 mean of class k in this brain

with M_k the mean over the training brains, held by t pseudo-nodes (maximum a posteriori, Gauvain & Lee 1994), and w <
1, since neighbouring nodes do not err independently. The first posterior rests on the covariance within areas of all
training brains together, in which the differences between brains are noise; the further ones, whose means are the
brain's own, on that within areas of single brains. Nodes whose label is known keep it, and the first means are theirs.

Where whole brains are adapted to, what they look like may also drift over the cortex, whatever the area, as an image's
brightness drifts in unified segmentation:

    g       =  what x_v - sum_k q_vk m_k leaves, averaged over FIELD_ROUNDS rings (`smooth_field.py`)

and x_v - g_v takes the place of x_v. There neighbours also speak for each other: q becomes the mean field of a hidden
Markov random field (Zhang, Brady & Smith 2001),

    q_vk    ~  exp(start_vk + NEAR (mean of q_k around v)) p(x_v | m_k)^w

so that means are not estimated from single nodes that look like another area. It reads the features of a whole brain
and never a label that it is judged by. V nodes, K classes, J classes with a training node, D features.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from threadpoolctl import threadpool_limits

from meshgnn.train.smooth_field import SmoothField

LEAST_P = 1e-6
ROUNDS = 2  # more change little, and drift on weak features
FIELD_ROUNDS, ROUNDS_WITH_FIELD = 100, 4  # on 10,000 nodes per hemisphere about 15 mm (standard deviation)
HELD, HELD_WITH_FIELD = 0.2, 0.05  # t, as a share of a class of mean size
NEAR, NEAR_ROUNDS, NEAR_STEPS = 2.0, 5, 2  # weight of neighbours, rounds of their mean, steps of the mean field
LEAST_VARIANCE = 1e-6  # of the largest; thinner directions are not blown up
LEAST_NODES = 5  # of an area in a brain that says something of the covariance there


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassGaussians:
    """Gaussians of one covariance, in coordinates in which it is the identity.

    Args:
        whitening: [D, D] float32 of features.
        means: [J, D] float32 of the classes, whitened.
        classes: [J] numbers of the classes.
    """

    whitening: NDArray[np.float32]
    means: NDArray[np.float32]
    classes: NDArray[np.int64]

    @staticmethod
    def of(
        covariance: NDArray[np.floating], means: NDArray[np.floating], classes: NDArray[np.integer]
    ) -> "ClassGaussians":
        """Those of covariance [D, D] and means [J, D] of features."""
        with threadpool_limits(1):  # the same bits at any number of threads
            variance, axes = np.linalg.eigh(covariance)
            variance = np.maximum(variance, LEAST_VARIANCE * max(float(variance.max()), 1e-12))
            whitening = axes / np.sqrt(variance)
            return ClassGaussians(
                whitening=whitening.astype(np.float32),
                means=(means @ whitening).astype(np.float32),
                classes=np.asarray(classes, np.int64),
            )

    def likelihood(
        self, whitened: NDArray[np.float32], means: NDArray[np.float32], n_classes: int
    ) -> NDArray[np.float32]:
        """Log likelihood [V, K] of whitened features [V, D] up to a constant of the node, floored."""
        found = np.full((len(whitened), n_classes), np.log(LEAST_P), np.float32)
        own = log_softmax(whitened @ means.T - 0.5 * (means**2).sum(1), axis=1)
        found[:, self.classes] = np.maximum(own, np.log(LEAST_P))
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Adaptation:
    """What training brains say of the features of areas, and how a further brain corrects it.

    Args:
        together: Gaussians of all training brains together.
        within: with the covariance within single brains; the same where there is one brain.
        field: whether what drifts over the cortex is taken off. Not for blocks of one brain, which are hardly wider
            than what would be taken off.
    """

    together: ClassGaussians
    within: ClassGaussians
    field: bool = False

    @staticmethod
    def fit(
        features: NDArray[np.floating], labels: NDArray[np.integer], brain: NDArray[np.integer],
        model: LinearDiscriminantAnalysis | None = None, *, field: bool = False,
    ) -> "Adaptation":  # fmt: skip
        """Fit on labelled nodes of two classes at least.

        Args:
            features: [N, D]; labels: [N] classes; brain: [N] numbers of their brains.
            model: `fitted_discriminant` of these features and labels, where it is there already.
            field: see the class.
        """
        model = model or fitted_discriminant(features, labels)
        together = ClassGaussians.of(model.covariance_, model.means_, model.classes_)
        group = brain.astype(np.int64) * (int(labels.max()) + 1) + labels
        names, count = np.unique(group, return_counts=True)
        large = names[count >= LEAST_NODES]
        if len(np.unique(brain)) < 2 or len(large) < 2:
            return Adaptation(together=together, within=together, field=field)
        chosen = np.isin(group, large)
        covariance = fitted_discriminant(features[chosen], group[chosen]).covariance_
        within = ClassGaussians.of(covariance, model.means_, model.classes_)
        return Adaptation(together=together, within=within, field=field)

    def log_p(
        self, features: NDArray[np.floating], start: NDArray[np.floating], weight: float, rounds: int | None = None,
        labels: NDArray[np.integer] | None = None, edges: NDArray[np.integer] | None = None,
    ) -> NDArray[np.float32]:  # fmt: skip
        """Log posterior [V, K] of the nodes of one brain.

        Args:
            features: [V, D] of the brain's cortex, made as those that were fitted.
            start: [V, K] log probability of each class before features are looked at.
            weight: w; 0 gives the start back.
            rounds: how often the means are estimated again; 0 leaves them as they were fitted, None chooses.
            labels: [V] known classes, -1 where there is none; none: no node is labelled.
            edges: [2, E] of the brain's cortex, both directions; none: no field is taken off.
        """
        if not weight or not len(features):
            return normalised(start)
        return self._estimated(features, start, weight, rounds, labels, edges)[0]

    def own_statistics(
        self, features: NDArray[np.floating], start: NDArray[np.floating], weight: float, edges: NDArray[np.integer]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What one brain's class means are compared in: whitened features [V, D] without the field, means [J, D].

        Args: those of `log_p`; a weight of 0 estimates the means from the start alone.
        """
        if not len(features):
            return features.astype(np.float32), self.within.means
        return self._estimated(features, start, weight, None, None, edges)[1:]

    def _estimated(
        self, features: NDArray[np.floating], start: NDArray[np.floating], weight: float, rounds: int | None,
        labels: NDArray[np.integer] | None, edges: NDArray[np.integer] | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:  # fmt: skip
        with threadpool_limits(1):
            field, near = None, None
            if self.field and edges is not None and edges.size and rounds != 0:
                field, near = (SmoothField(len(features), edges, many) for many in (FIELD_ROUNDS, NEAR_ROUNDS))
            if rounds is None:
                rounds = ROUNDS_WITH_FIELD if field else ROUNDS
            return self._posterior(features.astype(np.float32), start, weight, rounds, labels, field, near)

    def _posterior(
        self, features: NDArray[np.float32], start: NDArray[np.floating], weight: float, rounds: int,
        labels: NDArray[np.integer] | None, field: SmoothField | None, near: SmoothField | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:  # fmt: skip
        """Log posterior [V, K], features as the means are (whitened, evened out), and means [J, D]."""
        n_classes, own = start.shape[1], self.within
        held = (HELD if field is None else HELD_WITH_FIELD) * len(features) / n_classes
        here = features @ own.whitening if rounds else features
        known = np.flatnonzero(labels >= 0) if labels is not None and rounds else np.zeros(0, np.int64)
        sure = np.eye(n_classes, dtype=np.float32)[labels[known]] if labels is not None else start[:0]

        def estimated(nodes: NDArray[np.float32], share: NDArray[np.float32]) -> NDArray[np.float32]:
            share = share[:, own.classes]
            return (share.T @ nodes + held * own.means) / (share.sum(0) + held)[:, None]

        def named(likelihood: NDArray[np.float32]) -> NDArray[np.float32]:
            """Log posterior [V, K], neighbours heard."""
            found = normalised(start + weight * likelihood)
            if near is None:
                return found
            for _ in range(NEAR_STEPS):
                share = np.exp(found)
                share[known] = sure
                found = normalised(start + weight * likelihood + NEAR * near(share))
            return found

        if len(known):
            likelihood = own.likelihood(here, estimated(here[known], sure), n_classes)
        else:
            likelihood = self.together.likelihood(features @ self.together.whitening, self.together.means, n_classes)
        even, means = here, own.means  # without what drifts
        for _ in range(rounds):
            share = np.exp(named(likelihood))
            share[known] = sure
            means = estimated(even, share)
            if field is not None:
                own_share = share[:, own.classes]
                even = here - field(here * own_share.sum(1, keepdims=True) - own_share @ means)
                means = estimated(even, share)
            likelihood = own.likelihood(even, means, n_classes)
        return named(likelihood), even, means

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For a file; see `from_arrays`."""
        return {
            "together": self.together.whitening, "together_means": self.together.means,
            "within": self.within.whitening, "within_means": self.within.means, "classes": self.within.classes,
            "field": np.array([self.field]),
        }  # fmt: skip

    @staticmethod
    def from_arrays(arrays: dict[str, NDArray[Any]]) -> "Adaptation":
        """Raises ValueError when the arrays do not fit together, KeyError when one is missing."""
        parts = {}
        for name in ("together", "within"):
            whitening, means, classes = arrays[name], arrays[f"{name}_means"], arrays["classes"]
            if whitening.shape != (len(whitening),) * 2 or means.shape != (len(classes), len(whitening)):
                raise ValueError("means and whitening do not fit")
            parts[name] = ClassGaussians(whitening=whitening, means=means, classes=classes)
        # Files from before there was a field have none.
        return Adaptation(**parts, field=bool(np.any(arrays.get("field", False))))


def fitted_discriminant(features: NDArray[np.floating], labels: NDArray[np.integer]) -> LinearDiscriminantAnalysis:
    """A shrunk linear discriminant (Ledoit & Wolf 2004), uniform class prior, of features [N, D] and classes [N].

    Two classes at least.
    """
    count = len(np.unique(labels))
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=np.full(count, 1 / count))
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")  # areas with a single node have no covariance
        return model.fit(features.astype(np.float64), labels)


def normalised(log_p: NDArray[np.floating]) -> NDArray[np.float32]:
    """Log probabilities [V, K] that sum to one."""
    return log_softmax(log_p, axis=1).astype(np.float32)

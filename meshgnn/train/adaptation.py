"""Class means of a brain that nobody has labelled: a discriminant that is adapted to the brain it is asked about.

Areas differ between people: the mean embedding of an area in a new brain is not that of the training brains, and no
averaging over the new brain's nodes removes the difference. But its nodes tell it themselves, given roughly where the
area lies. As in the unified segmentation of Ashburner & Friston 2005, spatial prior and class means are joined by
expectation maximisation (Dempster et al. 1977):

    q_vk    ~  exp(start_vk) p(x_v | m_k)^w                                posterior of node v
    m_k     =  (sum_v q_vk x_v + t M_k) / (sum_v q_vk + t)                 mean of class k in this brain

with M_k the mean over the training brains, held by t pseudo-nodes (maximum a posteriori, Gauvain & Lee 1994), Gaussians
of one covariance, and w < 1, since neighbouring nodes do not err independently. Nodes whose label is known keep it, and
the first means are theirs. It reads the features of a whole brain and never a label that it is judged by. V nodes, K
classes, J classes with a training node, D features.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from threadpoolctl import threadpool_limits

LEAST_P = 1e-6
ROUNDS = 2  # more change little, and drift on weak features
HELD = 0.2  # t, as a share of a class of mean size
LEAST_VARIANCE = 1e-6  # of the largest; thinner directions are not blown up


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
    def of(model: LinearDiscriminantAnalysis) -> "ClassGaussians":
        """Those of a fitted discriminant (solver lsqr)."""
        with threadpool_limits(1):  # the same bits at any number of threads
            variance, axes = np.linalg.eigh(model.covariance_)
        variance = np.maximum(variance, LEAST_VARIANCE * max(float(variance.max()), 1e-12))
        whitening = axes / np.sqrt(variance)
        return ClassGaussians(
            whitening=whitening.astype(np.float32),
            means=(model.means_ @ whitening).astype(np.float32),
            classes=np.asarray(model.classes_, np.int64),
        )

    def log_p(
        self, features: NDArray[np.floating], start: NDArray[np.floating], weight: float, rounds: int = ROUNDS,
        labels: NDArray[np.integer] | None = None,
    ) -> NDArray[np.float32]:  # fmt: skip
        """Log posterior [V, K] of the nodes of one brain.

        Args:
            features: [V, D] of the brain's cortex, made as those that were fitted.
            start: [V, K] log probability of each class before features are looked at.
            weight: w; 0 gives the start back.
            rounds: how often the means are estimated again; 0 leaves them as they were fitted.
            labels: [V] known classes, -1 where there is none; none: no node is labelled.
        """
        if not weight or not len(features):
            return normalised(start)
        with threadpool_limits(1):
            return self._posterior(features, start, weight, rounds, labels)

    def _posterior(
        self, features: NDArray[np.floating], start: NDArray[np.floating], weight: float, rounds: int,
        labels: NDArray[np.integer] | None,
    ) -> NDArray[np.float32]:  # fmt: skip
        here, means = features.astype(np.float32) @ self.whitening, self.means
        held = HELD * len(here) / start.shape[1]
        known = np.flatnonzero(labels >= 0) if labels is not None and rounds else np.zeros(0, np.int64)
        sure = np.eye(start.shape[1], dtype=np.float32)[labels[known]] if labels is not None else start[:0]

        def estimated(nodes: NDArray[np.float32], share: NDArray[np.float32]) -> NDArray[np.float32]:
            share = share[:, self.classes]
            return (share.T @ nodes + held * self.means) / (share.sum(0) + held)[:, None]

        if len(known):
            means = estimated(here[known], sure)
        for number in range(rounds + 1):
            likelihood = np.full(start.shape, np.log(LEAST_P), np.float32)
            own = log_softmax(here @ means.T - 0.5 * (means**2).sum(1), axis=1)
            likelihood[:, self.classes] = np.maximum(own, np.log(LEAST_P))
            result = normalised(start + weight * likelihood)
            if number < rounds:
                share = np.exp(result)
                share[known] = sure
                means = estimated(here, share)
        return result

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For a file; see `from_arrays`."""
        return {"whitening": self.whitening, "means": self.means, "classes": self.classes}

    @staticmethod
    def from_arrays(arrays: dict[str, NDArray[Any]]) -> "ClassGaussians":
        """Raises ValueError when the arrays do not fit together, KeyError when one is missing."""
        found = ClassGaussians(**{name: arrays[name] for name in ("whitening", "means", "classes")})
        size = len(found.whitening)
        if found.whitening.shape != (size, size) or found.means.shape != (len(found.classes), size):
            raise ValueError("means and whitening do not fit")
        return found


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

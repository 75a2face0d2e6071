"""Where areas lay in the training part, joined with a network's votes for nodes elsewhere.

A network learns weights for coordinates; it cannot look labels up by place, which is what correspondence between
hemispheres is good for. The logarithmic pool (Genest & Zidek 1986) of its votes and of a probabilistic atlas,

    log p  ~  (log prior + v log votes) / T

knows both. T is fitted on votes out of fold: of the network, and of the prior for nodes moved by a warp
(`same_inputs.py`). N labelled training nodes, P nodes that are asked about, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from meshgnn.data.model_inputs import ModelInputs
from meshgnn.train.adaptation import LEAST_P, normalised
from meshgnn.train.same_inputs import PRIOR_NEIGHBOURS, REGISTERED_NEIGHBOURS, SameInputs, prior_from

# v, a network's exponent beside a prior; chosen on virtual brains whose scores had been seen, not on real ones.
NETWORK_SHARE = 0.5
TEMPERATURES = tuple(np.geomspace(0.75, 4.0, 21).round(4).tolist())
On = Literal["registered", "coordinates"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PlacePrior:
    """Labelled places.

    Args:
        on: the registered sphere, or aligned coordinates in the network's units.
        points: [N, 3] there; labels: [N] their classes.
        n_classes: K.
        temperature: T.
    """

    on: On
    points: NDArray[np.float32]
    labels: NDArray[np.int32]
    n_classes: int
    temperature: float = 1 + NETWORK_SHARE

    @staticmethod
    def of(inputs: ModelInputs) -> "PlacePrior | None":
        """That of a run: on registered spheres where there are some; None for one that sees no places."""
        known = inputs.known
        on: On = "registered" if inputs.registered.shape[1] else "coordinates"
        points = inputs.registered if on == "registered" else inputs.coordinates
        if not inputs.coordinates.shape[1]:
            return None
        return PlacePrior(
            on=on, points=points[known].astype(np.float32), labels=inputs.labels[known], n_classes=inputs.n_classes
        )

    def places(
        self, coordinates: NDArray[np.floating], registered: NDArray[np.floating]
    ) -> NDArray[np.floating] | None:
        """Of [P, 3] coordinates and [P, 3] (or [P, 0]) points on the registered sphere, those that are asked for."""
        found = registered if self.on == "registered" else coordinates
        return found if found.shape[1] else None

    def log_p(self, places: NDArray[np.floating]) -> NDArray[np.float32]:
        """The log prior [P, K] at `places` [P, 3]."""
        count = REGISTERED_NEIGHBOURS if self.on == "registered" else PRIOR_NEIGHBOURS
        return prior_from(self.points, self.labels, places, self.n_classes, count)

    def joined(self, votes: NDArray[np.floating], log_prior: NDArray[np.floating]) -> NDArray[np.float32]:
        """Probabilities [P, K] of a network's votes [P, K] joined with the log prior [P, K] of their places."""
        return np.exp(normalised(pooled_log_p(log_prior, votes) / self.temperature))

    def calibrated(self, inputs: ModelInputs, votes: Sequence[NDArray[np.floating]], folds: int) -> "PlacePrior":
        """The same with the temperature of least log loss on labelled training nodes.

        Args:
            inputs: of the run that it is of; votes: probabilities [N, K] of the network out of fold, one per seed.
            folds: of one seed.
        """
        same = SameInputs(inputs, range(folds), seed=0)
        own = same.prior_out_of_fold("registered_prior" if self.on == "registered" else "position_prior")
        labels = inputs.labels[inputs.known]
        log_p = [pooled_log_p(own, one) for one in votes]
        best = min(
            TEMPERATURES,
            key=lambda t: sum(-normalised(one / t)[np.arange(len(labels)), labels].mean() for one in log_p),
        )
        return replace(self, temperature=best)


def pooled_log_p(prior: NDArray[np.floating], votes: NDArray[np.floating]) -> NDArray[np.floating]:
    """Log prior and probabilities [P, K] of a network -> their pool, neither normalised nor tempered."""
    return np.asarray(prior + NETWORK_SHARE * np.log(np.maximum(votes, LEAST_P)))

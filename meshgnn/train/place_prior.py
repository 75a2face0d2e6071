"""Where areas lay in the training part, joined with a network's votes for nodes elsewhere.

A network learns weights for coordinates; it cannot look labels up by place, which is what correspondence between
hemispheres is good for. The logarithmic pool (Genest & Zidek 1986) of its votes and of a probabilistic atlas,

    log p  ~  (log prior + v log votes) / (1 + v)

knows both. N labelled training nodes, P nodes that are asked about, K classes.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from meshgnn.data.model_inputs import ModelInputs
from meshgnn.train.adaptation import LEAST_P, normalised
from meshgnn.train.same_inputs import FLOOR, PRIOR_NEIGHBOURS, REGISTERED_NEIGHBOURS, neighbour_shares

# v, a network's exponent beside a prior; chosen on virtual brains whose scores had been seen, not on real ones.
NETWORK_SHARE = 0.5
On = Literal["registered", "coordinates"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PlacePrior:
    """Labelled places.

    Args:
        on: the registered sphere, or aligned coordinates in the network's units.
        points: [N, 3] there; labels: [N] their classes.
        n_classes: K.
    """

    on: On
    points: NDArray[np.float32]
    labels: NDArray[np.int32]
    n_classes: int

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

    def joined(self, votes: NDArray[np.floating], places: NDArray[np.floating]) -> NDArray[np.float32]:
        """Probabilities [P, K] of a network's votes [P, K] joined with the prior at `places` [P, 3]."""
        known = np.ones(len(self.labels), bool)
        count = REGISTERED_NEIGHBOURS if self.on == "registered" else PRIOR_NEIGHBOURS
        shares = neighbour_shares(self.points, self.labels, known, places, self.n_classes, count)
        log_p = normalised(np.log(shares + FLOOR)) + NETWORK_SHARE * np.log(np.maximum(votes, LEAST_P))
        return np.exp(normalised(log_p / (1 + NETWORK_SHARE)))

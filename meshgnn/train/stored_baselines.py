"""The cheapest strong baselines of a run, kept so that a prediction for a new brain can stand beside them.

position_prior, lda, prior_lda and adapted_prior_lda of `same_inputs`, as they were fitted on all training labels: the
places and labels of the labelled training nodes, the linear discriminant, and what was chosen on validation nodes: a
megabyte for 256 inputs. They also adapt a network's map to a new brain, in the way of adapted_prior_lda.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.data.model_inputs import edges_among
from meshgnn.errors import InputError
from meshgnn.store import read_arrays, write_arrays
from meshgnn.train.adaptation import Adaptation, normalised
from meshgnn.train.calibration import Calibration
from meshgnn.train.place_prior import NETWORK_SHARE, pooled_log_p
from meshgnn.train.same_inputs import Discriminant, Fitted, SameInputs, joined, prior_from
from meshgnn.train.selective import least_probability
from meshgnn.train.unmapped import LEVEL, Unmapped, unlikeness

FILE = "stored_baselines.safetensors"
SEES = {
    "position_prior": "aligned coordinates",
    "lda": "the network's features",
    "prior_lda": "the network's inputs",
    "adapted_prior_lda": "the network's inputs, whole brains at once",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredBaselines:
    """
    Args:
        points: [N, 3] coordinates of the labelled training nodes, as the network sees them; [0, 3] without coordinates.
        labels: [N] their areas; prior: [K] class frequencies of the training part.
        discriminant: on the network's features; None where there are no features.
        weight: exponent of the discriminant in prior_lda.
        calibrations: by name, of those that were fitted.
        adaptation: of the discriminant; None where there is no adapted_prior_lda.
        adapted_weight: exponent of the features in adapted_prior_lda.
        unmapped: what tells nodes unlike anything annotated; None in files from before there was such a thing.
        set_least: probability with which an area is in the set of a node of a new brain, at a coverage of SET_COVERAGE
            on left-out training brains; None where there are fewer than two.
    """

    points: NDArray[np.float32]
    labels: NDArray[np.int32]
    prior: NDArray[np.float32]
    discriminant: Discriminant | None
    weight: float
    calibrations: Mapping[str, Calibration]
    adaptation: Adaptation | None = None
    adapted_weight: float = 0.0
    unmapped: Unmapped | None = None
    set_least: float | None = None

    @staticmethod
    def of(same: SameInputs, fitted: Mapping[str, Fitted]) -> "StoredBaselines":
        """What is to be kept of the rows that were fitted."""
        inputs, discriminant = same.inputs, same.discriminant
        adapted = fitted.get("adapted_prior_lda")
        known = inputs.known if inputs.coordinates.shape[1] else np.zeros(len(inputs.labels), bool)
        return StoredBaselines(
            points=inputs.coordinates[known].reshape(-1, 3),
            labels=inputs.labels[known],
            prior=inputs.prior,
            discriminant=discriminant,
            weight=float(fitted["prior_lda"].chosen["weight"]) if "prior_lda" in fitted else 0.0,
            calibrations={name: fitted[name].calibration for name in SEES if name in fitted},
            adaptation=same.adaptation if adapted else None,
            adapted_weight=float(adapted.chosen["weight"]) if adapted else 0.0,
            unmapped=Unmapped.of(same.left_out_unlikeness(float(adapted.chosen["weight"]))) if adapted else None,
            set_least=least_probability(adapted.out_of_fold, inputs.labels[inputs.known])
            if adapted and same.several
            else None,
        )

    @property
    def adapts(self) -> bool:
        """Whether a map can be adapted to a new brain."""
        return self.adaptation is not None and len(self.points) > 0

    def log_prior(self, coordinates: NDArray[np.floating]) -> NDArray[np.float32]:
        """The log position prior [V, K] at a brain's coordinates [V, 3]."""
        return prior_from(self.points, self.labels, coordinates, len(self.prior))

    def adapted(
        self, votes: NDArray[np.floating], features: NDArray[np.floating], log_prior: NDArray[np.floating],
        edges: NDArray[np.integer],
    ) -> NDArray[np.float32]:  # fmt: skip
        """A network's map of a new brain joined with the position prior and adapted to that brain.

        Args:
            votes: [V, K] probabilities of the network, for all nodes of one brain.
            features: [V, D], what the network sees; log_prior: [V, K] of the nodes' places; edges: [2, E] in cortex.
        """
        start = normalised(pooled_log_p(log_prior, votes))
        # The network's exponent comes on top of what the temperature was fitted for.
        log_p = self._adapted(start, features, edges) / (1 + NETWORK_SHARE)
        return self.calibrations["adapted_prior_lda"].apply(log_p, self.prior)

    def _adapted(
        self, start: NDArray[np.float32], features: NDArray[np.floating], edges: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """log p [V, K]; nodes without features, which lie outside cortex, keep their start."""
        assert self.adaptation is not None
        inside, found = np.asarray(features.any(1)), start.copy()
        inner = edges_among(edges, inside)
        found[inside] = self.adaptation.log_p(features[inside], start[inside], self.adapted_weight, edges=inner)
        return found

    def votes(
        self, features: NDArray[np.floating], coordinates: NDArray[np.floating], edges: NDArray[np.integer]
    ) -> dict[str, NDArray[np.float32]]:
        """Probabilities [V, K] by name for a brain's inputs [V, D] and [V, 3], made as the network's, and its edges."""
        log_p: dict[str, NDArray[np.float32]] = {}
        if "position_prior" in self.calibrations:
            log_p["position_prior"] = self.log_prior(coordinates)
        if "lda" in self.calibrations and self.discriminant is not None:
            log_p["lda"] = self.discriminant.log_p(features, len(self.prior))
        if "prior_lda" in self.calibrations and len(log_p) == 2:
            log_p["prior_lda"] = joined(log_p["position_prior"], log_p["lda"], self.weight)
        if "adapted_prior_lda" in self.calibrations and self.adapts:
            log_p["adapted_prior_lda"] = self._adapted(log_p["position_prior"], features, edges)
        return {name: self.calibrations[name].apply(one, self.prior) for name, one in log_p.items()}

    def unmapped_p(
        self, features: NDArray[np.floating], coordinates: NDArray[np.floating], edges: NDArray[np.integer]
    ) -> NDArray[np.float32] | None:
        """Conformal p-values [V] of one brain's nodes (arguments as of `votes`); 1 where there are no features.

        None where nothing was kept to tell them by, or annotated nodes are too few for the level.
        """
        if not self.adapts or self.unmapped is None or not self.unmapped.reaches():
            return None
        assert self.adaptation is not None
        inside, found = np.asarray(features.any(1)), np.ones(len(features), np.float32)
        start = self.log_prior(coordinates[inside])
        inner = edges_among(edges, inside)
        scores = unlikeness(self.adaptation, features[inside], start, self.adapted_weight, inner)
        found[inside] = self.unmapped.p_values(scores)
        return found

    def no_unmapped(self) -> str:
        """Why `unmapped_p` has nothing to say, in one line; "" if it has."""
        if not self.adapts or self.unmapped is None:
            return "no node is flagged as unmapped: the run kept nothing to tell such nodes by"
        if not self.unmapped.reaches():
            count = len(self.unmapped.scores)
            return (
                f"no node is flagged as unmapped: {count} annotated nodes of left-out brains are too few for "
                f"a level of {LEVEL:g} (two training brains and {round(1 / LEVEL) - 1} nodes are needed)"
            )
        return ""

    # -- on disk --------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        arrays: dict[str, NDArray[Any]] = {
            "points": self.points, "labels": self.labels, "prior": self.prior, "weight": np.array([self.weight]),
        }  # fmt: skip
        for name, one in self.calibrations.items():
            arrays[f"calibration.{name}"] = np.array([one.prior_shift, one.temperature])
        if self.discriminant is not None:
            arrays |= {
                "lda.slope": self.discriminant.slope,
                "lda.offset": self.discriminant.offset,
                "lda.classes": self.discriminant.classes,
            }
        if self.adaptation is not None:
            arrays |= {f"adaptation.{name}": values for name, values in self.adaptation.arrays().items()}
            arrays["adapted_weight"] = np.array([self.adapted_weight])
        if self.unmapped is not None:
            arrays["unmapped.scores"] = self.unmapped.scores
        if self.set_least is not None:
            arrays["set_least"] = np.array([self.set_least])
        write_arrays(path, arrays)

    @staticmethod
    def load(path: Path) -> "StoredBaselines":
        """Raises InputError when the file is damaged or does not hold these arrays."""
        arrays = read_arrays(path)
        try:
            found = [name for name in SEES if f"calibration.{name}" in arrays]
            shifts = {name: arrays[f"calibration.{name}"].tolist() for name in found}
            points, labels, classes = arrays["points"], arrays["labels"], len(arrays["prior"])
            if points.shape != (len(labels), 3) or (len(labels) and not 0 <= labels.min() <= labels.max() < classes):
                raise ValueError("places and labels do not fit")
            discriminant = None
            if "lda.slope" in arrays:
                discriminant = Discriminant(
                    slope=arrays["lda.slope"], offset=arrays["lda.offset"], classes=arrays["lda.classes"]
                )
            adaptation, adapted_weight = None, 0.0
            if "adaptation.classes" in arrays:
                begin = "adaptation."
                own = {name.removeprefix(begin): one for name, one in arrays.items() if name.startswith(begin)}
                adaptation, adapted_weight = Adaptation.from_arrays(own), float(arrays["adapted_weight"][0])
                numbers = adaptation.within.classes
                if len(numbers) and not 0 <= numbers.min() <= numbers.max() < classes:
                    raise ValueError("classes of the means are not those of the run")
            unmapped = Unmapped(scores=arrays["unmapped.scores"]) if "unmapped.scores" in arrays else None
            least = float(arrays["set_least"][0]) if "set_least" in arrays else None
            if least is not None and not 0 <= least <= 1:
                raise ValueError("not a probability")
            return StoredBaselines(
                unmapped=unmapped, set_least=least, adaptation=adaptation, adapted_weight=adapted_weight,
                points=points, labels=labels,
                prior=arrays["prior"], discriminant=discriminant, weight=float(arrays["weight"][0]),
                calibrations={
                    name: Calibration(prior_shift=shift, temperature=heat) for name, (shift, heat) in shifts.items()
                },
            )  # fmt: skip
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise InputError(f"{path}: does not hold the baselines of a run ({error})") from None

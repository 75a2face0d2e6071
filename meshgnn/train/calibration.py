"""From the votes of an ensemble's members to probabilities: every member calibrated, then averaged."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshgnn.confusion import macro_f1
from meshgnn.errors import InputError

SHIFTS = (-0.25, 0.0, 0.25, 0.5, 0.75)
TEMPERATURES = tuple(np.geomspace(0.4, 2.5, 23).round(4).tolist())


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """log p' = (log p + prior_shift * log prior) / temperature, normalised.

    Both numbers are chosen on out-of-fold votes of single members on the training part: the shift by macro-F1, the
    temperature by log loss (Guo et al. 2017).
    """

    prior_shift: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not np.isfinite([self.prior_shift, self.temperature]).all() or self.temperature <= 0:
            raise InputError("a calibration needs a finite prior shift and a positive temperature")

    def apply(self, log_p: NDArray[np.floating], prior: NDArray[np.floating]) -> NDArray[np.float32]:
        """Log probabilities [V, K] and class frequencies [K] -> probabilities [V, K]."""
        shifted = (log_p + self.prior_shift * np.log(np.maximum(prior, 1e-6))) / self.temperature
        shifted = shifted - shifted.max(1, keepdims=True)
        p = np.exp(shifted)
        return (p / p.sum(1, keepdims=True)).astype(np.float32)

    @staticmethod
    def fit(log_p: NDArray[np.floating], labels: NDArray[np.integer], prior: NDArray[np.floating]) -> "Calibration":
        """Choose on validation predictions [N, K] with labels [N]."""
        n_classes = log_p.shape[1]
        shift = max(
            SHIFTS,
            key=lambda b: macro_f1(labels, Calibration(prior_shift=b).apply(log_p, prior).argmax(1), n_classes),
        )

        def log_loss(temperature: float) -> float:
            p = Calibration(prior_shift=shift, temperature=temperature).apply(log_p, prior)
            return float(-np.log(np.maximum(p[np.arange(len(labels)), labels], 1e-9)).mean())

        return Calibration(prior_shift=shift, temperature=min(TEMPERATURES, key=log_loss))


def pooled(
    members: Iterable[NDArray[np.floating]], calibration: Calibration, prior: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Mean over members [V, K] of their calibrated probabilities (a linear opinion pool).

    The calibration was fitted on votes of single members, so it is applied to such votes: a mean of members is less
    sure than each, and a temperature for one is not a temperature for the other.
    """
    total: NDArray[np.float64] | None = None
    count = 0
    for log_p in members:
        own = calibration.apply(log_p, prior).astype(np.float64)
        total = own if total is None else total + own
        count += 1
    if total is None:
        raise ValueError("an ensemble needs a member")
    return (total / count).astype(np.float32)

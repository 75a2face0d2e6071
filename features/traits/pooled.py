"""Predictions of divisions of a cohort, put together over the subjects that each of them tests.

G subjects, T targets, K classes of a target.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from meshgnn.data.subject_split import SubjectPart
from meshgnn.data.target_transform import ScoreTarget, TargetTransform, TransformConfig
from meshgnn.source.subjects import Target
from meshgnn.train.target_costs import outputs_by_target

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class NumberScale:
    """A number as networks see it: transformed, then of mean 0 and standard deviation 1, since networks start near 0.

    Args:
        transform: fitted on training subjects.
        score: the standardisation of what it gives.
    """

    transform: TargetTransform
    score: ScoreTarget

    @staticmethod
    def of(config: TransformConfig, y: Values) -> "NumberScale":
        """Of the training subjects' values [N]. Raises InputError when they are all alike, or have no logarithm."""
        transform = config.build(y)
        return NumberScale(transform=transform, score=ScoreTarget.Config().build(transform.apply(y)))

    def apply(self, y: Values) -> Values:
        return self.score.apply(self.transform.apply(y))

    def invert(self, z: Values) -> Values:
        return self.transform.invert(self.score.invert(z))


def scaled(
    targets: Sequence[Target], values: Values, train: NDArray[np.bool_], config: TransformConfig
) -> tuple[Values, dict[int, NumberScale]]:
    """Targets as members get them, and the scale of every number, by target; all by the training subjects.

    Args:
        values: [G, T], NaN where missing.
        train: [G] bool; of the others, numbers become NaN.

    Returns:
        [G, T] class numbers and scaled numbers; the scales.
    """
    found, scales = np.array(values), {}
    for column, target in enumerate(targets):
        if not target.classes:
            scales[column] = NumberScale.of(config, values[train, column])
            found[:, column] = scales[column].apply(np.where(train, values[:, column], np.nan))
    return found, scales


def in_own_units(
    outputs: NDArray[np.float32], classes: tuple[int, ...], scales: Mapping[int, NumberScale]
) -> list[Values]:
    """Outputs [B, outputs] of a network as probabilities [B, K], and numbers [B, 1] in their own unit, by target.

    Args:
        classes: T numbers of classes; 0 for a number.
        scales: of the numbers, by target.
    """
    found = []
    for column, votes in enumerate(outputs_by_target(torch.from_numpy(outputs), classes)):
        own = votes.numpy()
        if classes[column]:
            said = np.exp(own - own.max(1, keepdims=True))
            found.append((said / said.sum(1, keepdims=True)).astype(np.float64))
        else:
            found.append(scales[column].invert(own.astype(np.float64)))
    return found


def joined_late(votes: Sequence[Values]) -> Values:
    """[G, K] mean over networks on single inputs, each [G, K]; NaN of those who lack the input is passed over."""
    stacked = np.stack(votes)
    known = np.isfinite(stacked)
    count = known.sum(0)
    return np.where(count > 0, np.where(known, stacked, 0).sum(0) / np.maximum(count, 1), np.nan)


def tested(parts: list[SubjectPart]) -> NDArray[np.bool_]:
    """[G] subjects that some division tests."""
    return np.logical_or.reduce([part.test for part in parts])

"""The loss of several targets of whole brains at once, some of them missing. G subjects, T targets, K classes."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from meshgnn.train.loss import Loss, log_frequency

NumberLoss = Literal["squared", "absolute"]


def outputs_by_target(outputs: Tensor, classes: Sequence[int]) -> list[Tensor]:
    """[G, outputs] -> one [G, K] of logits, or [G, 1] of numbers, per target."""
    return list(outputs.split([max(count, 1) for count in classes], dim=1))


class TargetCosts:
    """Losses in units of what the constant prediction of the training subjects costs, so that targets count alike.

    The loss of a target is its cross-entropy, or its mean squared or absolute error, over the subjects of whom it is
    known; the constant is the mean, or the median for the absolute error. Skill, whatever the loss, is the mean over
    targets of 1 minus the squared error in units of that of the mean (for classes the Brier skill score): 0 for the
    constant, 1 for a perfect prediction.

    Args:
        values: [G, T] of the training subjects: class numbers, and standardised numbers; NaN where missing.
        classes: T numbers of classes; 0 for a number.
        loss: settings of the cross-entropy.
        numbers: error of numbers: squared, or absolute, by which a network learns medians.
    """

    def __init__(self, values: Tensor, classes: Sequence[int], loss: Loss, numbers: NumberLoss = "squared") -> None:
        self.classes, self.shifted, self.numbers = tuple(classes), loss, numbers
        self.frequencies: list[Tensor] = []
        self.constant: list[float] = []
        for column, count in enumerate(classes):
            known = values[:, column]
            known = known[torch.isfinite(known)]
            frequency = log_frequency(known.long(), count) if count else known.mean()
            self.frequencies.append(frequency)
            if count:
                cost = -(frequency.exp() * frequency).sum()
            elif numbers == "squared":
                cost = ((known - frequency) ** 2).mean()
            else:
                cost = (known - known.median()).abs().mean()
            self.constant.append(max(float(cost), 1e-6))

    def to(self, device: torch.device | str) -> "TargetCosts":
        self.frequencies = [frequency.to(device) for frequency in self.frequencies]
        return self

    def loss(self, outputs: Tensor, values: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        """Mean over targets; one that is known of no subject here costs 0, with a gradient of 0.

        Args:
            outputs: [B, outputs] of a network.
            values: [B, T] of the same subjects.
            counts: T numbers of subjects of whom each target is known in a batch that these are a part of: the sum over
                its parts is then the loss of the whole batch.
        """
        costs = []
        for column, found in enumerate(outputs_by_target(outputs, self.classes)):
            known = torch.isfinite(values[:, column])
            if not bool(known.any()):
                costs.append(found.sum() * 0)
                continue
            true = values[known, column]
            if self.classes[column]:
                cost = self.shifted(found[known], true.long(), self.frequencies[column].to(found.device))
            else:
                cost = (F.mse_loss if self.numbers == "squared" else F.l1_loss)(found[known, 0], true)
            share = 1.0 if counts is None else int(known.sum()) / counts[column]
            costs.append(cost * share / self.constant[column])
        return torch.stack(costs).mean()

    def skill(self, outputs: Tensor, values: Tensor) -> float:
        """0 where no target is known; arguments as those of `loss`."""
        skills = []
        for column, found in enumerate(outputs_by_target(outputs, self.classes)):
            known = torch.isfinite(values[:, column])
            if not bool(known.any()):
                continue
            true, constant = values[known, column], self.frequencies[column]
            if self.classes[column]:
                # Brier's score rather than cross-entropy: one subject who is surely taken for another class must not
                # outweigh all others.
                truth = F.one_hot(true.long(), self.classes[column]).float()
                gap, most = found[known].softmax(1) - truth, constant.exp() - truth
            else:
                gap, most = found[known, :1] - true[:, None], constant - true[:, None]
            skills.append(1 - float((gap**2).sum() / (most**2).sum().clamp(min=1e-6)))
        return float(np.mean(skills)) if skills else 0.0

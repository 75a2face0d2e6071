"""What a training run learns: the socket of tasks.

A task file holds everything that the members of an ensemble see, as arrays on disk: workers load it, nothing else is
handed around. A task brings its network (trunk and head), the loss of a step, and the score that picks the best
weights; `module.py` and `fit.py` know no more of it. Implementations: `NodeLabels` (a class for every node) and
`GraphTargets` (numbers and classes for whole brains).
"""

from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from meshgnn.nn import CoordinateEncoder, TrunkConfig
from meshgnn.train.augment import Augment
from meshgnn.train.loss import Loss


class Objective(Protocol):
    """What one member learns from and is judged by, as tensors on one device."""

    def to(self, device: torch.device | str) -> "Objective":
        """The same on another device."""
        ...

    def loss(self, model: nn.Module, augment: Augment) -> Tensor:
        """The loss of one step. All randomness comes from torch's global generator, which is seeded for the step."""
        ...

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Scores on the validation part, the watched one among them. The model is in eval mode."""
        ...


class Task(Protocol):
    """A task and its data.

    `watched` names the score of a validation that picks the best weights; more is better.
    """

    watched: ClassVar[str]

    def model(self, trunk: TrunkConfig, coordinates: CoordinateEncoder.Config) -> nn.Module:
        """A new network for this task."""
        ...

    def objective(self, member: int, loss: Loss) -> Objective:
        """What a member learns.

        Args:
            member: row of the task's fold masks.
            loss: settings of the loss.
        """
        ...

    def save(self, path: Path) -> None: ...

    @staticmethod
    def load(path: Path) -> Any:
        """Raises InputError when the file is missing or damaged."""
        ...

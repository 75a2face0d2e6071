"""What an objective on windows of runs sees, and what it offers to the training of a phase.

B windows, F frames, D features of a frame.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from meshgnn.errors import SettingError


@dataclass(frozen=True, kw_only=True, eq=False)
class RunOutputs:
    """A batch of windows and what a network made of it.

    Args:
        window: [B, C, X, Y, Z, F] as the network was given it; channel 0 is the global z-score, channel 1, if there is
            one, that of every voxel over time.
        rebuilt: [B, 1, X, Y, Z, F] what the decoder says of channel 0.
        frames: [B, F, D] features of the frames.
        states: [B, F, D] of the transformer's last layer; the features themselves where there is no transformer.
        embedding: [B, D] of the window.
        again: the transformer: features [B, F, D] -> states [B, F, D]; none where there is none.
        subjects: [B] number of the subject of every window.
        draws: of every window, the numbers that its random choices are drawn from, so that they depend on neither the
            batch nor the rank.
    """

    window: Tensor
    rebuilt: Tensor
    frames: Tensor
    states: Tensor
    embedding: Tensor
    again: Callable[[Tensor], Tensor] | None
    subjects: Tensor
    draws: Sequence[tuple[int, ...]]


class RunObjective(Protocol):
    """Config of an objective on windows of runs.

    Args:
        transformer: whether it needs one.
        channels: that a window must have.
        windows: of one subject that it needs in a batch.
        joint: whether its value is one of the batch and not of single windows; it is then trained on and not judged by.
        factor: by which it is multiplied in the sum of all.
    """

    transformer: ClassVar[bool]
    channels: ClassVar[int]
    windows: ClassVar[int]

    @property
    def joint(self) -> bool: ...

    @property
    def factor(self) -> float: ...

    def build(self, shape: Sequence[int], features: int) -> nn.Module:
        """A module: RunOutputs -> [B], one value per window; a scalar if it is joint.

        Args:
            shape: of a window (C, X, Y, Z, F).
            features: D.
        """
        ...


def check_factor(factor: float) -> None:
    """Raises SettingError unless <factor> is above 0."""
    if not factor > 0:
        raise SettingError(f"<factor> must be above 0, got {factor}; leave the objective out to do without it")


def drawn(numbers: Sequence[int], purpose: int) -> np.random.Generator:
    """Random choices of one window for one purpose."""
    return np.random.default_rng([*(abs(number) for number in numbers), purpose])


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """[B, N, D], [B, M, D] -> [B, N, M], the mean over features of squared differences."""
    middle = b.mean(1, keepdim=True).detach()  # distances stay, and small ones are not lost between large numbers
    a, b = a - middle, b - middle
    found = a.square().mean(2)[:, :, None] + b.square().mean(2)[:, None] - 2 * a @ b.transpose(1, 2) / a.shape[2]
    return found.clamp(min=0)


def apart(count: int, device: torch.device) -> Tensor:
    """[F, F] how many frames lie between two, the later one counted."""
    place = torch.arange(count, device=device)
    return (place[:, None] - place).abs()

"""The plain error of an autoencoder of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from features.objectives.run_objective import RunOutputs, check_factor
from meshgnn.config import Config as BaseConfig


class Reconstruction(nn.Module):
    """Mean absolute difference to channel 0."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            factor: in the sum of all objectives.
        """

        transformer: ClassVar[bool] = False
        channels: ClassVar[int] = 1
        windows: ClassVar[int] = 1
        joint: ClassVar[bool] = False

        factor: float = 1.0

        def __post_init__(self) -> None:
            check_factor(self.factor)

        def build(self, shape: Sequence[int], features: int) -> "Reconstruction":
            return Reconstruction()

    def forward(self, outputs: RunOutputs) -> Tensor:
        return reconstruction_loss(outputs.rebuilt, outputs.window)


def reconstruction_loss(rebuilt: Tensor, window: Tensor) -> Tensor:
    """[B, 1, X, Y, Z, F] against channel 0 of [B, C, X, Y, Z, F] -> [B]."""
    return (rebuilt[:, 0].float() - window[:, 0]).abs().flatten(1).mean(1)

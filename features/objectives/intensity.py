"""The error of an autoencoder of runs where a frame stands out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from features.objectives.run_objective import RunOutputs, check_factor
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError


class Intensity(nn.Module):
    """Mean absolute difference to channel 0 at the voxels whose z-score over time stands out in their frame, after
    arXiv 2112.05761."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            factor: in the sum of all objectives.
            quantile: of the magnitudes above 0 in a frame, which a voxel has to exceed.
        """

        transformer: ClassVar[bool] = False
        channels: ClassVar[int] = 2
        windows: ClassVar[int] = 1
        joint: ClassVar[bool] = False

        factor: float = 1.0
        quantile: float = 0.9

        def __post_init__(self) -> None:
            check_factor(self.factor)
            if not 0 <= self.quantile < 1:
                raise SettingError(f"<quantile> must be at least 0 and below 1, got {self.quantile}")

        def build(self, shape: Sequence[int], features: int) -> "Intensity":
            return Intensity(self.quantile)

    def __init__(self, quantile: float) -> None:
        super().__init__()
        self.quantile = quantile

    def forward(self, outputs: RunOutputs) -> Tensor:
        return intensity_loss(outputs.rebuilt, outputs.window, self.quantile)


def intensity_loss(rebuilt: Tensor, window: Tensor, quantile: float) -> Tensor:
    """Mean over frames of the mean over the voxels of a frame that stand out; 0 for a frame without any.

    The background is what is not above the least value of channel 0 in a frame; nothing stands out there.

    Args:
        rebuilt: [B, 1, X, Y, Z, F].
        window: [B, 2, X, Y, Z, F].
        quantile: of the magnitudes of channel 1 that are above 0.

    Returns:
        [B].
    """
    frames = window.movedim(-1, 1).flatten(3)  # [B, F, 2, voxels]
    values, scores = frames[:, :, 0], frames[:, :, 1].abs()
    scores = scores * (values > values.amin(2, keepdim=True))
    chosen = (scores > quantile_above_zero(scores, quantile)[..., None]).to(values.dtype)
    error = (rebuilt[:, 0].float().movedim(-1, 1).flatten(2) - values).abs()
    return ((error * chosen).sum(2) / chosen.sum(2).clamp(min=1)).mean(1)


def quantile_above_zero(values: Tensor, quantile: float) -> Tensor:
    """[..., N] -> [...], of the values above 0 in a row, interpolated linearly; infinite for a row without any."""
    ordered = values.where(values > 0, values.new_tensor(torch.inf)).sort(-1).values
    place = quantile * ((values > 0).sum(-1, keepdim=True) - 1).clamp(min=0)
    low = place.floor().long()
    first, second = ordered.gather(-1, low), ordered.gather(-1, place.ceil().long())
    between = torch.where(first.isinf(), first, first + (second - first) * (place - low))
    return between.squeeze(-1)

"""Which frames of a run lie beside each other, as a classification."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from features.encoders.item_encoder import check_counts
from features.objectives.full_precision import full_precision
from features.objectives.run_objective import RunOutputs, apart, check_factor
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError


class FrameInfoNCE(nn.Module):
    """InfoNCE (van den Oord et al. 2018, arXiv 1807.03748, eq. 4) over the frames of one window: near ones are
    positives, all others of the window negatives."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            factor: in the sum of all objectives.
            temperature: divides the cosine similarities.
            near: frames so far apart count as near.
        """

        transformer: ClassVar[bool] = True
        channels: ClassVar[int] = 1
        windows: ClassVar[int] = 1
        joint: ClassVar[bool] = False

        factor: float = 1.0
        temperature: float = 0.1
        near: int = 1

        def __post_init__(self) -> None:
            check_factor(self.factor)
            check_counts(near=self.near)
            if not self.temperature > 0:
                raise SettingError(f"<temperature> must be above 0, got {self.temperature}")

        def build(self, shape: Sequence[int], features: int) -> "FrameInfoNCE":
            """Raises SettingError unless some frames of a window are not near."""
            if shape[-1] < self.near + 2:
                raise SettingError(f"of {shape[-1]} frames all are as near as <near>={self.near}; take more frames")
            return FrameInfoNCE(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, outputs: RunOutputs) -> Tensor:
        return frame_infonce(outputs.states, self.config.temperature, self.config.near)


@full_precision
def frame_infonce(states: Tensor, temperature: float, near: int = 1) -> Tensor:
    """Mean over the ordered pairs of near frames of the negative log of the share of one among all others in the eyes
    of the other.

    Args:
        states: [B, F, D], of any length; they are normalised here.
        temperature: divides the cosine similarities.
        near: frames so far apart count as near.

    Returns:
        [B].
    """
    unit = F.normalize(states, dim=2)
    between = apart(states.shape[1], states.device)
    logits = (unit @ unit.transpose(1, 2) / temperature).masked_fill(between == 0, float("-inf"))
    positive = (between > 0) & (between <= near)
    return -torch.where(positive, logits.log_softmax(2), 0).sum((1, 2)) / positive.sum()

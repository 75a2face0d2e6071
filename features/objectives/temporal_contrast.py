"""Contrast between the frames of a window: near ones shall be alike, distant ones not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from features.encoders.item_encoder import check_counts
from features.objectives.run_objective import RunOutputs, apart, check_factor, squared_distances
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError

PUBLISHED_MARGIN, PUBLISHED_SCALE = 60_000.0, 1_000.0


class TemporalContrast(nn.Module):
    """A margin loss (Hadsell et al. 2006, 10.1109/CVPR.2006.100, eq. 4, without the square of the hinge) on all pairs
    of frames of a window."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            factor: in the sum of all objectives.
            variant: corrected pulls near frames together and pushes distant ones apart, each window by itself, on
                states of length 1 per feature. published is the loss of a repository of 2022 (ML4HPC
                4D_fMRI_Transformer) for comparison: near and distant are exchanged there, distances summed over the
                batch and all features before the margin of 60,000.
            near: frames so far apart count as near.
            margin: beyond which distant frames are left alone, of corrected.
        """

        transformer: ClassVar[bool] = True
        channels: ClassVar[int] = 1
        windows: ClassVar[int] = 1

        factor: float = 1.0
        variant: Literal["corrected", "published"] = "corrected"
        near: int = 1
        margin: float = 1.0

        @property
        def joint(self) -> bool:
            """The published value is one of the whole batch."""
            return self.variant == "published"

        def __post_init__(self) -> None:
            check_factor(self.factor)
            check_counts(near=self.near)
            if not self.margin > 0:
                raise SettingError(f"<margin> must be above 0, got {self.margin}")

        def build(self, shape: Sequence[int], features: int) -> "TemporalContrast":
            """Raises SettingError for windows of a single frame."""
            if shape[-1] < 2:
                raise SettingError("frames of a window are contrasted, and there is a single one; take more frames")
            return TemporalContrast(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, outputs: RunOutputs) -> Tensor:
        if self.config.variant == "published":
            return published_contrast(outputs.states, self.config.near)
        return temporal_contrast(outputs.states, self.config.near, self.config.margin)


def temporal_contrast(states: Tensor, near: int = 1, margin: float = 1.0) -> Tensor:
    """Mean over the pairs of frames of d if they are near, of max(0, margin - d) otherwise, d the mean over features of
    the squared difference of states after layer norm.

    Args:
        states: [B, F, D].
        near: frames so far apart count as near.
        margin: of the others.

    Returns:
        [B].
    """
    states = F.layer_norm(states.float(), states.shape[-1:])
    pairs = _pairs(states.shape[1], states.device)
    distances = squared_distances(states, states)[:, *pairs]
    return pulled_or_pushed(distances, apart(states.shape[1], states.device)[pairs] <= near, margin).mean(1)


def published_contrast(states: Tensor, near: int = 1) -> Tensor:
    """The published loss [B, F, D] -> scalar: near frames are pushed apart, distant ones pulled together."""
    count, features = states.shape[1:]
    pairs = _pairs(count, states.device)
    distances = squared_distances(states.float(), states.float()).sum(0)[pairs] * features
    pulled = apart(count, states.device)[pairs] > near
    return pulled_or_pushed(distances, pulled, PUBLISHED_MARGIN).sum() / (count * (count - 1) * PUBLISHED_SCALE)


def pulled_or_pushed(distances: Tensor, pulled: Tensor, margin: float) -> Tensor:
    """The distance itself where a pair is pulled together, what it lacks to the margin where it is pushed apart."""
    return torch.where(pulled, distances, (margin - distances).clamp(min=0))


def _pairs(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Numbers of the later and the earlier frame of every pair."""
    later, earlier = torch.tril_indices(count, count, offset=-1, device=device)
    return later, earlier

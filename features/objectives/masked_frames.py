"""Frames that a transformer does not see have to be told from the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from features.encoders.item_encoder import check_shares
from features.objectives.full_precision import full_precision
from features.objectives.run_objective import RunOutputs, apart, check_factor, drawn, squared_distances
from features.objectives.temporal_contrast import pulled_or_pushed
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError


class MaskedFrames(nn.Module):
    """Features of some frames are zeroed and the transformer runs once more: its states there shall lie near the
    features that were there, and at least a margin from those of other frames.

    Which frames are masked is drawn for every window by itself. Targets are copies made before anything is masked, and
    no gradient goes through them.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            factor: in the sum of all objectives.
            share: of the frames that are masked, at least one.
            near: features of frames so far from the masked one are pulled too; 0 pulls its own alone.
            margin: beyond which features of other frames are left alone.
        """

        transformer: ClassVar[bool] = True
        channels: ClassVar[int] = 1
        windows: ClassVar[int] = 1
        joint: ClassVar[bool] = False

        factor: float = 1.0
        share: float = 0.15
        near: int = 0
        margin: float = 1.0

        def __post_init__(self) -> None:
            check_factor(self.factor)
            check_shares(share=self.share)
            if self.near < 0 or not self.margin > 0:
                raise SettingError("<near> must not be negative, <margin> be above 0")

        def build(self, shape: Sequence[int], features: int) -> "MaskedFrames":
            """Raises SettingError for windows of a single frame."""
            if shape[-1] < 2:
                raise SettingError("frames of a window are masked, and there is a single one; take more frames")
            return MaskedFrames(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, outputs: RunOutputs) -> Tensor:
        assert outputs.again is not None
        count = outputs.frames.shape[1]
        places = masked_places(outputs.draws, count, self.config.share).to(outputs.frames.device)
        targets = outputs.frames.detach().clone()
        hidden = torch.zeros(outputs.frames.shape[:2], dtype=torch.bool, device=places.device).scatter(1, places, True)
        states = outputs.again(outputs.frames.masked_fill(hidden[..., None], 0))
        return masked_loss(states, targets, places, self.config.near, self.config.margin)


def masked_places(draws: Sequence[tuple[int, ...]], count: int, share: float) -> Tensor:
    """[B, n] frames of every window that are masked, drawn from its own numbers."""
    wanted = max(1, round(share * count))
    return torch.stack([torch.from_numpy(drawn(one, 0x3A).permutation(count)[:wanted].copy()) for one in draws])


@full_precision
def masked_loss(states: Tensor, targets: Tensor, places: Tensor, near: int = 0, margin: float = 1.0) -> Tensor:
    """Mean over masked frames of the mean distance to near targets and the mean of what is lacking to the margin from
    the others.

    Distances are means over features of squared differences after layer norm.

    Args:
        states: [B, F, D] of the transformer.
        targets: [B, F, D] features before masking.
        places: [B, n] masked frames.
        near, margin: as in the config.

    Returns:
        [B].
    """
    count, features = states.shape[1:]
    states, targets = (F.layer_norm(one.to(states.dtype), (features,)) for one in (states, targets))
    masked = states.gather(1, places[..., None].expand(-1, -1, features))
    pulled = apart(count, states.device)[places] <= near  # [B, n, F]
    found = pulled_or_pushed(squared_distances(masked, targets), pulled, margin)
    pull, push = ((found * side).sum(2) / side.sum(2).clamp(min=1) for side in (pulled, ~pulled))
    return (pull + push).mean(1)

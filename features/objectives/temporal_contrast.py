"""Contrast between the frames of a window: near ones shall be alike, distant ones not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from features.encoders.item_encoder import check_counts
from features.objectives.full_precision import full_precision
from features.objectives.run_objective import RunOutputs, apart, check_factor
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError

PUBLISHED_MARGIN, PUBLISHED_SCALE = 60_000.0, 1_000.0
EPSILON = 1e-5  # of layer norm


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


@full_precision
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
    # Gradients of products are sums of centred states: none goes through the mean.
    centred = states - states.mean(2, keepdim=True).detach()
    products = centred @ centred.transpose(1, 2) / states.shape[2]
    # Layer norm is a scale per frame, and cheaper on the products than on the states.
    scale = (products.diagonal(dim1=1, dim2=2) + EPSILON).rsqrt()
    found = _distances(products * scale[:, :, None] * scale[:, None])
    between = apart(states.shape[1], states.device)
    return (pulled_or_pushed(found, between <= near, margin).triu(1)).sum((1, 2)) / _pairs(states.shape[1])


@full_precision
def published_contrast(states: Tensor, near: int = 1) -> Tensor:
    """The published loss [B, F, D] -> scalar: near frames are pushed apart, distant ones pulled together."""
    count = states.shape[1]
    # Less the mean over frames, which changes no distance: small ones are not lost between large numbers.
    joined = (states - states.mean(1, keepdim=True).detach()).transpose(0, 1).flatten(1)
    found = pulled_or_pushed(_distances(joined @ joined.T), apart(count, states.device) > near, PUBLISHED_MARGIN)
    return found.triu(1).sum() / (2 * _pairs(count) * PUBLISHED_SCALE)


def pulled_or_pushed(distances: Tensor, pulled: Tensor, margin: float) -> Tensor:
    """The distance itself where a pair is pulled together, what it lacks to the margin where it is pushed apart."""
    return torch.where(pulled, distances, (margin - distances).clamp(min=0))


def _distances(products: Tensor) -> Tensor:
    """[..., F, F] products of vectors -> squares of their distances."""
    own = products.diagonal(dim1=-2, dim2=-1)
    return (own[..., :, None] + own[..., None, :] - 2 * products).clamp(min=0)


def _pairs(count: int) -> float:
    return count * (count - 1) / 2

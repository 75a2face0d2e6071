"""From the features of a frame back to its voxels: the other half of a convolutional autoencoder."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from features.encoders.frame_encoder import Convolution, FrameEncoder, GreenBlock
from features.encoders.item_encoder import check_shares
from features.encoders.recompute import recomputed
from meshgnn.config import Config as BaseConfig


class FrameDecoder(nn.Module):
    """The mirror of a `FrameEncoder` (arXiv 2112.05761): a linear map to its last map, then up through its resolutions.

    [B, features] -> [B, 1, X, Y, Z]. Each step halves the channels with a 1 x 1 x 1 convolution, repeats voxels to the
    sides that the encoder had there, and ends with a residual block. As published it has 6,993,457 parameters.
    While `recompute` is set, activations are computed again in the backward pass.
    """

    recompute: bool = False

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            dropout: share of values dropped at the end of a block in training.
        """

        dropout: float = 0.0

        def __post_init__(self) -> None:
            check_shares(dropout=self.dropout)

        def build(self, encoder: FrameEncoder) -> "FrameDecoder":
            """A decoder of what this encoder says; weights from torch's random state."""
            return FrameDecoder(self, encoder)

    def __init__(self, config: Config, encoder: FrameEncoder) -> None:
        super().__init__()
        assert isinstance(encoder.config, FrameEncoder.Config)
        widths, squeeze = encoder.config.channels[::-1], encoder.config.squeeze
        self.sides = encoder.sides[::-1]
        self.widen = nn.Sequential(
            nn.Linear(encoder.out_channels, encoder.flat), nn.Unflatten(1, (squeeze, *self.sides[0])),
            nn.GroupNorm(squeeze, squeeze), nn.LeakyReLU(), Convolution(squeeze, widths[0], 3, padding=1),
        )  # fmt: skip
        steps = zip(widths, widths[1:], self.sides[1:])
        self.up = nn.ModuleList(_Up(before, after, sides, config.dropout) for before, after, sides in steps)
        self.last = nn.Sequential(nn.Conv3d(widths[-1], widths[-1], 3, padding=1), nn.Conv3d(widths[-1], 1, 1))

    def stages(self) -> tuple[nn.Module, ...]:
        """The linear map, one stage per resolution, the last convolutions."""
        return (self.widen, *self.up, self.last)

    def forward(self, features: Tensor) -> Tensor:
        """[B, features] -> [B, 1, X, Y, Z]."""
        for stage in self.stages():
            again = self.recompute and torch.is_grad_enabled()
            features = recomputed(stage, features) if again else stage(features)
        return features


class _Up(nn.Module):
    """[B, before, x, y, z] -> [B, after, *sides]."""

    def __init__(self, before: int, after: int, sides: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.sides = sides
        self.narrow, self.block = Convolution(before, after, 1), GreenBlock(after, dropout)

    def forward(self, maps: Tensor) -> Tensor:
        return self.block(F.interpolate(self.narrow(maps), size=self.sides, mode="nearest"))

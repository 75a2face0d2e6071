"""A small residual network for patches of sections."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from features.encoders.recompute import recomputed
from features.encoders.residual_block import ResidualBlock
from features.encoders.weights import weights_hash
from meshgnn.config import Config as BaseConfig
from meshgnn.config import to_plain
from meshgnn.errors import InputError, SettingError


class SectionCNN(nn.Module):
    """Pre-activation residual network (He et al. 2016, Identity mappings, fig. 1b) with group norm (Wu & He 2018).

    A strided stem, then stages of residual blocks, each stage at half the resolution of the one before; the last
    maps are averaged along the cortex (columns) and over two or more bands of depth (rows), and a linear layer
    makes the features. Group norm keeps rows independent of their batch, in training too, so that ranks need not
    share statistics. Inputs [B, rows, columns] float, features [B, out_channels].
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            out_channels: features per patch.
            widths: channels of the stages.
            blocks: residual blocks per stage.
            stem_stride: rows and columns; upright patches bear a larger step along the cortex than through it.
            depth_bands: rows that the last maps are averaged into; 1 for patches that are not upright.
        """

        out_channels: int = 64
        widths: tuple[int, ...] = (24, 48, 96, 192)
        blocks: int = 1
        stem_stride: tuple[int, int] = (2, 4)
        depth_bands: int = 3

        def __post_init__(self) -> None:
            if not self.widths or any(width < 8 or width % 8 for width in self.widths):
                raise SettingError(f"<widths> must be multiples of 8, got {self.widths}")
            if self.blocks < 1 or self.out_channels < 1 or self.depth_bands < 1 or min(self.stem_stride) < 1:
                raise SettingError("<blocks>, <out_channels>, <depth_bands> and <stem_stride> must be at least 1")

        def build(self, shape: tuple[int, ...]) -> "SectionCNN":
            """An encoder of patches (rows, columns); weights from torch's random state.

            Raises:
                InputError: items that are no patches, or nothing would be left of them.
            """
            if len(shape) != 2:
                raise InputError(f"a SectionCNN encodes patches, not items of shape {shape}; choose another encoder")
            if min(side // step for side, step in zip(shape, self.stem_stride)) < 2 ** (len(self.widths) - 1):
                raise SettingError(
                    f"patches of {shape[0]} x {shape[1]} px shrink to nothing in {len(self.widths)} stages; use fewer "
                    "<widths>, a smaller <stem_stride> or larger patches"
                )
            return SectionCNN(self, (shape[0], shape[1]))

    level: Literal["node", "graph"] = "node"
    recompute: bool = False  # activations of a block are computed again in the backward pass

    def __init__(self, config: Config, shape: tuple[int, int]) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        self.out_channels = config.out_channels
        stride = config.stem_stride
        kernel = (max(3, 2 * stride[0] + 1), max(3, 2 * stride[1] + 1))
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.stem = nn.Conv2d(1, config.widths[0], kernel, stride, padding, bias=False)
        blocks: list[nn.Module] = []
        before = config.widths[0]
        for stage, width in enumerate(config.widths):
            for number in range(config.blocks):
                blocks.append(ResidualBlock(nn.Conv2d, before, width, 2 if stage and not number else 1))
                before = width
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.GroupNorm(8, before)
        self.features = nn.Linear(before * config.depth_bands, config.out_channels)
        for weight in self.parameters():
            if weight.ndim == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, rows, columns] -> [B, out_channels].

        Raises:
            InputError: patches of another size.
        """
        if inputs.ndim != 3 or tuple(inputs.shape[1:]) != self.shape:
            raise InputError(
                f"this encoder takes patches [B, {self.shape[0]}, {self.shape[1]}], got {tuple(inputs.shape)}"
            )
        x = inputs[:, None].to(memory_format=torch.channels_last)
        x = self.stem(x)
        for block in self.blocks:
            x = recomputed(block, x) if self.recompute and torch.is_grad_enabled() else block(x)
        x = F.relu(self.norm(x))
        x = F.adaptive_avg_pool2d(x, (self.config.depth_bands, 1))
        return self.features(x.flatten(1))

    def identity(self) -> dict[str, Any]:
        """Config and a hash of the weights."""
        rows, columns = self.shape
        size = rows if rows == columns else [rows, columns]
        about = {"encoder": "SectionCNN", "config": to_plain(self.config), "size_px": size}
        return {**about, "weights": weights_hash(self)}

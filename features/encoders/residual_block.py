"""The block of our residual encoders, on images and on volumes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """norm, ReLU, 3x3, norm, ReLU, 3x3, and the input (or its 1x1 projection) on top (He et al. 2016).

    Args:
        convolution: nn.Conv2d, or nn.Conv3d (3x3x3 and 1x1x1).
        before, width: channels in and out, multiples of 8.
        stride: of the first convolution.
    """

    def __init__(self, convolution: type[nn.Conv2d] | type[nn.Conv3d], before: int, width: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, before)
        self.conv1 = convolution(before, width, 3, stride, 1, bias=False)
        self.norm2 = nn.GroupNorm(8, width)
        self.conv2 = convolution(width, width, 3, 1, 1, bias=False)
        # oneDNN writes beyond its memory in the backward pass of a strided 1x1 convolution of 8 channels (torch, CPU):
        # there the pixels that it would skip are left out beforehand, which is the same sum.
        self.skip = stride if before < 16 else 1
        self.short = (
            convolution(before, width, 1, stride // self.skip, bias=False) if stride > 1 or before != width else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(x))
        kept = y
        for axis in range(2, y.ndim) if self.skip > 1 else ():
            kept = kept.index_select(axis, torch.arange(0, y.shape[axis], self.skip, device=y.device))
        short = x if self.short is None else self.short(kept)
        return short + self.conv2(F.relu(self.norm2(self.conv1(y))))

"""Patches of sections as images with channels, as convolutions take them."""

import torch
from torch import Tensor, nn

from meshgnn.errors import InputError


def check_patches(name: str, shape: tuple[int, ...]) -> None:
    """Raises InputError unless `shape` is that of square patches (S, S), or (C, S, S) with channels."""
    if len(shape) not in (2, 3) or shape[-1] != shape[-2] or min(shape) < 1:
        raise InputError(f"a {name} encodes square patches, not items of shape {tuple(shape)}; choose another encoder")


def as_images(inputs: Tensor) -> Tensor:
    """[B, S, S] or [B, C, S, S] -> [B, C, S, S], the channels of a pixel side by side in memory."""
    return (inputs[:, None] if inputs.ndim == 3 else inputs).to(memory_format=torch.channels_last)


def side_by_side(network: nn.Module) -> None:
    """Lay the kernels of a network out as `as_images` lays out its inputs; their values stay."""
    for weight in network.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)

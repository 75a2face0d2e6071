"""Weights of convolutions for more dimensions and for fewer channels, with their responses kept."""

from typing import Literal

import torch
from torch import Tensor

from meshgnn.errors import InputError

Fill = Literal["mean", "centre"]


def inflated(weight: Tensor, depth: int, fill: Fill = "mean") -> Tensor:
    """A kernel of images as one of volumes, with a new first axis of space.

    Where a volume is constant along that axis, the response is that of the image (Carreira & Zisserman 2017, section
    2.4). `mean` repeats the kernel and divides by `depth`: so away from the ends of the axis, or with borders repeated.
    `centre` puts it on the middle plane between zeros: so everywhere, for an odd depth and padding by half of it.

    Args:
        weight: [out, in, h, w].
        depth: of the new axis.
        fill: mean or centre.

    Returns:
        [out, in, depth, h, w].

    Raises:
        InputError: not a kernel of images, or an even depth to be centred.
    """
    if weight.ndim != 4 or depth < 1:
        raise InputError(f"only kernels [out, in, h, w] can be inflated, got {tuple(weight.shape)} for depth {depth}")
    if fill == "mean":
        return (weight[:, :, None] / depth).expand(-1, -1, depth, -1, -1).contiguous()
    if depth % 2 == 0:
        raise InputError(f"a kernel of depth {depth} has no middle plane; use fill=mean")
    volume = weight.new_zeros((*weight.shape[:2], depth, *weight.shape[2:]))
    volume[:, :, depth // 2] = weight
    return volume


def with_channels(weight: Tensor, channels: int) -> Tensor:
    """A kernel [out, in, ...] for another number of channels: the sum over those it had, shared out evenly.

    On one channel the response is that of the original kernel to the input repeated on all its channels; on several
    equal channels likewise.

    Raises:
        InputError: not a kernel, or no channels.
    """
    if weight.ndim < 3 or channels < 1:
        raise InputError(f"a weight of shape {tuple(weight.shape)} has no channels to change to {channels}")
    if weight.shape[1] == channels:
        return weight
    shape = [-1] * weight.ndim
    shape[1] = channels
    return (weight.sum(1, keepdim=True) / channels).expand(shape).contiguous()


def fitted(weight: Tensor, shape: torch.Size, fill: Fill, *, first: bool) -> Tensor | None:
    """A weight in the shape that a network wants, or None if there is no way.

    Args:
        weight: as it is.
        shape: wanted.
        fill: of the new axis of space.
        first: whether it is the kernel that reads the input: only there may the number of channels differ.
    """
    if weight.ndim == 4 and len(shape) == 5 and weight.shape[2:] == shape[3:]:
        weight = inflated(weight, shape[2], fill)
    if first and weight.ndim == len(shape) and weight.ndim > 2 and weight.shape[1] != shape[1]:
        weight = with_channels(weight, shape[1])
    return weight if weight.shape == shape else None

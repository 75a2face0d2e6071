"""Losses that are computed in full precision whatever a training mixes."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def full_precision(loss: Callable[Concatenate[Tensor, P], Tensor]) -> Callable[Concatenate[Tensor, P], Tensor]:
    """The loss of a first argument of at least single precision, with autocast off.

    Autocast computes every product in half precision, whatever its factors are; the differences that a distance or a
    softmax at low temperature is made of are then lost.
    """

    @wraps(loss)
    def whole(first: Tensor, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        with torch.autocast(first.device.type, enabled=False):
            return loss(first if first.dtype == torch.float64 else first.float(), *args, **kwargs)

    return whole

"""Dropout by a compiled loop: torch draws its mask number by number on the CPU, which takes longer than the layer.

The mask is a function of a seed and the place of a value, and is made again for the gradient instead of being kept.
"""

from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

_WORDS = 1 << 32  # values of a mixed word


@njit(cache=True, nogil=True)
def _dropped(x: NDArray[Any], out: NDArray[Any], scale: Any, least: Any, first: Any, second: Any) -> None:
    """out = scale x where the mixed word of a place is at least `least`, elsewhere 0.

    The mixing is the finaliser of MurmurHash3 (Appleby 2011), which spreads a counter over all words of 32 bits.
    """
    for k in range(len(x)):
        word = np.uint32(k) ^ first
        word = np.uint32(np.uint32(word ^ (word >> np.uint32(16))) * np.uint32(0x85EBCA6B))
        word = np.uint32(np.uint32(word ^ (word >> np.uint32(13))) * np.uint32(0xC2B2AE35))
        word = np.uint32(np.uint32(word ^ (word >> np.uint32(16))) + second)
        word = np.uint32(np.uint32(word ^ (word >> np.uint32(15))) * np.uint32(0x2C1B3C6D))
        word = np.uint32(word ^ (word >> np.uint32(16)))
        out[k] = scale * x[k] if word >= least else x[k] * 0


@torch.library.custom_op("meshgnn::dropped", mutates_args=())
def dropped(x: Tensor, share: float, seed: Tensor) -> Tensor:
    """`share` of the values of x set to 0, the others divided by 1 - share; the same ones for the same seed.

    Args:
        x: float32 or float64 on the CPU.
        seed: [1] int64.
    """
    values = np.ascontiguousarray(x.detach().numpy())
    out, number = np.empty_like(values), int(seed)
    words = (np.uint32(number & (_WORDS - 1)), np.uint32(number >> 32 & (_WORDS - 1)))
    least = np.uint32(min(round(share * _WORDS), _WORDS - 1))
    _dropped(values.reshape(-1), out.reshape(-1), values.dtype.type(1 / (1 - share)), least, *words)
    return torch.from_numpy(out)


@dropped.register_fake
def _(x: Tensor, share: float, seed: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.share = inputs[1]
    ctx.save_for_backward(inputs[2])


def _back(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
    return dropped(gradient, ctx.share, *ctx.saved_tensors), None, None


dropped.register_autograd(_back, setup_context=_keep)


def dropout(x: Tensor, share: float, training: bool) -> Tensor:
    """`torch.nn.functional.dropout`, with the mask's seed drawn from torch's global generator.

    Args:
        share: of the values that become 0, in [0, 1).
        training: False changes nothing.
    """
    if not training or not share:
        return x
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return F.dropout(x, share, training)
    return dropped(x, share, torch.randint(1 << 62, (1,)))

"""Features of a large batch that are encoded part by part, and once more when their gradient is known (gradient
caching, Gao et al. 2021, arXiv 2101.06983, section 3.2): memory grows with the part."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor


def cached_features(
    encode: Callable[[Any], Tensor], parts: Sequence[Any], parameters: Sequence[Tensor]
) -> Tensor:  # fmt: skip
    """Features [R, C] of all parts, end to end, with the gradient of encoding them at once.

    The whole is one node of the graph, whatever the number of parts; each parameter gets one gradient, so that
    DistributedDataParallel meets it once. Random numbers and autocast are the same the second time.

    Args:
        encode: features [r, C] of a part; called twice.
        parts: what it is called with.
        parameters: that it uses and that are learnt.
    """
    found = _Cached.apply(encode, tuple(parts), *(value for value in parameters if value.requires_grad))
    assert isinstance(found, Tensor)
    return found


class _Cached(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, encode: Callable[[Any], Tensor], parts: tuple[Any, ...], *parameters: Tensor) -> Tensor:
        ctx.encode, ctx.parts, ctx.parameters = encode, parts, parameters
        ctx.device = parameters[0].device
        ctx.mixed = torch.is_autocast_enabled(ctx.device.type), torch.get_autocast_dtype(ctx.device.type)
        ctx.states, found = [], []
        for part in parts:
            ctx.states.append(_state(ctx.device))
            found.append(encode(part))
        ctx.sizes = [len(one) for one in found]
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        sums: list[Tensor | None] = [None] * len(ctx.parameters)

        def added(k: int, value: Tensor) -> Tensor:
            """Take a gradient as soon as it is known, and leave numbers that need no memory in its place."""
            total = sums[k]
            sums[k] = value if total is None else total.add_(value)
            return value.new_zeros(()).expand_as(value)

        hooks = [value.register_hook(partial(added, k)) for k, value in enumerate(ctx.parameters)]
        try:
            with _kept_random(ctx.device):
                for part, state, wanted in zip(ctx.parts, ctx.states, gradient.split(ctx.sizes)):
                    _restore(state, ctx.device)
                    with torch.enable_grad(), torch.autocast(ctx.device.type, enabled=ctx.mixed[0], dtype=ctx.mixed[1]):
                        found = ctx.encode(part)
                    torch.autograd.grad(found, ctx.parameters, wanted, allow_unused=True)
                    del found
        finally:
            for hook in hooks:
                hook.remove()
        return None, None, *sums


def _state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _restore(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)


def _kept_random(device: torch.device) -> AbstractContextManager[None]:
    return torch.random.fork_rng([device] if device.type == "cuda" else [])

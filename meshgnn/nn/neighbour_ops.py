"""Sums and attention over neighbours as operators of torch, with gradients, for `torch.compile` and for GPUs too.

On the CPU they are the compiled loops of `kernels`, on other devices torch's own operators. The graph is symmetric, so
that a gradient runs over the same lists. V nodes, E directed edges, C channels, H heads of D channels.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag

from meshgnn.nn import kernels


@torch.library.custom_op("meshgnn::scaled_sum", mutates_args=())
def scaled_sum(x: Tensor, starts: Tensor, indices: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """y_i = left_i * sum over neighbours j of right_j x_j, [V, C] -> [V, C]; 0 without neighbours.

    Args:
        starts, indices: [V + 1] and [E] int32 lists of neighbours, symmetric.
        left, right: [V] scales; of the gradient they change places.
    """
    if x.device.type != "cpu":
        scaled = x * right[:, None].to(x.dtype)
        found = embedding_bag(indices, scaled, starts, mode="sum", include_last_offset=True)
        return found * left[:, None].to(x.dtype)
    if x.dtype not in (torch.float32, torch.float64):  # half precision is summed in single
        return scaled_sum(x.float(), starts, indices, left, right).to(x.dtype)
    values = np.ascontiguousarray(x.detach().numpy())
    out = np.empty_like(values)
    scales = (one.numpy().astype(values.dtype, copy=False) for one in (left, right))
    rows = starts.numpy()
    kernels.over_rows(kernels.scaled_sum, rows, x.shape[1], indices.numpy(), values, *scales, out)
    return torch.from_numpy(out)


@scaled_sum.register_fake
def _(x: Tensor, starts: Tensor, indices: Tensor, left: Tensor, right: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _keep_sum(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[1:])


def _sum_back(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
    starts, indices, left, right = ctx.saved_tensors
    return scaled_sum(gradient, starts, indices, right, left), None, None, None, None


scaled_sum.register_autograd(_sum_back, setup_context=_keep_sum)


@torch.library.custom_op("meshgnn::propagated", mutates_args=())
def propagated(
    x: Tensor, starts: Tensor, indices: Tensor, left: Tensor, right: Tensor, back: float, rounds: int
) -> Tensor:
    """z_i <- back x_i + (1 - back) / 2 (z_i + left_i * sum over neighbours j of right_j z_j), from z = x; [V, C].

    Without neighbours z_i stands for their sum. With the mean over neighbours this is the personalised propagation of
    Gasteiger et al. 2019 (APPNP, eq. 5) in lazy steps.

    Args:
        x: [V, C].
        starts, indices, left, right: see `scaled_sum`; of the gradient the scales change places.
        back: share of the start in every round.
    """
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return _propagated_anywhere(x, starts, indices, left, right, back, rounds)
    origin = np.ascontiguousarray(x.detach().numpy())
    scales = [one.numpy().astype(origin.dtype, copy=False) for one in (left, right)]
    rows, near, share = starts.numpy(), indices.numpy(), origin.dtype.type(back)
    state, spare = origin.copy(), np.empty_like(origin)
    for _ in range(rounds):
        kernels.over_rows(kernels.lazy_round, rows, x.shape[1], near, state, origin, *scales, share, spare)
        state, spare = spare, state
    return torch.from_numpy(state)


def _propagated_anywhere(
    x: Tensor, starts: Tensor, indices: Tensor, left: Tensor, right: Tensor, back: float, rounds: int
) -> Tensor:
    """By torch's operators."""
    lonely, state = (starts.diff() == 0)[:, None], x.clone()
    for _ in range(rounds):
        near = scaled_sum(state, starts, indices, left, right)
        state = back * x + (1 - back) / 2 * (state + state.where(lonely, near))
    return state


@propagated.register_fake
def _(x: Tensor, starts: Tensor, indices: Tensor, left: Tensor, right: Tensor, back: float, rounds: int) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _keep_propagation(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[1:5])
    ctx.back, ctx.rounds = inputs[5:]


def _propagation_back(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    # The sum of back (A^T)^t g over t below `rounds` and (A^T)^rounds g, by Horner's rule: the same rounds with A^T.
    starts, indices, left, right = ctx.saved_tensors
    found = propagated(gradient, starts, indices, right, left, ctx.back, ctx.rounds)
    return (found, None, None, None, None, None, None)


propagated.register_autograd(_propagation_back, setup_context=_keep_propagation)


@torch.library.custom_op("meshgnn::attend", mutates_args=())
def attend(
    h: Tensor, source: Tensor, target: Tensor, starts: Tensor, indices: Tensor, reverse: Tensor, slope: float
) -> tuple[Tensor, Tensor]:
    """Values summed by shares, [V, H, D], and the shares themselves, [E, H]; see `kernels.attend`.

    Args:
        h: [V, H, D] values.
        source, target: [V, H] scores of a node as neighbour, and as the one that looks.
        starts, indices, reverse: lists of neighbours, and for every edge the place of the one that runs back.
        slope: of the leaky rectifier below 0.
    """
    if h.device.type != "cpu":
        return _attend_anywhere(h, source, target, starts, indices, slope)
    rows, values = starts.numpy(), _plain(h)
    out, shares = np.empty_like(values), np.empty((len(indices), h.shape[1]), values.dtype)
    kernels.over_rows(
        kernels.attend, rows, h.shape[1] * h.shape[2], indices.numpy(), values, _plain(source), _plain(target),
        values.dtype.type(slope), out, shares,
    )  # fmt: skip
    return torch.from_numpy(out).to(h.dtype), torch.from_numpy(shares).to(h.dtype)


@attend.register_fake
def _(
    h: Tensor, source: Tensor, target: Tensor, starts: Tensor, indices: Tensor, reverse: Tensor, slope: float
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(h, memory_format=torch.contiguous_format), h.new_empty((indices.shape[0], h.shape[1]))


@torch.library.custom_op("meshgnn::attend_back", mutates_args=())
def attend_back(
    gradient: Tensor, h: Tensor, source: Tensor, target: Tensor, shares: Tensor, starts: Tensor, indices: Tensor,
    reverse: Tensor, slope: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of h, source and target from that of the summed values."""
    if h.device.type != "cpu":
        with torch.enable_grad():
            h, source, target = (one.detach().requires_grad_() for one in (h, source, target))
            out, _ = _attend_anywhere(h, source, target, starts, indices, slope)
            found = torch.autograd.grad(out, [h, source, target], gradient)
        return found[0], found[1], found[2]
    rows, near, width = starts.numpy(), indices.numpy(), h.shape[1] * h.shape[2]
    values, forth, back, slopes = (_plain(one) for one in (h, source, target, gradient))
    weights, scores = _plain(shares), np.empty(shares.shape, values.dtype)
    h_back, source_back, target_back = np.empty_like(values), np.empty_like(forth), np.empty_like(back)
    kernels.over_rows(
        kernels.attend_back, rows, width, near, values, forth, back, values.dtype.type(slope), weights, slopes, scores,
        target_back,
    )  # fmt: skip
    kernels.over_rows(
        kernels.attend_across, rows, width, near, reverse.numpy(), weights, scores, slopes, h_back, source_back
    )
    found = tuple(torch.from_numpy(one).to(h.dtype) for one in (h_back, source_back, target_back))
    return found[0], found[1], found[2]


@attend_back.register_fake
def _(
    gradient: Tensor, h: Tensor, source: Tensor, target: Tensor, shares: Tensor, starts: Tensor, indices: Tensor,
    reverse: Tensor, slope: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    plain = torch.contiguous_format
    return (
        torch.empty_like(h, memory_format=plain), torch.empty_like(source, memory_format=plain),
        torch.empty_like(target, memory_format=plain),
    )  # fmt: skip


def _keep_attention(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:6], output[1])
    ctx.slope = inputs[6]
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(True)


def _attention_back(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    h, source, target, starts, indices, reverse, shares = ctx.saved_tensors
    found = attend_back(gradient, h, source, target, shares, starts, indices, reverse, ctx.slope)
    return (*found, None, None, None, None)


attend.register_autograd(_attention_back, setup_context=_keep_attention)


def _plain(x: Tensor) -> NDArray[Any]:
    """A contiguous array in single or double precision."""
    kept = x if x.dtype in (torch.float32, torch.float64) else x.float()
    return np.ascontiguousarray(kept.detach().numpy())


def _attend_anywhere(
    h: Tensor, source: Tensor, target: Tensor, starts: Tensor, indices: Tensor, slope: float
) -> tuple[Tensor, Tensor]:
    """By torch's operators."""
    near = indices.long()
    mine = torch.arange(len(h), device=h.device).repeat_interleave(starts.diff().long(), output_size=len(near))
    scores = torch.nn.functional.leaky_relu(target[mine] + source[near], slope)
    place = mine[:, None].expand_as(scores)
    largest = torch.full_like(target, -torch.inf).scatter_reduce(0, place, scores.detach(), "amax")
    shares = (scores - largest[mine]).exp()
    total = torch.zeros_like(target).index_add(0, mine, shares)
    shares = shares / total[mine]
    return torch.zeros_like(h).index_add(0, mine, shares[..., None] * h[near]), shares

"""Rows of all ranks as one batch, with exact gradients. Without torch.distributed there is one rank, and no message."""

from typing import Any

import torch
from torch import Tensor, distributed


def gather_rows(rows: Tensor) -> Tensor:
    """Rows of all ranks, end to end in rank order; gradients flow back to the rank that each row came from."""
    if world() == 1:
        return rows
    return _Gather.apply(rows) if rows.requires_grad else torch.cat(_gathered(rows))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = _gathered(rows)
        ctx.sizes = [len(part) for part in parts]
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Each rank's loss depends on every row: the row's gradient is the sum over ranks.
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total.split(ctx.sizes)[distributed.get_rank()]


def _gathered(rows: Tensor) -> list[Tensor]:
    sizes = _sizes(len(rows), rows.device)
    wide = max(sizes)
    padded = torch.zeros(wide, *rows.shape[1:], dtype=rows.dtype, device=rows.device)
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(parts, padded)
    return [part[:size] for part, size in zip(parts, sizes)]


def joint_count(count: Tensor | int, device: torch.device) -> int:
    """Sum over ranks of a number of rows."""
    return sum(_sizes(int(count), device))


def _sizes(count: int, device: torch.device) -> list[int]:
    if world() == 1:
        return [count]
    mine = torch.tensor([count], device=device)
    parts = [torch.empty_like(mine) for _ in range(world())]
    distributed.all_gather(parts, mine)
    return [int(part) for part in parts]


def rows_before(count: int) -> int:
    """Rows of the ranks before this one, which has `count`."""
    if world() == 1:
        return 0
    device = torch.device("cuda", torch.cuda.current_device()) if distributed.get_backend() == "nccl" else None
    return sum(_sizes(count, device or torch.device("cpu"))[: distributed.get_rank()])


def world() -> int:
    """Number of ranks that meet."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1

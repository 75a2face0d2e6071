"""Rows of all ranks as one batch, with exact gradients. Without torch.distributed there is one rank, and no message."""

from typing import Any

import torch
from torch import Tensor, distributed


def gather_rows(rows: Tensor, sizes: list[int] | None = None) -> Tensor:
    """Rows of all ranks, end to end in rank order; gradients flow back to the rank that each row came from.

    `sizes` of `row_sizes`, where they are known already, save a message.
    """
    if world() == 1:
        return rows
    sizes = row_sizes(len(rows), rows.device) if sizes is None else sizes
    return _Gather.apply(rows, sizes) if rows.requires_grad else torch.cat(_gathered(rows, sizes))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        return torch.cat(_gathered(rows, sizes))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        # Each rank's loss depends on every row: the row's gradient is the sum over ranks.
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total.split(ctx.sizes)[distributed.get_rank()], None


def _gathered(rows: Tensor, sizes: list[int]) -> list[Tensor]:
    wide = max(sizes)
    padded = torch.zeros(wide, *rows.shape[1:], dtype=rows.dtype, device=rows.device)
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(parts, padded)
    return [part[:size] for part, size in zip(parts, sizes)]


def joint_count(count: Tensor | int, device: torch.device) -> int:
    """Sum over ranks of a number of rows."""
    return sum(row_sizes(int(count), device))


def row_sizes(count: int, device: torch.device) -> list[int]:
    """How many rows each rank has."""
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
    return sum(row_sizes(count, device or torch.device("cpu"))[: distributed.get_rank()])


def rank() -> int:
    """Number of this rank."""
    return distributed.get_rank() if world() > 1 else 0


def world() -> int:
    """Number of ranks that meet."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1

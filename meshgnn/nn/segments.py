"""Sums, means and softmax over groups of rows, deterministic in both directions.

N rows, S groups, C channels.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


class _GroupSum(torch.autograd.Function):
    """Sum of the rows of each group; its adjoint hands every row the gradient of its group."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, offsets: Tensor, group: Tensor) -> Tensor:
        ctx.save_for_backward(group)
        return embedding_bag(order, x.contiguous(), offsets, mode="sum")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (group,) = ctx.saved_tensors
        passed = gradients[0][group.clamp(min=0)]
        return passed * (group >= 0)[:, None], None, None, None


class Segments:
    """Which group each row belongs to.

    Args:
        group: [N] int64 number of the group, -1 for a row that belongs to none.
        count: S.
    """

    def __init__(self, group: Tensor, count: int) -> None:
        self.group, self.count = group, count
        inside = (group >= 0).nonzero().ravel()
        self.order = inside[torch.argsort(group[inside], stable=True)]
        self.sizes = torch.bincount(group[inside], minlength=count)
        self.offsets = torch.cumsum(self.sizes, 0) - self.sizes

    def sum(self, x: Tensor) -> Tensor:
        """[N, C] -> [S, C]; 0 for an empty group."""
        return _GroupSum.apply(x, self.order, self.offsets, self.group)

    def mean(self, x: Tensor) -> Tensor:
        """[N, C] -> [S, C]; 0 for an empty group."""
        return self.sum(x) / self.sizes.clamp(min=1)[:, None]

    def softmax(self, scores: Tensor) -> Tensor:
        """Scores [N] -> weights [N] that sum to 1 in every group; 0 for rows that belong to none."""
        inside = self.group >= 0
        place = self.group.clamp(min=0)
        # The largest score of a group only keeps the exponentials in range: no gradient runs through it.
        held = torch.where(inside, scores.detach(), torch.full_like(scores, -torch.inf))
        largest = torch.full((self.count,), -torch.inf, dtype=scores.dtype, device=scores.device)
        largest = largest.scatter_reduce(0, place, held, "amax")
        largest = torch.where(torch.isfinite(largest), largest, torch.zeros_like(largest))
        raised = torch.where(inside, torch.exp(torch.where(inside, scores - largest[place], 0)), 0)
        total = self.sum(raised[:, None])[:, 0]
        return raised / total.clamp(min=torch.finfo(scores.dtype).tiny)[place]

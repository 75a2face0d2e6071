"""Batch norm over the batches of all ranks, on any device."""

from typing import Any

import torch
from torch import Tensor, distributed, nn

from features.encoders.batch_norm import BatchNorm, with_norms


class JointBatchNorm(BatchNorm):
    """`BatchNorm` whose statistics in training are those of the values of all ranks, some of which may have none.

    torch's own SyncBatchNorm takes tensors on GPUs only. All ranks must call it, in the same order. Names and shapes of
    the state are those of `BatchNorm`.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.frozen or not self.training:
            return super().forward(input)
        over = [axis for axis in range(input.ndim) if axis != 1]
        wide = input if input.dtype == torch.float64 else input.float()
        own = wide.new_tensor([input.numel() / input.shape[1]])
        sums = _Sum.apply(torch.cat([wide.sum(over), own]))
        count = int(sums[-1].detach().round())
        if count <= 1:
            return self._by_running(input)
        shape = [1, -1, *[1] * (input.ndim - 2)]
        mean = sums[:-1] / count
        apart = wide - mean.view(shape)
        variance = _Sum.apply(apart.square().sum(over)) / count
        self._move(mean.detach(), variance.detach() * count / (count - 1))
        out = apart * (variance + self.eps).rsqrt().view(shape)
        if self.weight is not None:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(input.dtype)

    def _move(self, mean: Tensor, variance: Tensor) -> None:
        if self.still or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(variance.to(self.running_var), share)


class _Sum(torch.autograd.Function):
    """Sum over ranks; every rank's loss depends on it, hence the gradient is a sum too."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.detach().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total


def with_joint_batch_norm(module: nn.Module) -> nn.Module:
    """The module with every `BatchNorm` in it replaced by a `JointBatchNorm` of the same parameters and buffers."""
    return with_norms(module, (BatchNorm,), JointBatchNorm)

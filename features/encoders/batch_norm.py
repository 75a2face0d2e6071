"""Batch norm that bears a single value per channel, and that can be frozen."""

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


class BatchNorm(_BatchNorm):
    """Batch norm (Ioffe & Szegedy 2015) of [B, C] or [B, C, ...], with the running statistics in two more cases.

    - One value per channel in training (one subject in the batch has this input) has no variance. It is normalised by
      the running statistics, and these do not move. So it is with none (the subjects are on another rank).
    - While `frozen` is set the layer is as in eval mode whatever the mode of the network, so that no later call of
      `train()` moves the statistics of a part that is not trained.

    While `still` is set it normalises as ever, and its statistics do not move: a forward pass that is computed a second
    time must not count twice.

    Names and shapes of the state are those of torch's own classes.
    """

    frozen: bool = False
    still: bool = False

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"batch norm takes [B, C, ...], got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        alone = self.training and input.ndim > 1 and input.numel() <= input.shape[1]
        if (self.frozen or alone) and self.running_mean is not None:
            return self._by_running(input)
        if self.still and self.training and self.running_mean is not None and self.running_var is not None:
            # Copies, since the layer must keep the same tensors for the backward pass as it did the first time.
            mean, variance = self.running_mean.clone(), self.running_var.clone()
            return F.batch_norm(input, mean, variance, self.weight, self.bias, True, 0.0, self.eps)
        return super().forward(input)

    def _by_running(self, input: Tensor) -> Tensor:
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


def with_own_batch_norm(module: nn.Module) -> nn.Module:
    """The module with every batch norm of torch in it replaced by a `BatchNorm` of the same parameters and buffers."""
    return with_norms(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), BatchNorm)


def with_norms(module: nn.Module, kinds: tuple[type[nn.Module], ...], norm: type[BatchNorm]) -> nn.Module:
    """The module with every batch norm of these kinds in it replaced by another of the same parameters and buffers."""
    if type(module) in kinds:
        assert isinstance(module, _BatchNorm)
        made = norm(
            module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats, device="meta"
        )
        made.weight, made.bias = module.weight, module.bias
        made.running_mean, made.running_var = module.running_mean, module.running_var
        made.num_batches_tracked = module.num_batches_tracked
        return made.train(module.training)
    for name, child in module.named_children():
        setattr(module, name, with_norms(child, kinds, norm))
    return module

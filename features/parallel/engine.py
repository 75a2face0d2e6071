"""What a mode of parallel training does in a step; one subclass per kind of mode."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor

from features.encoders.batch_norm import BatchNorm, with_own_batch_norm
from features.encoders.item_encoder import ItemEncoder
from features.fusion.multi_input_net import MultiInputNet
from features.parallel.batches import Read, Share
from features.parallel.ranks import Ranks
from features.parallel.settings import Parallel
from features.parallel.state import own_tensors, whole
from meshgnn.train.target_costs import TargetCosts

Cost = Callable[[Tensor, Tensor, tuple[int, ...]], Tensor]  # (outputs, values, counts) -> part of the joint loss


class Engine:
    """A network on several ranks, between the drawing of a batch and the step of the optimiser.

    Args:
        network: the same on all ranks when it comes in.
        costs: of the targets.
        settings: the mode.
        ranks: this process among the others.
        precision: float, or bf16 (mixed).
        recompute: activations in the backward pass instead of keeping them.
    """

    part, parts = 0, 1  # which places of a batch this rank reads: part, part + parts, ...
    reads: tuple[str, ...] | None = None  # names of the blocks whose items it reads; none for all

    def __init__(
        self, network: MultiInputNet, costs: TargetCosts, settings: Parallel, ranks: Ranks, *, precision: str = "float",
        recompute: bool = False,
    ) -> None:  # fmt: skip
        with_own_batch_norm(network)
        self.network, self.costs, self.settings, self.ranks = network, costs, settings, ranks
        self.dtype = next(network.parameters()).dtype
        self.precision, self.recompute = precision, recompute
        self.own: dict[str, Tensor] = own_tensors(network, [network])

    # -- what every mode has its own way of -----------------------------------------------------------------------

    def backward(self, share: Share, scale: float, more: bool) -> float:
        """Add the gradient of a batch to what is there.

        Args:
            share: of this rank.
            scale: of the gradient.
            more: whether another batch is added before the optimiser's step.

        Returns:
            The loss of the batch of all ranks.
        """
        raise NotImplementedError

    def reduce(self) -> None:
        """Make the gradients those of the batch of all ranks, before anything reads them."""

    def predict(self, read: Read, subjects: NDArray[np.integer], batch: int) -> NDArray[np.float32]:
        """Outputs [B, T] of subjects in eval mode, on all ranks."""
        raise NotImplementedError

    def _squares(self, own: Tensor) -> Tensor:
        """The sum over the ranks that hold different parts of a gradient."""
        return own

    def _hands_in(self) -> bool:
        """Whether this rank's part of the weights is handed in; of equal ones the first is."""
        return self.ranks.rank == 0

    # -- what all modes do alike ----------------------------------------------------------------------------------

    def parameters(self) -> list[nn.Parameter]:
        """Those that this rank holds."""
        return [one for one in self.own.values() if isinstance(one, nn.Parameter)]

    def begin(self) -> None:
        """After the network was put into training mode, and before the batches of an epoch."""
        if self.settings.batch_norm == "frozen":
            for part in self.network.modules():
                if isinstance(part, BatchNorm):
                    part.frozen = True
        for part in self.network.modules():
            if isinstance(part, ItemEncoder):
                part.recompute = self.recompute

    def clip(self, most: float) -> float:
        """Cut the norm of the whole gradient; the norm before it was cut."""
        gradients = [one.grad for one in self.parameters() if one.grad is not None]
        local = [one.to_local() if isinstance(one, DTensor) else one for one in gradients]
        total = torch.zeros((), dtype=torch.float64, device=self.ranks.device)
        for one in local:
            total += one.detach().double().square().sum()
        norm = float(self._squares(total).sqrt())
        if most and norm > most:
            for one in local:
                one.mul_(most / (norm + 1e-6))
        return norm

    def settle(self) -> None:
        """Running statistics as on the first rank that has them: those of a rank's own batches differ."""

    def kept(self) -> dict[str, Tensor]:
        """A copy of this rank's part of the weights; all ranks' together are the network, each once."""
        found = {name: whole(one) for name, one in self.own.items()}
        return found if self._hands_in() else {}

    def handed_in(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of what every rank was asked for, what this rank hands in."""
        return dict(found) if self._hands_in() else {}

    def autocast(self) -> Any:
        """The context of a forward pass."""
        return torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=self.precision == "bf16")


def placed(items: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """Items where the network is, in its precision."""
    return {name: one.to(device=device, dtype=dtype) for name, one in items.items()}


def summed_gradients(parameters: Iterable[nn.Parameter], group: Any) -> None:
    """The gradients of equal parameters summed over a group; None where no rank of it has one."""
    trained = [one for one in parameters if one.requires_grad]
    if not trained:
        return
    device = trained[0].device
    has = torch.tensor([one.grad is not None for one in trained], dtype=torch.int32, device=device)
    distributed.all_reduce(has, group=group)
    trained = [one for one, count in zip(trained, has.tolist()) if count]
    flat = torch.cat([(torch.zeros_like(one) if one.grad is None else one.grad).ravel() for one in trained])
    distributed.all_reduce(flat, group=group)
    for one, found in zip(trained, flat.split([one.numel() for one in trained])):
        one.grad = found.view_as(one).clone()


def broadcast_buffers(buffers: Iterable[Tensor], first: int, group: Any = None) -> None:
    """Buffers of the global rank `first`, on all ranks of a group."""
    for one in buffers:
        distributed.broadcast(one, first, group=group)

"""Supervised contrastive learning: the loss, over all ranks, and the projection that is dropped afterwards."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from features.objectives.full_precision import full_precision
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError


class SupervisedContrastive(nn.Module):
    """The objective: the loss on a projection of the features, and class logits as a second, weighted term.

    With four patches per class the contrastive loss alone learns slowly; logits (a learnt prototype per class, as in
    Cui et al. 2021, arXiv 2107.12028) lead it off its plateau. `classify=0` is Khosla et al. alone.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            temperature: of the loss.
            projection: channels of the space in which items are compared.
            views: augmented views of each item; 2 is the multiviewed batch of Khosla et al.
            classify: weight of the cross-entropy of linear class logits.
        """

        labelled: ClassVar[bool] = True

        temperature: float = 0.1
        projection: int = 64
        views: int = 1
        classify: float = 1.0

        def __post_init__(self) -> None:
            if not self.temperature > 0 or min(self.projection, self.views) < 1 or self.classify < 0:
                raise SettingError(
                    "<temperature> must be above 0, <projection> and <views> at least 1, <classify> not negative"
                )

        def build(self, in_channels: int, n_classes: int) -> "SupervisedContrastive":
            return SupervisedContrastive(self, in_channels, n_classes)

    def __init__(self, config: Config, in_channels: int, n_classes: int) -> None:
        super().__init__()
        self.temperature, self.weight = config.temperature, config.classify
        self.projection = Projection(in_channels, config.projection)
        self.prototypes = nn.Linear(in_channels, n_classes) if config.classify else None

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """This rank's features [B, C] and classes [B] -> scalar; its mean over ranks is the joint loss."""
        loss = supervised_contrastive(self.projection(features), labels, self.temperature)
        if self.prototypes is None:
            return loss
        return loss + self.weight * joint_cross_entropy(self.prototypes(features), labels)


@full_precision
def supervised_contrastive(embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss L_out (Khosla et al. 2020, arXiv 2004.11362, eq. 2), over the batch of all ranks.

    Every row is an anchor; its positives are the other rows of its class, all other rows stand in the denominator.
    Anchors without a positive are left out of the mean. Under torch.distributed each rank hands in its part (of any
    size): the mean over ranks of what is returned is the loss of the joint batch, and so is the mean over ranks of
    the gradients, which is what DistributedDataParallel computes.

    Args:
        embeddings: [B, D], of any length; they are normalised here.
        labels: [B] class numbers.
        temperature: divides the cosine similarities.

    Returns:
        scalar; 0 if no anchor anywhere has a positive.
    """
    z = F.normalize(embeddings, dim=1)
    everyone, classes, first = gather_rows(z), gather_rows(labels), _rows_before(len(z))
    own = torch.arange(first, first + len(z), device=z.device)
    logits = z @ everyone.T / temperature
    itself = F.one_hot(own, len(everyone)).bool()
    logits = logits.masked_fill(itself, float("-inf"))
    log_share = logits - logits.logsumexp(1, keepdim=True)
    positive = (labels[:, None] == classes[None, :]) & ~itself
    count = positive.sum(1)
    per_anchor = -torch.where(positive, log_share, 0).sum(1) / count.clamp(min=1)
    same = (classes[:, None] == classes[None, :]).sum(1)
    anchors = (same > 1).sum().clamp(min=1)
    return per_anchor[count > 0].sum() * _world() / anchors


def joint_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """This rank's logits [B, K] and classes [B] -> scalar whose mean over ranks is that of the joint batch."""
    total = F.cross_entropy(logits, labels, reduction="sum")
    return total * _world() / sum(_sizes(len(labels), labels.device))


class Projection(nn.Module):
    """[B, in_channels] -> [B, out_channels]: one hidden layer; used in pretraining only (Khosla et al. 2020, sec. 3.1).

    Inputs and hidden units are standardised over the joint batch of all ranks. Pooled features of a new network
    point nearly the same way for every patch; without this the loss starts on a plateau and stays there.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(in_channels, in_channels)
        self.out = nn.Linear(in_channels, out_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(standardised(self.hidden(standardised(x)))))


def standardised(rows: Tensor) -> Tensor:
    """[B, C] with mean 0 and variance 1 per column over the joint batch of all ranks."""
    everyone = gather_rows(rows)
    return (rows - everyone.mean(0)) * (everyone.var(0, correction=0) + 1e-5).rsqrt()


def gather_rows(rows: Tensor) -> Tensor:
    """Rows of all ranks, end to end in rank order; gradients flow back to the rank that each row came from."""
    if _world() == 1:
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


def _sizes(count: int, device: torch.device) -> list[int]:
    if _world() == 1:
        return [count]
    mine = torch.tensor([count], device=device)
    parts = [torch.empty_like(mine) for _ in range(_world())]
    distributed.all_gather(parts, mine)
    return [int(part) for part in parts]


def _rows_before(count: int) -> int:
    if _world() == 1:
        return 0
    device = torch.device("cuda", torch.cuda.current_device()) if distributed.get_backend() == "nccl" else None
    return sum(_sizes(count, device or torch.device("cpu"))[: distributed.get_rank()])


def _world() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1

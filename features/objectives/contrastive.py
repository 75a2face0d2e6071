"""Supervised contrastive learning: the loss, over all ranks, and the projection that is dropped afterwards."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from features.objectives.full_precision import full_precision
from features.objectives.gathered import gather_rows, joint_count, rank, row_sizes, world
from features.objectives.rows import Rows
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError

_TABLE = 1 << 16  # similarities that are held at a time


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

    def forward(self, features: Tensor, rows: Rows) -> Tensor:
        """This rank's features [R, C] and what is known of them -> scalar; its mean over ranks is the joint loss. Rows
        without a class are left out.
        """
        features, labels = with_class(features, rows)
        sizes = row_sizes(len(features), features.device)
        loss = supervised_contrastive(self.projection(features, sizes), labels, self.temperature, sizes)
        if self.prototypes is None:
            return loss
        return loss + self.weight * joint_cross_entropy(self.prototypes(features), labels, sizes)


def with_class(features: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
    """The features [R', C] and classes [R'] of the rows that have a class."""
    there = rows.label >= 0
    return (features, rows.label) if bool(there.all()) else (features[there], rows.label[there])


@full_precision
def supervised_contrastive(
    embeddings: Tensor, labels: Tensor, temperature: float, sizes: list[int] | None = None
) -> Tensor:  # fmt: skip
    """Supervised contrastive loss L_out (Khosla et al. 2020, arXiv 2004.11362, eq. 2), over the batch of all ranks.

    Every row is an anchor; its positives are the other rows of its class, all other rows stand in the denominator.
    Anchors without a positive are left out of the mean. Under torch.distributed each rank hands in its part (of any
    size): the mean over ranks of what is returned is the loss of the joint batch, and so is the mean over ranks of
    the gradients, which is what DistributedDataParallel computes.

    Args:
        embeddings: [B, D], of any length; they are normalised here.
        labels: [B] class numbers.
        temperature: divides the cosine similarities.
        sizes: rows of each rank, where they are known already.

    Returns:
        scalar; 0 if no anchor anywhere has a positive.
    """
    classes = gather_rows(labels, sizes)
    return weighted_contrastive(embeddings, lambda part: labels[part, None] == classes[None, :], temperature, sizes)


@full_precision
def weighted_contrastive(
    embeddings: Tensor, weights: Tensor | Callable[[slice], Tensor], temperature: float,
    sizes: list[int] | None = None,
) -> Tensor:  # fmt: skip
    """The same with positives that count more or less: L_i = - sum_j q_ij log softmax_{j != i}(z_i . z_j /
    temperature), q_ij = w_ij / sum_k w_ik, w_ii = 0, meaned over the anchors that have a positive.

    With weights of 0 and 1 it is the supervised loss, with one positive per anchor NT-Xent (Chen et al. 2020, eq. 1).
    Similarities of large batches are computed in blocks of rows: memory grows with the rows, not with their square.

    Args:
        embeddings: [B, D], of any length; they are normalised here.
        weights: [B, N] of this rank's rows (anchors) to the rows of all ranks in rank order, not negative; what a row
            has to itself is ignored. bool, or float. Or a function that gives the rows of a slice.
        temperature: divides the cosine similarities.
        sizes: rows of each rank, where they are known already.

    Returns:
        scalar whose mean over ranks is that of the joint batch; 0 if no anchor anywhere has a positive.
    """
    z = F.normalize(embeddings, dim=1)
    sizes = row_sizes(len(z), z.device) if sizes is None else sizes
    everyone, first = gather_rows(z, sizes), sum(sizes[: rank()])
    if not len(everyone):
        return z.sum()
    of = weights if callable(weights) else weights.__getitem__
    loss, anchors = _Contrast.apply(z, everyone, of, first, temperature)
    return loss * world() / max(joint_count(anchors, z.device), 1)


class _Contrast(torch.autograd.Function):
    """(sum of L_i, number of anchors with a positive) of `weighted_contrastive`. The gradient at a similarity is
    softmax - q; it is summed up at once, block of rows by block, so that no table is kept."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, everyone: Tensor, weights: Callable[[slice], Tensor], first: int, temperature: float
    ) -> tuple[Tensor, Tensor]:
        loss, anchors = z.new_zeros(()), torch.zeros((), dtype=torch.int64, device=z.device)
        own, others = torch.empty_like(z), torch.zeros_like(everyone)
        many = max(1, _TABLE // len(everyone))
        for k in range(0, len(z), many):
            part = z[k : k + many]
            itself = torch.arange(first + k, first + k + len(part), device=z.device)[:, None]
            drawn = weights(slice(k, k + len(part))).to(z).scatter(1, itself, 0.0)
            total = drawn.sum(1, keepdim=True)
            drawn /= total.masked_fill(total == 0, 1)
            logits = (part @ everyone.T).div_(temperature).scatter_(1, itself, float("-inf"))
            log_share = logits.log_softmax(1)
            there = total[:, 0] > 0
            each = -(drawn * log_share.masked_fill(drawn == 0, 0)).sum(1)
            loss, anchors = loss + each[there].sum(), anchors + there.sum()
            # Rows without a positive are no anchors; of a row alone the softmax is none.
            slope = (log_share.exp_() - drawn).masked_fill_(~there[:, None], 0).div_(temperature)
            own[k : k + len(part)] = slope @ everyone
            others += slope.T @ part
        ctx.save_for_backward(own, others)
        ctx.mark_non_differentiable(anchors)
        return loss, anchors

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        own, others = ctx.saved_tensors
        return own * gradients[0], others * gradients[0], None, None, None


def joint_cross_entropy(logits: Tensor, labels: Tensor, sizes: list[int] | None = None) -> Tensor:
    """This rank's logits [B, K] and classes [B] -> scalar whose mean over ranks is that of the joint batch."""
    total = F.cross_entropy(logits, labels, reduction="sum")
    return total * world() / max(sum(row_sizes(len(labels), labels.device) if sizes is None else sizes), 1)


class Projection(nn.Module):
    """[B, in_channels] -> [B, out_channels]: one hidden layer; used in pretraining only (Khosla et al. 2020, sec. 3.1).

    Inputs and hidden units are standardised over the joint batch of all ranks. Pooled features of a new network
    point nearly the same way for every patch; without this the loss starts on a plateau and stays there.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(in_channels, in_channels)
        self.out = nn.Linear(in_channels, out_channels, bias=False)

    def forward(self, x: Tensor, sizes: list[int] | None = None) -> Tensor:
        """[B, in_channels] -> [B, out_channels]; `sizes`: rows of each rank, where they are known already."""
        sizes = row_sizes(len(x), x.device) if sizes is None else sizes
        return self.out(F.relu(standardised(self.hidden(standardised(x, sizes)), sizes)))


def standardised(rows: Tensor, sizes: list[int] | None = None) -> Tensor:
    """[B, C] with mean 0 and variance 1 per column over the joint batch of all ranks."""
    everyone = gather_rows(rows, sizes)
    if not len(everyone):
        return rows
    return (rows - everyone.mean(0)) * (everyone.var(0, correction=0) + 1e-5).rsqrt()

"""What the blocks of a network hand to its fusion."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from meshgnn.config import Config as BaseConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Features of the n subjects of a batch who have a block.

    Args:
        rows: [n] int64, their places in the batch, ascending.
        values: [n, C].
    """

    rows: Tensor
    values: Tensor


Parts = Sequence[Part | None]  # None for a block that nobody in the batch has


@dataclass(frozen=True, kw_only=True)
class FusionConfig(BaseConfig):
    """Base of the configs of fusions.

    `build(widths)` takes the channels of every block and gives a module with `out_channels`; it is called as
    `fusion(parts, present)` with present [B, blocks] bool, and gives [B, out_channels]. A row must not depend on a
    block that its subject lacks, nor on other rows.
    """


def placed(part: Part, batch: int) -> Tensor:
    """[batch, C] with zeros where a subject lacks the block."""
    empty = part.values.new_zeros((batch, part.values.shape[1]))
    return empty.index_copy(0, part.rows, part.values)


def stacked(parts: Parts, batch: int, width: int) -> Tensor:
    """[batch, blocks, width] of parts that all have `width` channels; zeros where a subject lacks a block."""
    first = next(part.values for part in parts if part is not None)
    empty = first.new_zeros((batch, width))
    return torch.stack([empty if part is None else placed(part, batch) for part in parts], 1)

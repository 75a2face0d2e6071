"""The simplest encoder: rows of a table on disk, standardised, with missing values told apart from zero."""

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError


class TableEncoder(nn.Module):
    """Standardises columns by stored mean and sd and appends one "known" bit per column; NaN becomes (0, bit 0).

    Inputs [B, C] float, features [B, 2 C].
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            level: whether a row belongs to a node or to a whole graph.
            clip: standardised values are clipped to +- clip standard deviations.
        """

        level: Literal["node", "graph"] = "node"
        clip: float = 5.0

        def build(self, shape: tuple[int, ...]) -> "TableEncoder":
            """An encoder of rows (C,); it passes values through until it is `fitted`. Raises InputError for no rows."""
            if len(shape) != 1:
                raise InputError(f"a TableEncoder encodes rows, not items of shape {shape}; choose another encoder")
            return TableEncoder(self, shape[0])

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: Config, columns: int) -> None:
        super().__init__()
        self.config = config
        self.level: Literal["node", "graph"] = config.level
        self.out_channels = 2 * columns
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("deviation", torch.ones(columns))

    def fitted(self, rows: Tensor) -> "TableEncoder":
        """This encoder with mean and sd of the training rows [N, C]; NaN is left out column by column.

        Raises:
            InputError: no rows, rows of another width, a column without a value.
        """
        if rows.ndim != 2 or len(rows) == 0 or 2 * rows.shape[1] != self.out_channels:
            raise InputError(
                f"this table encoder needs training rows [N, {self.out_channels // 2}], got {tuple(rows.shape)}"
            )
        known = ~rows.isnan()
        if not known.any(0).all():
            raise InputError(f"column {int((~known.any(0)).nonzero()[0])} of the table has no value at all")
        count = known.sum(0)
        mean = rows.nan_to_num().sum(0) / count
        variance = ((rows - mean).nan_to_num() ** 2 * known).sum(0) / count
        self.mean, self.deviation = mean, variance.sqrt().clamp(min=1e-6)
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C] -> [B, 2 C]."""
        known = ~inputs.isnan()
        scaled = ((inputs - self.mean) / self.deviation).clamp(-self.config.clip, self.config.clip)
        return torch.cat([torch.where(known, scaled, 0), known.to(scaled.dtype)], dim=1)

    def identity(self) -> dict[str, Any]:
        weights = hashlib.sha256(self.mean.numpy().tobytes() + self.deviation.numpy().tobytes()).hexdigest()[:16]
        return {"encoder": "TableEncoder", "level": self.level, "clip": self.config.clip, "weights": weights}

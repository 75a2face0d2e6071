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

        def build(self, rows: Tensor) -> "TableEncoder":
            """Fit mean and sd on the training rows [N, C]; NaN is left out column by column."""
            return TableEncoder(self, rows)

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: Config, rows: Tensor) -> None:
        super().__init__()
        if rows.ndim != 2 or len(rows) == 0:
            raise InputError(f"a table encoder needs training rows [N, C], got {tuple(rows.shape)}")
        known = ~rows.isnan()
        if not known.any(0).all():
            raise InputError(f"column {int((~known.any(0)).nonzero()[0])} of the table has no value at all")
        count = known.sum(0)
        mean = rows.nan_to_num().sum(0) / count
        variance = ((rows - mean).nan_to_num() ** 2 * known).sum(0) / count
        self.config = config
        self.level: Literal["node", "graph"] = config.level
        self.out_channels = 2 * rows.shape[1]
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", variance.sqrt().clamp(min=1e-6))

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C] -> [B, 2 C]."""
        known = ~inputs.isnan()
        scaled = ((inputs - self.mean) / self.deviation).clamp(-self.config.clip, self.config.clip)
        return torch.cat([torch.where(known, scaled, 0), known.to(scaled.dtype)], dim=1)

    def identity(self) -> dict[str, Any]:
        weights = hashlib.sha256(self.mean.numpy().tobytes() + self.deviation.numpy().tobytes()).hexdigest()[:16]
        return {"encoder": "TableEncoder", "level": self.level, "clip": self.config.clip, "weights": weights}

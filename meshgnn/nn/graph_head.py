"""The head of tasks on whole brains: hidden channels of nodes are pooled to one row per brain, then mapped to targets.

Nodes are first averaged within pooling units (areas or hemispheres; by choice every node is a unit of its own). Then
units become one row: their mean; a mean weighted by attention (Ilse, Tomczak & Welling 2018, eq. 8), where a unit that
all brains share (area 17 of the left hemisphere) brings a learnt score of its own; or a sum in which every shared unit
has linear maps of its own ("each"), so that a trait may be read from one area and not from another. Masked nodes, nodes
outside all units and units without a node take no part. G brains, V nodes, H hidden channels, U units, T outputs.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError
from meshgnn.nn.graph_batch import GraphBatch
from meshgnn.nn.segments import Segments


class GraphHead(nn.Module):
    """Masked pooling and a linear map, [V, H] -> [G, T]."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            units: what is averaged first: nodes (nothing), areas or hemispheres.
            pooling: how units become one row: mean, attention, or each (a map of its own for every area).
            channels: hidden channels of the attention's scores, or of a unit before its own map.
        """

        units: Literal["nodes", "areas", "hemispheres"] = "areas"
        pooling: Literal["mean", "attention", "each"] = "mean"
        channels: int = 8

        def __post_init__(self) -> None:
            if not 1 <= self.channels <= 1 << 12:
                raise SettingError("<channels> must lie in 1 to 4096")
            if self.pooling == "each" and self.units == "nodes":
                raise SettingError("<pooling>=each needs <units> that brains share: areas or hemispheres")

        def build(self, in_channels: int, out_channels: int, n_units: int, dropout: float = 0.0) -> "GraphHead":
            """
            Args:
                n_units: how many units brains share; 0 where every node is a unit.
                dropout: share of hidden and pooled values dropped in training.
            """
            return GraphHead(self, in_channels, out_channels, n_units, dropout)

    def __init__(self, config: Config, in_channels: int, out_channels: int, n_units: int, dropout: float) -> None:
        super().__init__()
        self.config, self.dropout = config, dropout
        self.norm = nn.LayerNorm(in_channels)
        if config.pooling == "each":
            self.narrow = nn.Linear(in_channels, config.channels)
            self.linear = nn.Linear(n_units * config.channels, out_channels)
            # Many weights for few subjects: training starts from the constant prediction, and is stopped early.
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)
            return
        self.linear = nn.Linear(in_channels, out_channels)
        if config.pooling == "attention":
            self.hidden_score = nn.Linear(in_channels, config.channels)
            self.score = nn.Linear(config.channels, 1, bias=False)
            self.unit_score = nn.Parameter(torch.zeros(n_units)) if n_units else None

    def forward(self, hidden: Tensor, batch: GraphBatch) -> Tensor:
        """Raises ValueError when a brain of the batch has no node to pool."""
        rows, brain, unit = self._units(hidden, batch)
        groups = Segments(brain, len(batch))
        if int(groups.sizes.min()) == 0:
            raise ValueError("a brain of the batch has no node to pool")
        rows = F.dropout(self.norm(rows), self.dropout, self.training)
        if self.config.pooling == "each":
            own = self.narrow(rows) * (brain >= 0)[:, None]
            return self.linear(own.reshape(len(batch), -1))
        if self.config.pooling == "mean":
            return self.linear(groups.mean(rows))
        score = self.score(torch.tanh(self.hidden_score(rows)))[:, 0]
        if self.unit_score is not None:
            score = score + self.unit_score[unit]
        return self.linear(groups.sum(rows * groups.softmax(score)[:, None]))

    def _units(self, hidden: Tensor, batch: GraphBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of units, the brain of each (-1: none) and its unit's number."""
        nowhere = torch.full_like(batch.brain, -1)
        if self.config.units == "nodes":
            return hidden, torch.where(batch.mask, batch.brain, nowhere), batch.unit
        place = torch.where(batch.mask & (batch.unit >= 0), batch.brain * batch.n_units + batch.unit, nowhere)
        means = Segments(place, len(batch) * batch.n_units)
        number = torch.arange(len(batch) * batch.n_units, device=place.device)
        held = means.sizes > 0
        brain = torch.where(held, number // max(batch.n_units, 1), torch.full_like(number, -1))
        return means.mean(hidden), brain, number % max(batch.n_units, 1)

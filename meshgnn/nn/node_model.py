"""The network of node tasks: features and coordinates through a trunk and the head of nodes."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError
from meshgnn.nn.adjacency import Adjacency
from meshgnn.nn.node_head import NodeHead
from meshgnn.nn.socket import Trunk, TrunkConfig


class CoordinateEncoder(nn.Module):
    """Coordinates as sines and cosines of a few frequencies, then one layer (Tancik et al. 2020, axis-aligned).

    [V, 3] -> [V, channels].
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            frequencies: of the waves, in half periods per unit (a unit is the spread of the training part).
            channels: of the output.
        """

        frequencies: tuple[float, ...] = (1.0, 2.0, 4.0)
        channels: int = 64

        def __post_init__(self) -> None:
            if not 1 <= self.channels <= 1 << 14 or len(self.frequencies) > 64:
                raise SettingError("<channels> must lie in 1 to 16384, and <frequencies> be at most 64")

        def build(self) -> "CoordinateEncoder":
            return CoordinateEncoder(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.linear = nn.Linear(3 * (1 + 2 * len(config.frequencies)), config.channels)

    def forward(self, coordinates: Tensor) -> Tensor:
        waves = [coordinates]
        for frequency in self.config.frequencies:
            waves += [torch.sin(frequency * math.pi * coordinates), torch.cos(frequency * math.pi * coordinates)]
        return F.gelu(self.linear(torch.cat(waves, dim=1)))


class NodeModel(nn.Module):
    """A trunk on features [V, D] and, where given, encoded coordinates [V, 3]; then the head of nodes."""

    def __init__(
        self,
        trunk: TrunkConfig,
        coordinates: CoordinateEncoder.Config,
        n_features: int,
        n_coordinates: int,
        n_classes: int,
    ) -> None:
        super().__init__()
        self.encoder = coordinates.build() if n_coordinates else None
        extra = coordinates.channels if n_coordinates else 0
        self.trunk: Trunk = trunk.build(n_features + extra)
        self.head = NodeHead(self.trunk.out_channels, n_classes, trunk.head())

    def forward(self, features: Tensor, coordinates: Tensor, adjacency: Adjacency) -> Tensor:
        """Logits [V, K]."""
        if self.encoder is not None:
            features = torch.cat([features, self.encoder(coordinates)], dim=1)
        return self.head(self.trunk(features, adjacency), adjacency)

"""GraphSAGE with mean aggregation, Hamilton, Ying & Leskovec 2017."""

from dataclasses import dataclass

from torch import Tensor, nn

from meshgnn.nn.adjacency import Adjacency
from meshgnn.nn.residual import ResidualConfig, ResidualTrunk


class SAGELayer(nn.Module):
    """W_own h_i + W_near mean_j h_j + b (algorithm 1, with the concatenation written as two maps)."""

    def __init__(self, in_channels: int, out_channels: int | None = None) -> None:
        super().__init__()
        out_channels = out_channels or in_channels
        self.own = nn.Linear(in_channels, out_channels)
        self.near = nn.Linear(in_channels, out_channels, bias=False)

    def forward(self, h: Tensor, adjacency: Adjacency) -> Tensor:
        """[V, C] -> [V, H]."""
        return self.own(h) + self.near(adjacency.mean(h))


class GraphSAGE(ResidualTrunk):
    """Residual GraphSAGE."""

    @dataclass(frozen=True, kw_only=True)
    class Config(ResidualConfig):
        def build(self, in_channels: int) -> "GraphSAGE":
            return GraphSAGE(self, in_channels, SAGELayer)

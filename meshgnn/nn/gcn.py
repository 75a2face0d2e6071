"""Graph convolutional network, Kipf & Welling 2017."""

from dataclasses import dataclass

from torch import Tensor, nn

from meshgnn.nn.adjacency import Adjacency
from meshgnn.nn.residual import ResidualConfig, ResidualTrunk


class GCNLayer(nn.Module):
    """W D^-1/2 (A + I) D^-1/2 h + b (eq. 2)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, hidden)

    def forward(self, h: Tensor, adjacency: Adjacency) -> Tensor:
        """[V, H] -> [V, H]."""
        return self.linear(adjacency.normalised_sum(h))


class GCN(ResidualTrunk):
    """Residual GCN."""

    @dataclass(frozen=True, kw_only=True)
    class Config(ResidualConfig):
        def build(self, in_channels: int) -> "GCN":
            return GCN(self, in_channels, GCNLayer)

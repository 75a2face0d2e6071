"""The control network: the same residual layers as GraphSAGE and GCN, but no node sees its neighbours."""

from dataclasses import dataclass

from torch import Tensor, nn

from meshgnn.nn.adjacency import Adjacency
from meshgnn.nn.residual import ResidualConfig, ResidualNetwork


class _OwnOnly(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.own = nn.Linear(hidden, hidden)

    def forward(self, h: Tensor, adjacency: Adjacency) -> Tensor:
        return self.own(h)


class MLP(ResidualNetwork):
    """A residual network that judges every node by its own inputs alone."""

    @dataclass(frozen=True, kw_only=True)
    class Config(ResidualConfig):
        def build(self, in_channels: int, out_channels: int) -> "MLP":
            return MLP(self, in_channels, out_channels, _OwnOnly, spread=False)

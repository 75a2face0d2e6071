"""The same residual trunk without messages from node to node.

Neighbours enter by the averages among its inputs, at several scales, if at all: the design of SIGN (Frasca et al. 2020,
arXiv 2004.11198). Without such averages it is the control that sees no neighbour.
"""

from dataclasses import dataclass, replace

from torch import Tensor, nn

from meshgnn.nn.adjacency import Adjacency
from meshgnn.nn.residual import ResidualConfig, ResidualTrunk
from meshgnn.nn.socket import HeadSettings


class _OwnOnly(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.own = nn.Linear(hidden, hidden)

    def forward(self, h: Tensor, adjacency: Adjacency) -> Tensor:
        return self.own(h)


class MLP(ResidualTrunk):
    """A trunk that takes every node by its own inputs alone."""

    @dataclass(frozen=True, kw_only=True)
    class Config(ResidualConfig):
        def build(self, in_channels: int) -> "MLP":
            return MLP(self, in_channels, _OwnOnly)

        def head(self) -> HeadSettings:
            """Without propagation, whatever `propagation` says: no node may see another."""
            return replace(super().head(), propagation=0)

"""The control: the same trunk without neighbours."""

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
    """Each node for itself."""

    @dataclass(frozen=True, kw_only=True)
    class Config(ResidualConfig):
        def build(self, in_channels: int) -> "MLP":
            return MLP(self, in_channels, _OwnOnly)

        def head(self) -> HeadSettings:
            """Without propagation, whatever `propagation` says: this control must not see neighbours."""
            return replace(super().head(), propagation=0)

"""Graph attention network, Velickovic et al. 2018."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from meshgnn.errors import SettingError
from meshgnn.nn.adjacency import Adjacency
from meshgnn.nn.neighbour_ops import attend
from meshgnn.nn.residual import ResidualConfig, ResidualTrunk

_SLOPE = 0.2  # of the leaky rectifier, as published


class GATLayer(nn.Module):
    """Heads next to one another: sum over j in the neighbours and i itself of a_ij W h_j, plus b (eq. 1 to 5).

    a_ij = softmax_j leaky(target W h_i + source W h_j). [V, C_in] -> [V, heads x (C_out / heads)].
    """

    def __init__(self, in_channels: int, out_channels: int | None = None, heads: int = 4) -> None:
        super().__init__()
        out_channels = out_channels or in_channels
        self.heads = heads
        self.linear = nn.Linear(in_channels, out_channels, bias=False)
        self.source = nn.Parameter(torch.empty(heads, out_channels // heads))
        self.target = nn.Parameter(torch.empty(heads, out_channels // heads))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        for weight in (self.linear.weight, self.source, self.target):
            nn.init.xavier_uniform_(weight)

    def forward(self, h: Tensor, adjacency: Adjacency) -> Tensor:
        values = self.linear(h).unflatten(1, (self.heads, -1))
        loops = adjacency.with_loops
        source, target = (values * self.source).sum(-1), (values * self.target).sum(-1)
        found, _ = attend(values, source, target, loops.starts, loops.near, loops.reverse, _SLOPE)
        return found.flatten(1) + self.bias


class GAT(ResidualTrunk):
    """Residual graph attention network."""

    @dataclass(frozen=True, kw_only=True)
    class Config(ResidualConfig):
        """
        Args:
            heads: attend separately, each on hidden / heads channels.
        """

        heads: int = 4

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.heads < 1 or self.hidden % self.heads:
                raise SettingError(f"<hidden> must be a multiple of <heads>, got {self.hidden} and {self.heads}")

        def build(self, in_channels: int) -> "GAT":
            return GAT(self, in_channels, lambda hidden: GATLayer(hidden, heads=self.heads))

"""A graph layer: each node beside the difference to its neighbours' mean."""

from dataclasses import dataclass

from torch import nn

from meshgnn.nn.residual import ResidualConfig, ResidualTrunk


class Contrast(nn.Module):
    """W_own h_i + W_gap (h_i - mean_j h_j)."""

    def __init__(self, hidden):
        super().__init__()
        self.own, self.gap = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)

    def forward(self, h, adjacency):
        return self.own(h) + self.gap(h - adjacency.mean(h))


class ContrastNetwork(ResidualTrunk):
    @dataclass(frozen=True, kw_only=True)
    class Config(ResidualConfig):
        def build(self, in_channels):
            return ContrastNetwork(self, in_channels, Contrast)

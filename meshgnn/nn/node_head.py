"""The head of node tasks: hidden channels of a node to logits of its classes, propagated over the mesh."""

from torch import Tensor, nn

from meshgnn.nn.adjacency import Adjacency
from meshgnn.nn.dropout import dropout
from meshgnn.nn.socket import HeadSettings


class NodeHead(nn.Module):
    """Norm, dropout, a linear map, and personalised propagation of the logits.

    Args:
        in_channels: hidden channels H.
        out_channels: classes K.
        settings: dropout and rounds of propagation.
    """

    def __init__(self, in_channels: int, out_channels: int, settings: HeadSettings) -> None:
        super().__init__()
        self.settings = settings
        self.norm = nn.LayerNorm(in_channels)
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, hidden: Tensor, adjacency: Adjacency) -> Tensor:
        """Hidden channels [V, H] -> logits [V, K]."""
        hidden = dropout(self.norm(hidden), self.settings.dropout, self.training)
        # The propagation is linear: run it on whichever side of the map has fewer channels.
        if self.linear.out_features <= self.linear.in_features:
            return self._propagate(self.linear(hidden), adjacency)
        return self.linear(self._propagate(hidden, adjacency))

    def _propagate(self, start: Tensor, adjacency: Adjacency) -> Tensor:
        """z <- 0.1 z_0 + 0.45 (z + mean of neighbours), after Gasteiger et al. 2019 (APPNP, eq. 5) with lazy steps."""
        rounds = self.settings.propagation
        return adjacency.propagated(start, 0.1, rounds) if rounds else start

"""The network of tasks on whole brains: features and coordinates through a trunk and the head of graphs."""

import torch
from torch import Tensor, nn

from meshgnn.nn.graph_batch import GraphBatch
from meshgnn.nn.graph_head import GraphHead
from meshgnn.nn.node_model import CoordinateEncoder
from meshgnn.nn.socket import Trunk, TrunkConfig


class GraphModel(nn.Module):
    """A trunk on the features of nodes and of their brains [V, D + F] and encoded coordinates [V, 3]; then a GraphHead.

    Args:
        n_features: D + F.
        n_coordinates: 3, or 0 for a network without position.
        n_outputs: T.
        n_units: pooling units that brains share.
    """

    def __init__(
        self,
        trunk: TrunkConfig,
        coordinates: CoordinateEncoder.Config,
        head: GraphHead.Config,
        n_features: int,
        n_coordinates: int,
        n_outputs: int,
        n_units: int,
    ) -> None:
        super().__init__()
        self.encoder = coordinates.build() if n_coordinates else None
        extra = coordinates.channels if n_coordinates else 0
        self.trunk: Trunk = trunk.build(n_features + extra)
        shared = 0 if head.units == "nodes" else n_units
        self.head = head.build(self.trunk.out_channels, n_outputs, shared, trunk.head().dropout)

    def forward(self, batch: GraphBatch) -> Tensor:
        """Outputs [G, T]."""
        x = batch.joined
        if self.encoder is not None:
            x = torch.cat([x, self.encoder(batch.coordinates)], dim=1)
        return self.head(self.trunk(x, batch.adjacency), batch)

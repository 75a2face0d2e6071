"""A graph network with a graph head as one more encoder of a subject: features of nodes of a mesh that all share.

B subjects, V nodes, C columns.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from features.encoders.batch_norm import BatchNorm
from features.encoders.item_encoder import ItemConfig, ItemEncoder, check_counts, check_shares
from features.standard_mesh import LEVELS, standard_mesh
from meshgnn.errors import InputError, SettingError
from meshgnn.nn import Adjacency, CoordinateEncoder, GraphBatch, GraphHead, GraphModel, GraphSAGE, NetworkConfig
from meshgnn.nn.adjacency import end_to_end


def _trunk() -> NetworkConfig:
    return GraphSAGE.Config(hidden=16, layers=4, dropout=0.2, propagation=0)


class GraphNet(ItemEncoder):
    """Trunk and pooling of `meshgnn.nn` on one of FreeSurfer's icospheres, which the number of nodes names.

    Inputs [B, V, C] float, both hemispheres end to end; the last column is 1 at nodes that may be pooled and 0 at
    others (the medial wall). Features [B, out_channels]. Batches are graphs end to end, so that a subject does not
    depend on the others.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(ItemConfig):
        """
        Args:
            trunk: GraphSAGE, GCN, PyGConv; or MLP, which sees no neighbours. Its `propagation` is of labels of nodes
                and does nothing here.
            parcels: of each hemisphere: nodes are averaged within them, and each has a linear map of its own, so that
                a trait may be read here and not there; 0 averages over the whole cortex.
            channels: hidden channels of a parcel before its own map.
            out_channels: features per subject.
            dropout: share of features dropped in training.
        """

        trunk: NetworkConfig = field(default_factory=_trunk)
        parcels: Literal[0, 12, 42, 162] = 42
        channels: int = 4
        out_channels: int = 16
        dropout: float = 0.3

        def __post_init__(self) -> None:
            check_counts(channels=self.channels, out_channels=self.out_channels)
            check_shares(dropout=self.dropout)

        def build(self, shape: tuple[int, ...]) -> "GraphNet":
            """An encoder of meshes (V, C); weights from torch's random state.

            Raises:
                InputError: not values of nodes, or a mesh that is no icosphere.
                SettingError: fewer nodes than parcels.
            """
            if len(shape) != 2 or shape[1] < 2:
                raise InputError(
                    f"a GraphNet encodes nodes (nodes, columns and the mask), not items of shape {tuple(shape)}; "
                    "choose another encoder"
                )
            if self.parcels and self.parcels > shape[0] // 2 and shape[0] // 2 in LEVELS:
                raise SettingError(f"<parcels>={self.parcels} of a hemisphere of {shape[0] // 2} nodes; use fewer")
            return GraphNet(self, shape)

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        super().__init__(config, shape, config.out_channels)
        self.graphs = _Graphs(config, shape)
        self.after = nn.Sequential(BatchNorm(config.out_channels), nn.GELU(), nn.Dropout(config.dropout))

    def stages(self) -> tuple[nn.Module, ...]:
        """The graph network; then norm, GELU and dropout."""
        return (self.graphs, self.after)


class _Graphs(nn.Module):
    """[B, V, C] -> [B, out_channels]."""

    def __init__(self, config: GraphNet.Config, shape: tuple[int, ...]) -> None:
        super().__init__()
        mesh, units = standard_mesh(shape[0]), 2 * config.parcels
        kind = (
            GraphHead.Config(units="areas", pooling="each", channels=config.channels)
            if units
            else GraphHead.Config(units="nodes", pooling="mean")
        )
        self.model = GraphModel(config.trunk, CoordinateEncoder.Config(), kind, shape[1], 0, config.out_channels, units)
        self.model.head.linear.reset_parameters()  # an embedding must not start from 0, as a prediction may
        self._n_units = units
        self._adjacency = Adjacency(shape[0], mesh.edges)
        unit = torch.from_numpy(mesh.parcels(config.parcels)) if units else torch.full((shape[0],), -1, device="cpu")
        self._unit = unit
        self._kept: dict[tuple[int, torch.device], tuple[Adjacency, Tensor, Tensor]] = {}

    def forward(self, items: Tensor) -> Tensor:
        if not len(items):  # nobody here has a mesh, but other ranks wait: no value comes of it, and no gradient
            return self(items.new_ones((1, *items.shape[1:])))[:0]
        count, nodes, columns = items.shape
        adjacency, unit, brain = self._laid_out(count, items.device)
        batch = GraphBatch(
            features=items.reshape(count * nodes, columns), coordinates=items.new_zeros((count * nodes, 0)),
            adjacency=adjacency, mask=items[..., -1].reshape(-1) > 0.5, unit=unit, brain=brain,
            whole=items.new_zeros((count, 0)), n_units=self._n_units,
        )  # fmt: skip
        return self.model(batch)

    def _laid_out(self, count: int, device: torch.device) -> tuple[Adjacency, Tensor, Tensor]:
        """So many meshes end to end: neighbours, units, and the mesh of every node; the last few are kept."""
        key = (count, device)
        if key not in self._kept:
            if len(self._kept) > 3:
                self._kept.pop(next(iter(self._kept)))
            numbers = torch.arange(count, device=device).repeat_interleave(len(self._unit))
            joined = end_to_end([self._adjacency] * count).to(device)
            self._kept[key] = joined, self._unit.to(device).repeat(count), numbers
        return self._kept[key]

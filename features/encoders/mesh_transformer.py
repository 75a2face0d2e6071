"""Attention over the nodes of a cortical mesh: to neighbours first, then among parcels of the whole cortex."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.encoders.item_encoder import ItemConfig, ItemEncoder, check_counts, check_shares
from features.encoders.token_sequence import TokenSequence
from features.standard_mesh import LEVELS, standard_mesh
from meshgnn.errors import InputError, SettingError


class MeshTransformer(ItemEncoder):
    """Every node attends to itself and its neighbours on one of FreeSurfer's icospheres, layer by layer; means of
    parcels are then the tokens of a `TokenSequence`, whose positions tell where a parcel lies.

    Inputs [B, V, C + 1] float as `GraphNet` takes them: both hemispheres end to end, the last column 1 at nodes that
    count and 0 at others (the medial wall), which nobody attends to and which enter no mean. Features [B, width].
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(ItemConfig):
        """
        Args:
            level: whether a mesh belongs to a node or to a whole brain.
            width: channels of a node and features.
            heads: of the attention to neighbours.
            depth: layers of it: how many edges away a node can see.
            dropout: share of values dropped in these layers in training.
            parcels: of each hemisphere.
            sequence: the transformer of the parcels; its heads divide the width.
        """

        width: int = 32
        heads: int = 4
        depth: int = 2
        dropout: float = 0.1
        parcels: Literal[12, 42, 162] = 42
        sequence: TokenSequence.Config = field(default_factory=TokenSequence.Config)

        def __post_init__(self) -> None:
            check_counts(width=self.width, heads=self.heads, depth=self.depth)
            check_shares(dropout=self.dropout)
            if self.width % self.heads:
                raise SettingError(f"<heads>={self.heads} do not divide <width>={self.width}")

        def build(self, shape: tuple[int, ...]) -> "MeshTransformer":
            """An encoder of meshes (V, C + 1); weights from torch's random state.

            Raises:
                InputError: not values of nodes, or a mesh that is no icosphere.
                SettingError: fewer nodes than parcels, or heads that do not divide the width.
            """
            if len(shape) != 2 or shape[1] < 2:
                raise InputError(
                    f"a MeshTransformer encodes nodes (nodes, columns and the mask), not items of shape {tuple(shape)};"
                    " choose another encoder"
                )
            if self.parcels > shape[0] // 2 and shape[0] // 2 in LEVELS:
                raise SettingError(f"<parcels>={self.parcels} of a hemisphere of {shape[0] // 2} nodes; use fewer")
            return MeshTransformer(self, shape)

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        super().__init__(config, shape, config.width)
        self.nodes = _Nodes(config, shape)

    def stages(self) -> tuple[nn.Module, ...]:
        """A single one, since the mask goes with the nodes."""
        return (self.nodes,)


class _Nodes(nn.Module):
    """[B, V, C + 1] -> [B, width]."""

    around: Tensor
    members: Tensor

    def __init__(self, config: MeshTransformer.Config, shape: tuple[int, ...]) -> None:
        super().__init__()
        mesh, count = standard_mesh(shape[0]), 2 * config.parcels
        self.linear = nn.Linear(shape[1] - 1, config.width)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.sequence = config.sequence.build(config.width, count)
        self.register_buffer("around", torch.from_numpy(neighbours(mesh.edges, shape[0])), persistent=False)
        members = mesh.parcels(config.parcels) == np.arange(count)[:, None]
        self.register_buffer("members", torch.from_numpy(members.astype(np.float32)), persistent=False)

    def forward(self, items: Tensor) -> Tensor:
        counted = items[..., -1] > 0.5
        hidden = self.linear(items[..., :-1].masked_fill(~counted[..., None], 0))
        # A node is its own first neighbour; places of a node with fewer repeat itself and are not looked at.
        itself = torch.arange(len(self.around), device=items.device)
        allowed = counted[:, self.around] & (self.around != itself[:, None])
        allowed[..., 0] = True
        for layer in self.layers:
            hidden = layer(hidden, self.around, allowed)
        kept = counted.to(self.members.dtype)
        size = kept @ self.members.T
        total = torch.einsum("pv,bvc->bpc", self.members, self.norm(hidden) * kept[..., None])
        return self.sequence(total / size.clamp(min=1)[..., None], size > 0.5)


class _Layer(nn.Module):
    """Attention to neighbours and two linear maps, each behind a layer norm and added. [B, V, C] -> [B, V, C]."""

    def __init__(self, config: MeshTransformer.Config) -> None:
        super().__init__()
        width = config.width
        self.heads, self.dropout = config.heads, nn.Dropout(config.dropout)
        self.attention_norm, self.linear_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.linear = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, hidden: Tensor, around: Tensor, allowed: Tensor) -> Tensor:
        """
        Args:
            hidden: [B, V, C].
            around: [V, K] nodes that each one may look at.
            allowed: [B, V, K] bool, those it does look at, at least one.
        """
        count, nodes, width = hidden.shape
        parts = self.qkv(self.attention_norm(hidden)).view(count, nodes, 3, self.heads, width // self.heads)
        query, key, value = parts.unbind(2)
        score = torch.einsum("bvhc,bvkhc->bvhk", query, key[:, around]) / (width // self.heads) ** 0.5
        share = score.masked_fill(~allowed[:, :, None], float("-inf")).softmax(-1)
        seen = torch.einsum("bvhk,bvkhc->bvhc", share, value[:, around]).reshape(count, nodes, width)
        hidden = hidden + self.dropout(self.out(seen))
        return hidden + self.dropout(self.linear(self.linear_norm(hidden)))


def neighbours(edges: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """[V, K] every node, then its neighbours, ascending; the node itself fills up rows of fewer than K - 1.

    Args:
        edges: [2, E] directed.
        count: V.
    """
    order = np.lexsort((edges[1], edges[0]))
    start, end = edges[:, order]
    degree = np.bincount(start, minlength=count)
    place = np.arange(len(start)) - np.repeat(np.cumsum(degree) - degree, degree)
    found = np.repeat(np.arange(count)[:, None], degree.max(initial=0) + 1, axis=1)
    found[start, place + 1] = end
    return found

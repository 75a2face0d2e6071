"""A brain as joint training sees it: patches, mesh, labels, and the newest embeddings of its nodes.

V nodes, C channels, B nodes of a batch.
"""

import sys
from collections.abc import Iterator
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.ahead import ahead
from features.damage import read_checked
from features.end_to_end.mesh_inputs import MeshInputs
from features.end_to_end.row_cache import RowCache
from features.end_to_end.settings import JointConfig
from features.samplers.balanced import BalancedBatches
from features.samplers.pool import Pool
from meshgnn.data.split import inner_edges
from meshgnn.errors import InputError
from meshgnn.graph import MeshGraph
from meshgnn.mesh.operators import geodesic_distance, geodesic_graph
from meshgnn.nn import Adjacency
from meshgnn.sockets import Brain, NodeData


class Patches:
    """The patches of a brain's nodes in cortex, kept in memory where they fit.

    Args:
        brain: whose.
        data: its items.
        memory_mb: what may be kept.

    Raises:
        InputError: no node in cortex has a patch that can be read and is finite.
    """

    def __init__(self, brain: Brain, data: NodeData, memory_mb: float) -> None:
        self.data, self.lock = data, Lock()
        self.kept: NDArray[np.float32] | None = None
        self.place = np.full(brain.graph.n_nodes, -1, np.int64)
        nodes = np.flatnonzero(data.observed & brain.graph.cortex)
        order = getattr(data, "reading_order", None)
        nodes = nodes[np.argsort(data.groups[nodes], kind="stable") if order is None else order(nodes)]
        keep = 4e-6 * len(nodes) * float(np.prod(data.shape)) <= memory_mb
        parts, good = [], np.zeros(len(nodes), bool)
        for k in range(0, len(nodes), 512):  # every patch is looked at once: what is not finite is never encoded
            items, fine = read_checked(data, nodes[k : k + 512])
            good[k : k + 512] = fine & np.isfinite(items.reshape(len(items), -1).sum(1))
            if keep:
                parts.append(items[good[k : k + 512]])
        if not good.any():
            raise InputError(
                f"{brain.graph.brain}: no node in cortex has a patch that can be read and is finite"
                + ("" if len(nodes) else "; none is observed")
            )
        self.left_out = int((~good).sum())
        if self.left_out:
            first = int(nodes[~good][0])
            print(
                f"warning: {brain.graph.brain}: patches of {self.left_out} nodes cannot be read or are not finite "
                f"(the first: node {first}); they are left out",
                file=sys.stderr, flush=True,
            )  # fmt: skip
        self.nodes = nodes[good]
        self.place[self.nodes] = np.arange(len(self.nodes))
        if keep:
            self.kept = np.concatenate(parts)

    @property
    def observed(self) -> NDArray[np.bool_]:
        """[V] bool, nodes with a patch."""
        return self.place >= 0

    def read(self, nodes: NDArray[np.integer]) -> NDArray[np.float32]:
        """[B, ...] of these nodes; several threads may call it."""
        if self.kept is not None:
            return self.kept[self.place[nodes]]
        with self.lock:
            return self.data.read(nodes)


class JointBrain:
    """One brain of joint training.

    Args:
        brain: its labels are those that may be learnt from.
        data: its items.
        fold: nodes of this fold are never trained on and validate; None trains on all labels.
        config: of the training.
        channels: C.

    Raises:
        InputError: no patch, or no two areas to tell apart among the labels to train on.
    """

    def __init__(self, brain: Brain, data: NodeData, fold: int | None, config: JointConfig, channels: int) -> None:
        graph, self.config = brain.graph, config
        self.name = graph.brain
        self.patches = Patches(brain, data, config.memory_mb)
        self.inputs = MeshInputs(graph, self.patches.observed, config.rounds)
        self.adjacency = Adjacency(graph.n_nodes, inner_edges(graph))
        self.cache = RowCache(graph.n_nodes, channels)
        self.device: torch.device | str = "cpu"
        self._made: tuple[int, Tensor] | None = None
        known = (graph.labels >= 0) & graph.cortex & brain.train
        held = np.zeros(graph.n_nodes, bool) if fold is None else brain.fold == fold
        validation = known & held
        near = held | _within(graph, validation, config.buffer_mm)
        self.labels = torch.from_numpy(np.where(known, graph.labels, -1)).long()
        # The network's loss stands on labelled nodes of the mesh; whoever has no patch has its neighbours' average.
        self.train = torch.from_numpy(np.flatnonzero(known & ~near))
        self.validation = torch.from_numpy(np.flatnonzero(validation))
        self.n_classes = len(graph.areas)
        teachable = known & ~near & self.patches.observed
        self.n_labelled = int(teachable.sum())
        self.others = np.flatnonzero(self.patches.observed & ~known & ~near)
        pool = Pool(
            labels=np.where(teachable, graph.labels, -1), names=graph.areas.names,
            groups=np.asarray(data.groups, np.int64),
        )  # fmt: skip
        self.sampler: BalancedBatches | None = None
        if self.n_labelled:
            try:
                self.sampler = config.sampler.build(pool, config.seed)
            except InputError as error:
                raise InputError(f"{self.name}: {error}") from None

    def to(self, device: torch.device | str) -> "JointBrain":
        self.inputs, self.adjacency = self.inputs.to(device), self.adjacency.to(device)
        self.labels, self.train, self.validation = (
            one.to(device) for one in (self.labels, self.train, self.validation)
        )
        self.cache.to(device)
        self.device = device
        return self

    def batch(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Nodes [B] of a step, each once, and what the gradient of each counts, [B, 1]: nodes there are of its kind
        for each that was drawn, so that on average the encoder's gradient is that of all nodes together."""
        assert self.sampler is not None
        labelled = np.unique(self.sampler.draw(step))
        many = min(self.config.unlabelled, len(self.others))
        rng = np.random.default_rng((abs(self.config.seed), step, 0xE2E))
        more = np.sort(rng.choice(self.others, many, replace=False)) if many else np.zeros(0, np.int64)
        gain = np.full((len(labelled) + many, 1), self.n_labelled / len(labelled), np.float32)
        if many:
            gain[len(labelled) :] = len(self.others) / many
        return np.concatenate([labelled, more]), gain

    def encoded(self, encoder: nn.Module, nodes: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Embeddings of these nodes without gradient, a part at a time."""
        parts = [nodes[k : k + self.config.encode] for k in range(0, len(nodes), self.config.encode)]
        training = encoder.training
        encoder.eval()
        with torch.no_grad():
            for part, items in zip(parts, ahead(self.patches.read, parts)):
                yield part, encoder(torch.from_numpy(items).to(self.device))
        encoder.train(training)

    def encode_all(self, encoder: nn.Module, step: int) -> dict[str, float]:
        """Bring every row of the cache up to date; how far behind it was (`RowCache.refresh`)."""
        found = list(self.encoded(encoder, self.patches.nodes))
        nodes = np.concatenate([part for part, _ in found])
        rows = torch.cat([values for _, values in found])
        if not bool(torch.isfinite(rows).all()):
            raise InputError(f"{self.name}: the encoder gives values that are not finite; lower encoder_rate")
        return self.cache.refresh(torch.from_numpy(nodes).to(self.device), rows, step, plain=True)

    def cached_inputs(self) -> Tensor:
        """[V, D] inputs of the network from the cache alone, made once until the cache changes."""
        if self._made is None or self._made[0] != self.cache.version:
            with torch.no_grad():
                self._made = (self.cache.version, self.inputs(self.cache.rows))
        return self._made[1]


def _within(graph: MeshGraph, nodes: NDArray[np.bool_], buffer_mm: float) -> NDArray[np.bool_]:
    """[V] whether a node lies within so many mm along the cortex of one of `nodes` [V]."""
    near = nodes.copy()
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        if buffer_mm and nodes[place].any():
            near[place] |= geodesic_distance(geodesic_graph(mesh), np.flatnonzero(nodes[place])) <= buffer_mm
    return near

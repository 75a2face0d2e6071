"""Items of several brains as one list to learn from, with groups of them held out. numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.damage import read_checked
from features.samplers.pool import Pool
from meshgnn.errors import InputError
from meshgnn.mesh.record import frozen
from meshgnn.sockets import Brain, NodeData


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class NodeSet:
    """The items of one brain and what they are.

    Args:
        brain: identifier.
        data: the items.
        labels: [V] class numbers, -1 = none.
        names: of the classes.
        held: [V] bool, items that are never trained on; none by default.
        use: [V] bool, items that may be trained on without a label; all by default.
        edges: [2, E] of the mesh.
    """

    brain: str
    data: NodeData
    labels: NDArray[np.int32]
    names: tuple[str, ...]
    held: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    use: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    edges: NDArray[np.int32] = field(default_factory=lambda: np.zeros((2, 0), np.int32))

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        held = np.zeros(labels.shape, bool) if np.size(self.held) == 0 else np.asarray(self.held)
        use = np.ones(labels.shape, bool) if np.size(self.use) == 0 else np.asarray(self.use)
        if not held.shape == use.shape == labels.shape:
            raise InputError(f"{self.brain}: {len(held)} and {len(use)} marks of items for {len(labels)} labels")
        if labels.shape != self.data.observed.shape:
            raise InputError(f"{self.brain}: {len(labels)} labels for {len(self.data.observed)} items")
        if len(labels) and (labels.min() < -1 or labels.max() >= len(self.names)):
            raise InputError(f"{self.brain}: labels run to {labels.max()}, but there are {len(self.names)} areas")
        object.__setattr__(self, "labels", frozen(np.where(self.data.observed, labels, -1), np.int32))
        object.__setattr__(self, "held", frozen(held, bool))
        object.__setattr__(self, "use", frozen(use & self.data.observed, bool))

    def without(self, held: NDArray[np.bool_]) -> "NodeSet":
        """The same with other items held out."""
        return replace(self, held=held)


def node_set(brain: Brain, data: NodeData) -> NodeSet:
    """What may be learnt from of a brain: its labels, and without labels its cortex."""
    graph = brain.graph
    return NodeSet(
        brain=graph.brain, data=data, labels=np.where(brain.train, graph.labels, -1), names=graph.areas.names,
        use=graph.cortex & brain.train, edges=graph.edges,
    )  # fmt: skip


class TrainingItems:
    """All items to learn from; they are numbered over the brains, those held out included.

    Args:
        sources: with one list of areas.
        labelled: whether only items with a label count.
        held_out: every n-th labelled group of each brain is held out for the probe; 0 = none. Sources that name what
            is held (`NodeSet.held`) decide it instead: every group with such an item is held out whole, since items of
            one group overlap. Without labels there is no probe, and nothing is held out but what a source names.
        memory_mb: items are read once and kept if they fit into this.

    Raises:
        InputError: no source, no item, brains with different areas, two of one name.
    """

    def __init__(self, sources: Sequence[NodeSet], *, labelled: bool, held_out: int, memory_mb: float) -> None:
        if not sources:
            raise InputError("no brain to train on; name at least one stack and its reconstruction")
        self.names, self.labelled = sources[0].names, labelled
        for source in sources:
            if source.names != self.names:
                raise InputError(f"{source.brain} and {sources[0].brain} have different areas; use one areas.json")
            if source.data.shape != sources[0].data.shape:
                raise InputError(f"{source.brain} and {sources[0].brain} have items of different shapes")
        brains = [source.brain for source in sources]
        if len(set(brains)) != len(brains):
            raise InputError(f"brain {max(brains, key=brains.count)} is named twice; give each brain its own name")
        self.sources = tuple(sources)
        self._nodes = [np.flatnonzero(source.labels >= 0 if labelled else source.use) for source in sources]
        self._first = np.cumsum([0, *(len(nodes) for nodes in self._nodes)])
        if not self._first[-1]:
            lacks = "lies on an annotated section; supervised pretraining needs annotations"
            raise InputError(f"{', '.join(brains)}: no node {lacks if labelled else 'in cortex is observed'}")
        self.labels = np.concatenate([s.labels[nodes] for s, nodes in zip(sources, self._nodes)])
        groups = [source.data.groups[nodes] for source, nodes in zip(sources, self._nodes)]
        pairs = np.stack([np.repeat(np.arange(len(sources)), [len(s) for s in groups]), np.concatenate(groups)])
        _, self.groups = np.unique(pairs, axis=1, return_inverse=True)
        self.groups = self.groups.ravel()
        named = np.concatenate([source.held[nodes] for source, nodes in zip(sources, self._nodes)])
        self.held = (
            np.flatnonzero(np.isin(self.groups, self.groups[named])) if named.any() else self._hold_out(pairs, held_out)
        )
        self.training = np.setdiff1d(np.arange(len(self.groups)), self.held)
        size = len(self.groups) * 4 * int(np.prod(sources[0].data.shape))
        self._kept: tuple[NDArray[np.float32], NDArray[np.bool_]] | None = None
        self._reading = Lock()
        self._keep = size <= memory_mb * 1e6

    def __len__(self) -> int:
        return len(self.groups)

    def pool(self) -> Pool:
        """What samplers draw from."""
        held = np.zeros(len(self), bool)
        held[self.held] = True
        edges = []
        for source, nodes, first in zip(self.sources, self._nodes, self._first):
            number = np.full(len(source.labels), -1)
            number[nodes] = first + np.arange(len(nodes))
            ends = number[source.edges]
            edges.append(ends[:, (ends >= 0).all(0)])
        return Pool(
            labels=self.labels, names=self.names, groups=self.groups, held=held, edges=np.concatenate(edges, axis=1)
        )

    def read(self, items: NDArray[np.integer]) -> NDArray[np.float32]:
        """[B, *shape] of these items."""
        return self.read_checked(items)[0]

    def read_checked(self, items: NDArray[np.integer]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """[B, *shape] of these items, and which of them [B] could be read. Several threads may call it."""
        with self._reading:
            if self._keep and self._kept is None:
                self._kept = self._read(np.arange(len(self)))
        return self._read(np.asarray(items)) if self._kept is None else (self._kept[0][items], self._kept[1][items])

    def _read(self, items: NDArray[np.integer]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        brain = np.searchsorted(self._first, items, side="right") - 1
        out = np.empty((len(items), *self.sources[0].data.shape), np.float32)
        good = np.ones(len(items), bool)
        for b in np.unique(brain).tolist():
            places = np.flatnonzero(brain == b)
            found = read_checked(self.sources[b].data, self._nodes[b][items[places] - self._first[b]])
            out[places], good[places] = found
        return out, good

    def _hold_out(self, pairs: NDArray[np.integer], every: int) -> NDArray[np.int64]:
        """Items of every n-th labelled group of each brain, as long as each class keeps two groups."""
        if not every or not self.labelled:
            return np.zeros(0, np.int64)
        held = np.zeros(len(self.groups), bool)
        classes = np.unique(self.labels)
        shown = np.zeros((int(classes.max()) + 1, int(self.groups.max()) + 1), bool)
        shown[self.labels, self.groups] = True
        for brain in np.unique(pairs[0]):
            for group in np.unique(self.groups[pairs[0] == brain])[every // 2 :: every]:
                left = shown.copy()
                left[:, group] = False
                if (left.sum(1)[shown[:, group]] >= 2).all():
                    shown, held = left, held | (self.groups == group)
        return np.flatnonzero(held)

    def evenly(self, items: NDArray[np.integer], most: int) -> NDArray[np.int64]:
        """At most `most` of these items, evenly over them."""
        if len(items) <= most:
            return np.asarray(items, np.int64)
        return np.asarray(items)[np.linspace(0, len(items) - 1, most).astype(int)]

    def key(self) -> str:
        """Hash of all that decides the items and what is learnt from them."""
        digest = sha256()
        for source in self.sources:
            digest.update(repr((source.brain, source.names, source.data.key())).encode())
            digest.update(source.labels.tobytes() + source.held.tobytes())
            if not self.labelled:
                digest.update(source.use.tobytes() + source.edges.tobytes())
        return digest.hexdigest()[:16]

    def about(self) -> dict[str, Any]:
        """Counts for the record of the training."""
        return {
            "brains": [source.brain for source in self.sources],
            "areas": list(self.names),
            "training": len(self.training),
            "held_out": len(self.held),
            "held_out_groups": len(np.unique(self.groups[self.held])),
        }

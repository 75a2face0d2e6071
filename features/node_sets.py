"""Items of several brains as one list to learn from, with groups of them held out. numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csgraph

from features.damage import read_checked
from features.fields import areas_of, read_fields
from features.node_data.field_patches import of_fields
from features.samplers.pool import Pool
from meshgnn.errors import InputError
from meshgnn.mesh.operators import geodesic_graph
from meshgnn.mesh.record import SurfaceMesh, frozen
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
        meshes: of the hemispheres, V nodes in all, where places matter.
        places_mm: [V, 3] where items lie that belong to no mesh; otherwise those of the meshes' nodes.
        sides: [V] 0 left, 1 right, of such items; all 0 by default.
        soft: [V, K] float32 probabilities of the classes, all 0 = none; none by default.
    """

    brain: str
    data: NodeData
    labels: NDArray[np.int32]
    names: tuple[str, ...]
    held: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    use: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    edges: NDArray[np.int32] = field(default_factory=lambda: np.zeros((2, 0), np.int32))
    meshes: tuple[SurfaceMesh, ...] = ()
    places_mm: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    sides: NDArray[np.integer] = field(default_factory=lambda: np.zeros(0, np.int64))
    soft: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))

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
        count = sum(mesh.n_vertices for mesh in self.meshes)
        if self.meshes and count != len(labels):
            raise InputError(f"{self.brain}: meshes of {count} nodes for {len(labels)} items")
        sides = np.zeros(len(labels), np.int64) if np.size(self.sides) == 0 else np.asarray(self.sides)
        places = np.asarray(self.places_mm, np.float32)
        if self.meshes:
            sides = np.repeat(np.arange(len(self.meshes)), [mesh.n_vertices for mesh in self.meshes])
            places = np.concatenate([mesh.vertices_mm for mesh in self.meshes])
        if len(sides) != len(labels) or (np.size(places) and places.shape != (len(labels), 3)):
            raise InputError(f"{self.brain}: {len(sides)} sides and places {places.shape} for {len(labels)} items")
        places = places if np.size(places) else np.full((len(labels), 3), np.nan, np.float32)
        object.__setattr__(self, "sides", frozen(sides, np.int64))
        object.__setattr__(self, "places_mm", frozen(places, np.float32))
        soft = np.asarray(self.soft, np.float32) if np.size(self.soft) else np.zeros((len(labels), 0), np.float32)
        if soft.shape[1] and soft.shape != (len(labels), len(self.names)):
            raise InputError(
                f"{self.brain}: probabilities {soft.shape} for {len(labels)} items and {len(self.names)} areas"
            )
        if not np.isfinite(soft).all() or soft.min(initial=0) < 0:
            raise InputError(f"{self.brain}: probabilities of areas must be finite and not negative")
        object.__setattr__(self, "soft", frozen(np.where(self.data.observed[:, None], soft, 0), np.float32))
        object.__setattr__(self, "labels", frozen(np.where(self.data.observed, labels, -1), np.int32))
        object.__setattr__(self, "held", frozen(held, bool))
        object.__setattr__(self, "use", frozen(use & self.data.observed, bool))

    def without(self, held: NDArray[np.bool_]) -> "NodeSet":
        """The same with other items held out."""
        return replace(self, held=held)

    @property
    def likeliest(self) -> NDArray[np.int32]:
        """[V] class of each item: its label, or else its most probable area; -1 = neither."""
        if not self.soft.shape[1]:
            return self.labels
        found = np.where(self.soft.sum(1) > 0, self.soft.argmax(1), -1)
        return np.where(self.labels >= 0, self.labels, found).astype(np.int32)


def node_set(brain: Brain, data: NodeData) -> NodeSet:
    """What may be learnt from of a brain: its labels, and without labels its cortex.

    Probabilities of areas are the graph's soft labels, or else a table whose columns are the areas.
    """
    graph = brain.graph
    soft = graph.soft_labels
    if soft is None and graph.areas.names:
        tables = [one for one in (*graph.tables.values(), *brain.tables.values()) if one.columns == graph.areas.names]
        soft = tables[0].values if tables and len(tables[0].values) == graph.n_nodes else None
    return NodeSet(
        brain=graph.brain, data=data, labels=np.where(brain.train, graph.labels, -1), names=graph.areas.names,
        use=graph.cortex & brain.train, edges=graph.edges, meshes=graph.meshes,
        soft=np.zeros((0, 0), np.float32) if soft is None else np.where(brain.train[:, None], soft, 0),
    )  # fmt: skip


def field_sets(folders: Sequence[Path], config: Any) -> list[NodeSet]:
    """What may be learnt from of folders of fields: their areas, numbered over all of them, and their places.

    Args:
        folders: of fields.
        config: of the patches, `FieldPatches.Config`.

    Raises:
        InputError: as `read_fields`; patches of nodes.
    """
    patches = of_fields(config)
    read = [read_fields(folder) for folder in folders]
    names = areas_of(read)
    return [
        NodeSet(
            brain=one.brain, data=patches.build(one), names=names, sides=patches.of_items(one.sides),
            labels=patches.of_items(one.labels(names)), places_mm=patches.of_items(one.places_mm),
        )
        for one in read
    ]  # fmt: skip


class TrainingItems:
    """All items to learn from; they are numbered over the brains, those held out included.

    Args:
        sources: with one list of areas.
        labelled: whether only items with a label count.
        needs: of the objective (`features.objectives.socket`). "any": items without a label count too; "soft": an
            item's most probable area stands for its label; "pairs": groups are held out without labels too.
        held_out: every n-th labelled group of each brain is held out for the probe; 0 = none. Sources that name what
            is held (`NodeSet.held`) decide it instead: every group with such an item is held out whole, since items of
            one group overlap. Without labels there is no probe, and nothing is held out but what a source names.
        memory_mb: items are read once and kept if they fit into this.

    Raises:
        InputError: no source, no item, brains with different areas, two of one name.
    """

    def __init__(
        self, sources: Sequence[NodeSet], *, labelled: bool, held_out: int, memory_mb: float, needs: Sequence[str] = ()
    ) -> None:
        if not sources:
            raise InputError("no brain to train on; name at least one stack and its reconstruction")
        self.names, self.labelled, self.needs = sources[0].names, labelled, frozenset(needs)
        for source in sources:
            if source.names != self.names:
                raise InputError(f"{source.brain} and {sources[0].brain} have different areas; use one areas.json")
            if source.data.shape != sources[0].data.shape:
                raise InputError(f"{source.brain} and {sources[0].brain} have items of different shapes")
        brains = [source.brain for source in sources]
        if len(set(brains)) != len(brains):
            raise InputError(f"brain {max(brains, key=brains.count)} is named twice; give each brain its own name")
        self.sources = tuple(sources)
        classes = [source.likeliest if "soft" in self.needs else source.labels for source in sources]
        alone = labelled and "any" not in self.needs
        self._nodes = [
            np.flatnonzero((found >= 0) if alone else (found >= 0) | source.use if labelled else source.use)
            for source, found in zip(sources, classes)
        ]
        self._first = np.cumsum([0, *(len(nodes) for nodes in self._nodes)])
        if not self._first[-1]:
            lacks = "lies on an annotated section; supervised pretraining needs annotations"
            raise InputError(f"{', '.join(brains)}: no node {lacks if alone else 'in cortex is observed'}")
        self.labels = np.concatenate([found[nodes] for found, nodes in zip(classes, self._nodes)])
        if labelled and (self.labels < 0).all():
            raise InputError(f"{', '.join(brains)}: no node lies on an annotated section, and labels are needed")
        if "soft" in self.needs and not any(source.soft.any() for source in sources):
            raise InputError(f"{', '.join(brains)}: no probabilities of areas; add a table whose columns are the areas")
        if "place" in self.needs and not all(np.isfinite(source.places_mm).any() for source in sources):
            raise InputError(f"{', '.join(brains)}: where items lie is not known; the objective needs it")
        if "geodesic" in self.needs and not all(source.meshes for source in sources):
            raise InputError(f"{', '.join(brains)}: items that belong to no mesh have no distance along the cortex")
        groups = [source.data.groups[nodes] for source, nodes in zip(sources, self._nodes)]
        pairs = np.stack([np.repeat(np.arange(len(sources)), [len(s) for s in groups]), np.concatenate(groups)])
        _, self.groups = np.unique(pairs, axis=1, return_inverse=True)
        self.groups = self.groups.ravel()
        self._parts = self._of_nodes([source.sides for source in sources]) + 2 * pairs[0]
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
        count, soft = len(self.names), [source.soft for source in self.sources]
        soft = [one if one.shape[1] else np.zeros((len(one), count), np.float32) for one in soft]
        return Pool(
            labels=self.labels, names=self.names, groups=self.groups, held=held, edges=np.concatenate(edges, axis=1),
            parts=self._parts, places_mm=self._of_nodes([source.places_mm for source in self.sources]),
            soft=self._of_nodes(soft),
            geodesic=self.geodesic_mm if all(source.meshes for source in self.sources) else None,
        )  # fmt: skip

    def _of_nodes(self, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """[N, ...] of the items, from [V, ...] of each source."""
        return np.concatenate([one[nodes] for one, nodes in zip(values, self._nodes)])

    def geodesic_mm(
        self, items: NDArray[np.integer], others: NDArray[np.integer], limit: float = np.inf
    ) -> NDArray[np.float32]:
        """[A, B] distance along the cortex in mm from items [A] to others [B]; inf beyond `limit`, between hemispheres
        and where there is no mesh."""
        out = np.full((len(items), len(others)), np.inf, np.float32)
        brain = np.searchsorted(self._first, items, side="right") - 1
        for part in np.unique(self._parts[items]).tolist():
            rows, columns = np.flatnonzero(self._parts[items] == part), np.flatnonzero(self._parts[others] == part)
            source = int(brain[rows[0]])
            own, first = self._mesh_of(source, int(self._nodes[source][items[rows[0]] - self._first[source]]))
            if own is None or not len(columns):
                continue
            start, end = (self._nodes[source][these - self._first[source]] - first
                          for these in (items[rows], others[columns]))  # fmt: skip
            starts, back = np.unique(start, return_inverse=True)
            graph, found = geodesic_graph(own), np.empty((len(starts), len(end)), np.float32)
            for k in range(0, len(starts), 32):  # each start takes a row of all nodes
                found[k : k + 32] = csgraph.dijkstra(graph, indices=starts[k : k + 32], limit=limit)[:, end]
            out[np.ix_(rows, columns)] = found[back]
        return out

    def _mesh_of(self, source: int, node: int) -> tuple[SurfaceMesh | None, int]:
        """The mesh of a node, and the number of its first node."""
        first = 0
        for mesh in self.sources[source].meshes:
            if node < first + mesh.n_vertices:
                return mesh, first
            first += mesh.n_vertices
        return None, 0

    def read(self, items: NDArray[np.integer]) -> NDArray[np.float32]:
        """[B, *shape] of these items."""
        return self.read_checked(items)[0]

    def read_checked(self, items: NDArray[np.integer]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """[B, *shape] of these items, and which of them [B] could be read. Several threads may call it."""
        with self._reading:
            if self._keep and self._kept is None:
                self._kept = self._read(np.arange(len(self)))
        return self._read(np.asarray(items)) if self._kept is None else (self._kept[0][items], self._kept[1][items])

    def name_of(self, item: int) -> str:
        """Brain and node of an item."""
        source = int(np.searchsorted(self._first, item, side="right") - 1)
        return f"{self.sources[source].brain}, node {int(self._nodes[source][item - self._first[source]])}"

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
        """Items of every n-th labelled group of each brain, as long as each class keeps two groups; of every n-th group
        where distances are learnt without labels."""
        if not every or not (self.labelled or "pairs" in self.needs):
            return np.zeros(0, np.int64)
        held = np.zeros(len(self.groups), bool)
        there = self.labels >= 0 if self.labelled else np.ones(len(self.groups), bool)
        shown = np.zeros((int(self.labels.max()) + 1 if self.labelled else 0, int(self.groups.max()) + 1), bool)
        if self.labelled:
            shown[self.labels[there], self.groups[there]] = True
        for brain in np.unique(pairs[0]):
            for group in np.unique(self.groups[there & (pairs[0] == brain)])[every // 2 :: every]:
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
            if "soft" in self.needs:
                digest.update(source.soft.tobytes())
            if "any" in self.needs:
                digest.update(source.use.tobytes())
            if "place" in self.needs:
                for mesh in source.meshes:
                    digest.update(mesh.vertices_mm.tobytes() + mesh.faces.tobytes())
                if not source.meshes:
                    digest.update(source.places_mm.tobytes() + source.sides.tobytes())
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

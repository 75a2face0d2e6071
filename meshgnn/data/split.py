"""Which nodes train, which test, and which validate: strict splits with contiguous parts and buffers.

Labels of the test part are never seen in training; no edge of the graph that a model runs on joins the two parts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph
from scipy.spatial import cKDTree

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, LeakError, SettingError
from meshgnn.graph import MeshGraph
from meshgnn.mesh.metric import vertex_areas
from meshgnn.mesh.operators import geodesic_distance, geodesic_graph
from meshgnn.mesh.record import Hemisphere


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Parts of the nodes of one graph.

    Args:
        train, test: [V] bool, disjoint. Nodes in neither are a buffer, outside cortex, or not asked about.
        asked: [V] bool, `test` with the nodes outside cortex that lie in it: labels there leave the score, and are
            counted.
        edges: [2, E] edges inside cortex and inside one part: what models and smoothing may use.
        protocol: "strict".
        name: one line for the report.
    """

    train: NDArray[np.bool_]
    test: NDArray[np.bool_]
    asked: NDArray[np.bool_]
    edges: NDArray[np.int32]
    protocol: str
    name: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Fold:
    """A validation block inside the training part.

    Args:
        validation: [V] bool, contiguous nodes.
        train: [V] bool, the training part less the block and a buffer around it.
    """

    validation: NDArray[np.bool_]
    train: NDArray[np.bool_]


def leak_counts(split: Split) -> dict[str, int]:
    """Edges between training and test nodes, and nodes in both; the strict protocol demands 0."""
    receiver, sender = split.edges
    touching = (split.train[receiver] & split.test[sender]) | (split.test[receiver] & split.train[sender])
    return {"train_test_edges": int(touching.sum()) // 2, "shared_nodes": int((split.train & split.test).sum())}


def shared_rows(values: NDArray[np.floating], train: NDArray[np.bool_], test: NDArray[np.bool_]) -> int:
    """How many test nodes carry exactly the feature row [V, C] of some training node.

    Measured features of different places differ in some digit; a hemisphere that was copied from the other does not.
    """
    if not values.shape[1] or not train.any():
        return 0
    rows = np.ascontiguousarray(values, np.float32).view(np.dtype((np.void, 4 * values.shape[1]))).ravel()
    return int(np.isin(rows[test], rows[train]).sum())


def check_no_leak(split: Split) -> dict[str, int]:
    """`leak_counts`, or LeakError if one of them is not 0."""
    counts = leak_counts(split)
    if any(counts.values()):
        raise LeakError(f"the split leaks: {', '.join(f'{name} {count}' for name, count in counts.items() if count)}")
    return counts


def _cut(graph: MeshGraph, part: NDArray[np.int8]) -> NDArray[np.int32]:
    """Edges inside cortex that stay inside one part.

    Edges to nodes outside cortex go too: an average that reaches them would tell a node how near the rim of the mask
    is, and where masks are drawn from an atlas, the rim gives away its areas.
    """
    receiver, sender = graph.edges
    keep = (part[receiver] == part[sender]) & graph.cortex[receiver] & graph.cortex[sender]
    return np.ascontiguousarray(graph.edges[:, keep])


def inner_edges(graph: MeshGraph) -> NDArray[np.int32]:
    """[2, E] edges inside cortex."""
    return np.ascontiguousarray(graph.edges[:, graph.cortex[graph.edges].all(0)])


class HemisphereSplit:
    """Train on one hemisphere, test on the other."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        train: Hemisphere = "L"
        test: Hemisphere = "R"

        def __post_init__(self) -> None:
            if self.train == self.test:
                raise SettingError(f"<train> and <test> are both {self.train}; they must differ")

        def build(self) -> "HemisphereSplit":
            return HemisphereSplit(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def apply(self, graph: MeshGraph) -> Split:
        """Raises InputError when a hemisphere is missing."""
        hemisphere = graph.hemisphere
        for wanted in (self.config.train, self.config.test):
            if wanted not in hemisphere:
                raise InputError(
                    f"hemisphere {wanted} is missing in {graph.brain}; a split by hemisphere needs both. To split "
                    "inside one hemisphere: --set split=BlockSplit"
                )
        part = np.where(hemisphere == self.config.train, 1, 2).astype(np.int8)
        return Split(
            train=graph.cortex & (part == 1),
            test=graph.cortex & (part == 2),
            asked=part == 2,
            edges=_cut(graph, part),
            protocol="strict",
            name=f"hemisphere {self.config.train} -> hemisphere {self.config.test}",
        )


class BlockSplit:
    """Cut the brain into slabs along an axis; test on some, train on the others, with a buffer between them."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            axis: x (left-right), y (back-front, the axis of coronal sections) or z (down-up).
            blocks: number of slabs with equally many nodes.
            test: which slabs to test on, counted from 0 at the left / back / bottom.
            buffer_mm: geodesic width of the strip around the test part that is left out.
        """

        axis: Literal["x", "y", "z"] = "y"
        blocks: int = 5
        test: tuple[int, ...] = (2,)
        buffer_mm: float = 10.0

        def __post_init__(self) -> None:
            if self.blocks < 2 or not self.test or not all(0 <= k < self.blocks for k in self.test):
                raise SettingError(f"<test> must name some of the {self.blocks} <blocks>, 0 to {self.blocks - 1}")
            if self.buffer_mm < 0:
                raise SettingError("<buffer_mm> must not be negative")

        def build(self) -> "BlockSplit":
            return BlockSplit(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def apply(self, graph: MeshGraph) -> Split:
        """Raises InputError when no training node is left."""
        along = graph.vertices_mm[:, "xyz".index(self.config.axis)]
        bounds = np.quantile(along[graph.cortex], np.linspace(0, 1, self.config.blocks + 1)[1:-1])
        block = np.searchsorted(bounds, along)
        inside = np.isin(block, self.config.test)
        near = np.zeros(graph.n_nodes, bool)
        for mesh, place in zip(graph.meshes, graph.slices().values()):
            distance = geodesic_distance(geodesic_graph(mesh), np.flatnonzero(inside[place]))
            near[place] = distance <= self.config.buffer_mm
        # The ring next to the test part always goes, so that no edge is left even with a buffer of 0 mm.
        near[np.unique(graph.edges[0][inside[graph.edges[1]]])] = True
        part = np.where(inside, 2, np.where(near, 0, 1)).astype(np.int8)
        train = graph.cortex & (part == 1)
        if not train.any():
            raise InputError(
                f"split.buffer_mm={self.config.buffer_mm:g} leaves no node to train on; choose a smaller one"
            )
        return Split(
            train=train,
            test=graph.cortex & inside,
            asked=inside,
            edges=_cut(graph, part),
            protocol="strict",
            name=f"{self.config.axis} blocks: test {list(self.config.test)} of {self.config.blocks}, "
            f"buffer {self.config.buffer_mm:g} mm",
        )


def contiguous_blocks(graph: MeshGraph, part: NDArray[np.bool_], count: int, seed: int) -> NDArray[np.int32]:
    """Cut `part` into `count` contiguous blocks of about equal size: block number [V], -1 outside.

    Seeds are farthest points in space, blocks their geodesic Voronoi cells inside the part; seeds then move to the
    cells' centres a few times (Lloyd 1982). Pieces that hold no seed join the block of the nearest seed in space.

    Raises:
        InputError: fewer nodes than blocks.
    """
    inside = np.flatnonzero(part)
    if len(inside) < count:
        raise InputError(f"{len(inside)} training nodes cannot be cut into {count} validation blocks")
    whole = sparse.csr_array(sparse.block_diag([geodesic_graph(mesh) for mesh in graph.meshes], format="csr"))
    lengths = whole[inside][:, inside]
    points = graph.vertices_mm[inside].astype(np.float64)
    seeds = [int(np.random.default_rng(seed).integers(len(inside)))]
    apart = np.linalg.norm(points - points[seeds[0]], axis=1)
    while len(seeds) < count:
        seeds.append(int(apart.argmax()))
        apart = np.minimum(apart, np.linalg.norm(points - points[seeds[-1]], axis=1))
    owner = np.zeros(len(inside), np.int64)
    for _ in range(5):
        distance, _, source = csgraph.dijkstra(
            lengths, directed=False, indices=seeds, min_only=True, return_predecessors=True
        )
        number = np.zeros(len(inside), np.int64)
        number[seeds] = np.arange(count)
        lost = ~np.isfinite(distance)
        owner = number[np.where(lost, seeds[0], source)]
        owner[lost] = cKDTree(points[seeds]).query(points[lost])[1]
        moved = []
        for k, old in enumerate(seeds):
            members = np.flatnonzero((owner == k) & ~lost)
            off_centre = np.linalg.norm(points[members] - points[members].mean(0), axis=1)
            moved.append(int(members[off_centre.argmin()]) if len(members) else old)
        if moved == seeds:
            break
        seeds = moved
    result = np.full(graph.n_nodes, -1, np.int32)
    result[inside] = owner
    return result


@dataclass(frozen=True, kw_only=True)
class Folds(BaseConfig):
    """How the training part is cut for validation.

    Args:
        blocks: contiguous validation blocks of each fold; 0 chooses: at least 12, and three blocks to an area over
            all folds, so that no fold hides a whole area of a fine atlas.
        buffer_mm: geodesic width of the strip left out around validation blocks; by default 6 mm, or a third of a
            block's radius where that is less.
    """

    blocks: int = 0
    buffer_mm: float | None = None

    def __post_init__(self) -> None:
        if (self.buffer_mm or 0) < 0 or self.blocks < 0:
            raise SettingError("<buffer_mm> and <blocks> must not be negative")

    def blocks_for(self, n_areas: int, count: int) -> int:
        """Blocks per fold for `n_areas` areas in the training part and `count` folds."""
        return self.blocks or max(12, -(-3 * n_areas // count))

    def width_mm(self, graph: MeshGraph, train: NDArray[np.bool_], blocks: int) -> float:
        """Width of the buffer for `blocks` blocks over all folds."""
        if self.buffer_mm is not None:
            return self.buffer_mm
        area_mm2 = sum(
            float(vertex_areas(mesh)[train[place]].sum()) for mesh, place in zip(graph.meshes, graph.slices().values())
        )
        return min(6.0, math.sqrt(area_mm2 / blocks / math.pi) / 3)


def validation_folds(graph: MeshGraph, split: Split, count: int, how: Folds, seed: int) -> list[Fold]:
    """`count` folds of the training part; each validates on a few contiguous blocks, with a buffer around them.

    One block per fold would swallow whole areas, which a model of that fold could then never have learnt; blocks of
    about the size of an area keep macro-F1 meaningful. Together the folds' validation nodes are the training part.

    Raises:
        InputError: the training part is too small for so many blocks.
    """
    labels = graph.labels[split.train]
    blocks_per_fold = how.blocks_for(len(np.unique(labels[labels >= 0])), count)
    buffer_mm = how.width_mm(graph, split.train, count * blocks_per_fold)
    blocks = contiguous_blocks(graph, split.train, count * blocks_per_fold, seed)
    dealt = np.random.default_rng(seed + 1).permutation(np.arange(count * blocks_per_fold) % count)
    fold_of = np.where(blocks >= 0, dealt[blocks], -1)
    graphs = [(geodesic_graph(mesh), place) for mesh, place in zip(graph.meshes, graph.slices().values())]
    folds = []
    for k in range(count):
        validation = fold_of == k
        near = np.zeros(graph.n_nodes, bool)
        for lengths, place in graphs:
            near[place] = geodesic_distance(lengths, np.flatnonzero(validation[place])) <= buffer_mm
        folds.append(Fold(validation=validation, train=split.train & ~validation & ~near))
    return folds


def section_folds(graph: MeshGraph, drawn: Sequence[int], count: int, shift: int = 0) -> NDArray[np.int32]:
    """The fold [V] of every node of a brain made from sections: the one plan that encoders and networks share.

    Annotated sections are cut into runs of neighbours, three runs to a fold where there are enough sections, and dealt
    to the folds in turn. Sections between join the run of the nearest annotated section, nodes on no section that of
    the nearest node on one.

    Args:
        graph: with node locations.
        drawn: numbers of its annotated sections.
        count: folds F.
        shift: fold of the first run; another one for every brain, so that no fold hides the same places everywhere.

    Raises:
        InputError: fewer annotated sections than folds.
    """
    assert graph.locations is not None
    numbers = np.unique(np.asarray(drawn, np.int64))
    if len(numbers) < count:
        raise InputError(
            f"{graph.brain}: {len(numbers)} annotated sections cannot be cut into {count} folds; lower trainer.folds "
            "or annotate more sections"
        )
    runs = min(len(numbers), 3 * count)
    run = np.arange(len(numbers)) * runs // len(numbers)
    section = graph.locations.section
    on = section >= 0
    nearest = np.abs(section[on][:, None] - numbers[None, :]).argmin(1)
    fold = np.full(graph.n_nodes, -1, np.int32)
    fold[on] = (run[nearest] + shift) % count
    if not on.all():
        points = graph.vertices_mm
        fold[~on] = fold[on][cKDTree(points[on]).query(points[~on])[1]]
    return fold

"""Data-driven areas on an unlabelled brain: small contiguous parcels, their network, groups of them. P parcels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering, KMeans

from meshgnn.data.split import contiguous_blocks
from meshgnn.errors import InputError
from meshgnn.graph import MeshGraph
from meshgnn.mesh.operators import adjacency
from meshgnn.networks.areas import ADJACENCY, SIMILARITY, border_lengths, closeness, part_means
from meshgnn.networks.blocks.leiden import LeidenGroups
from meshgnn.networks.partition import Labels
from meshgnn.networks.record import Floats, Layer, Network

RESOLUTIONS = tuple(np.geomspace(0.3, 12, 14).round(3).tolist())
BLOCKS = 40


def over_segment(graph: MeshGraph, features: Floats, per_hemisphere: int) -> Labels:
    """[V] number of the parcel of every node, -1 outside cortex: Ward's clustering of neighbouring nodes (Ward 1963;
    with the mesh as connectivity as in Thirion et al. 2014), hemisphere by hemisphere.

    Raises:
        InputError: fewer nodes in cortex than parcels.
    """
    parcel = np.full(graph.n_nodes, -1, np.int64)
    links = adjacency(graph.n_nodes, graph.edges)
    first = 0
    for side, place in graph.slices().items():
        inside = np.flatnonzero(graph.cortex[place]) + place.start
        if len(inside) < per_hemisphere:
            raise InputError(f"{graph.brain}: {len(inside)} nodes in cortex of {side} for {per_hemisphere} parcels")
        ward = AgglomerativeClustering(per_hemisphere, linkage="ward", connectivity=links[inside][:, inside])
        parcel[inside] = _connected(ward, features[inside]) + first
        first += per_hemisphere
    return parcel


def _connected(ward: AgglomerativeClustering, values: Floats) -> Labels:
    """Cortex in several pieces is completed by scikit-learn, which warns of it."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return np.asarray(ward.fit_predict(values), np.int64)


def parcel_network(graph: MeshGraph, parcel: Labels, features: Floats, neighbours: int) -> tuple[Network, Floats]:
    """The network of the parcels, and their mean features [P, C].

    Layers: `similarity`, closeness of mean features of every parcel and the `neighbours` most alike anywhere;
    `adjacency`, the same weights between parcels that touch.
    """
    count = int(parcel.max()) + 1
    means = part_means(features, parcel, count)
    alike = closeness(means)
    np.fill_diagonal(alike, -1)
    nearest = np.argsort(-alike, axis=1, kind="stable")[:, :neighbours]
    near = np.zeros((count, count), bool)
    near[np.arange(count)[:, None], nearest] = True
    touch = border_lengths(graph, parcel, count) > 0
    side = np.array([graph.hemisphere[parcel == k][0] for k in range(count)])
    layers = {
        SIMILARITY: Layer(
            weights=np.where(near | near.T, alike, np.nan), text=f"closeness of mean features, {neighbours} nearest"
        ),
        ADJACENCY: Layer(weights=np.where(touch, alike, np.nan), text="closeness of mean features, parcels that touch"),
    }
    made = Network(
        name=f"parcels of {graph.brain}", nodes=tuple(f"parcel {k + 1}" for k in range(count)), layers=layers,
        domains=tuple(str(one) for one in side),
        values={"nodes_of_the_mesh": np.bincount(parcel[parcel >= 0], minlength=count).astype(np.float64)},
    )  # fmt: skip
    return made, means


def kmeans_groups(means: Floats, groups: int, seed: int) -> Labels:
    """[P] Lloyd's k-means on mean features [P, C], best of 10 starts."""
    return np.asarray(KMeans(groups, n_init=10, random_state=seed).fit_predict(means), np.int64)


def leiden_groups(network: Network, layers: Sequence[str], groups: int, seed: int) -> Labels:
    """[P] Leiden's communities at the resolution whose number of groups is nearest to `groups` (0: at resolution 1)."""
    best: tuple[float, Labels] | None = None
    for resolution in RESOLUTIONS if groups else (1.0,):
        config = LeidenGroups.Config(resolutions=(resolution,), starts=5, permutations=0, seed=seed)
        found = config.build().fit(network, layers).levels[0]
        away = abs(len(np.unique(found)) - groups)
        if best is None or away < best[0]:
            best = (away, found)
    assert best is not None
    return best[1]


@dataclass(frozen=True, kw_only=True)
class RandInterval:
    """Difference of two adjusted Rand indices, with its 95 % interval."""

    difference: float
    low: float
    high: float


def rand_between(
    graph: MeshGraph, judged: NDArray[np.bool_], ours: Labels, theirs: Labels, *, draws: int = 2000, seed: int = 0
) -> RandInterval:
    """ours minus theirs on the labelled nodes of one brain, by a Bayesian bootstrap (Rubin 1981) over contiguous blocks
    of cortex: it speaks of other places of this brain.

    Args:
        ours, theirs: groups [V] of the nodes.
    """
    labelled = judged & (graph.labels >= 0)
    place = contiguous_blocks(graph, labelled, min(BLOCKS, int(labelled.sum())), seed=0)
    blocks = int(place.max()) + 1
    weights = np.random.default_rng(seed).exponential(size=(draws, blocks))
    weights /= weights.mean(1, keepdims=True)

    def index(groups: Labels, weight: Floats) -> Floats:
        """[draws] index of tables of counts that are weighted block by block."""
        count, classes = int(groups.max()) + 1, int(graph.labels.max()) + 1
        keys = (place * classes + graph.labels) * count + groups
        tables = np.bincount(keys[labelled], minlength=blocks * classes * count)
        return rand_of_tables((weight @ tables.reshape(blocks, -1)).reshape(-1, classes, count))

    even = np.ones((1, blocks))
    drawn = index(ours, weights) - index(theirs, weights)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return RandInterval(
        difference=float(index(ours, even)[0] - index(theirs, even)[0]), low=float(low), high=float(high)
    )


def rand_of_tables(tables: Floats) -> Floats:
    """Adjusted Rand index (Hubert & Arabie 1985) of tables of counts [D, K, G], whole numbers or not."""

    def pairs(counts: Floats) -> Floats:
        return counts * (counts - 1) / 2

    rows, columns = pairs(tables.sum(2)).sum(1), pairs(tables.sum(1)).sum(1)
    cells, total = pairs(tables).sum((1, 2)), pairs(tables.sum((1, 2)))
    expected = rows * columns / total
    most = (rows + columns) / 2
    return np.divide(cells - expected, most - expected, out=np.ones_like(cells), where=most > expected)

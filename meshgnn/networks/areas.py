"""Areas as a network: who borders on whom, whose features are alike, whose runs rise and fall together."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.graph import MeshGraph
from meshgnn.mesh.operators import one_ring_average
from meshgnn.networks.record import Floats, Layer, Network

ADJACENCY, SIMILARITY, CONNECTIVITY = "adjacency", "similarity", "connectivity"
COMPONENTS = 10  # of a run, as features of its nodes

Series = Mapping[str, NDArray[np.floating]]


def node_features(graph: MeshGraph, series: Series, rounds: int, tables: Sequence[str] = ()) -> Floats:
    """[V, C] what a node is told apart by: columns of the tables and components of the runs, averaged over the mesh.

    Every column is standardised over the cortex where it is known; unknown values are 0, the mean.

    Args:
        series: [V, T] by name; its first principal components over time, weighted by their spread.
        rounds: of one-ring averages.
        tables: of them; all if none are named.

    Raises:
        InputError: a table that is not there, or nothing that differs between nodes.
    """
    if wrong := [name for name in tables if name not in graph.tables]:
        raise InputError(
            f"{graph.brain}: there is no table {wrong[0]!r}; there are {', '.join(graph.tables) or 'none'}"
        )
    found = []
    for name, table in graph.tables.items():
        if len(table.values) == graph.n_nodes and name in (tables or graph.tables):
            found.append(_standard(_averaged(graph, table.values, table.mask & graph.cortex, rounds)))
    for values in series.values():
        known = graph.cortex & (np.ptp(values, axis=1) > 0)
        smooth, there = _averaged(graph, values, known, rounds)
        centred = (smooth - smooth.mean(1, keepdims=True)) * there[:, None]
        left, spread, _ = np.linalg.svd(centred[there], full_matrices=False)
        loadings = np.zeros((graph.n_nodes, min(COMPONENTS, len(spread))))
        loadings[there] = left[:, :COMPONENTS] * spread[:COMPONENTS]
        found.append((loadings - loadings[there].mean(0)) / (loadings[there].std() or 1) * there[:, None])
    whole = np.concatenate(found, axis=1) if found else np.zeros((graph.n_nodes, 0))
    whole = whole[:, np.ptp(whole, axis=0) > 0]
    if not whole.shape[1]:
        raise InputError(f"{graph.brain}: no table and no run that differs between nodes; there is nothing to compare")
    return whole


def _averaged(
    graph: MeshGraph, values: NDArray[np.floating], known: NDArray[np.bool_], rounds: int
) -> tuple[Floats, NDArray[np.bool_]]:
    if rounds:
        values = one_ring_average(values, known, graph.edges, (rounds,))[0]
    return np.where(known[:, None], values, 0).astype(np.float64), known


def _standard(given: tuple[Floats, NDArray[np.bool_]]) -> Floats:
    values, known = given
    if not known.any():
        return values
    spread = values[known].std(0)
    return (values - values[known].mean(0)) / np.where(spread > 0, spread, 1) * known[:, None]


def border_lengths(graph: MeshGraph, part: NDArray[np.integer], count: int) -> Floats:
    """[K, K] mm of border between parts [V] (-1 for none): half the length of the edges that lead from one to another,
    which is about the border on a regular triangulation; 0 where they do not touch."""
    a, b = part[graph.edges[0]], part[graph.edges[1]]
    across = (a != b) & (a >= 0) & (b >= 0)
    points = graph.vertices_mm.astype(np.float64)
    ends = graph.edges[:, across]
    half = np.linalg.norm(points[ends[0]] - points[ends[1]], axis=1) / 2
    found = np.zeros((count, count))
    np.add.at(found, (a[across], b[across]), half)
    return (found + found.T) / 2  # both directions stand in the edges


def closeness(means: Floats) -> Floats:
    """[K, K] 1 / (1 + d / m), d the Euclidean distance of rows [K, C], m the median of all d; NaN for absent rows."""
    gap = np.sqrt(np.maximum(((means[:, None] - means[None, :]) ** 2).sum(2), 0))
    upper = gap[np.triu_indices(len(gap), 1)]
    middle = float(np.nanmedian(upper)) if np.isfinite(upper).any() else 1.0
    return 1 / (1 + gap / (middle or 1.0))


def part_means(values: Floats, part: NDArray[np.integer], count: int) -> Floats:
    """[K, C] mean of values [V, C] over the nodes of every part; NaN for a part without nodes."""
    inside = part >= 0
    size = np.bincount(part[inside], minlength=count).astype(np.float64)
    total = np.stack([np.bincount(part[inside], column[inside], minlength=count) for column in values.T], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / size[:, None]


def area_network(brains: Sequence[tuple[MeshGraph, Floats, Series]]) -> Network:
    """Areas of one brain or of several, both hemispheres together; weights are means over the brains that have a pair.

    Args:
        brains: with labels of the same areas; their features [V, C] and runs.

    The layers: `adjacency` (mm of border), `similarity` (closeness of mean features), and `connectivity` (correlation
    of mean series, Fisher's z) where all brains have runs.

    Raises:
        InputError: fewer than two labelled areas.
    """
    names = brains[0][0].areas.names
    layers: dict[str, list[Floats]] = {ADJACENCY: [], SIMILARITY: [], CONNECTIVITY: []}
    size = np.zeros(len(names))
    for graph, features, series in brains:
        count = len(names)
        there = np.bincount(graph.labels[graph.labels >= 0], minlength=count) > 0
        size += np.bincount(graph.labels[graph.labels >= 0], minlength=count) / len(brains)
        border = border_lengths(graph, graph.labels, count)
        layers[ADJACENCY].append(np.where(border > 0, border, np.nan))
        layers[SIMILARITY].append(closeness(part_means(features, graph.labels, count)))
        if series:
            runs = [
                np.corrcoef(part_means(np.asarray(run, np.float64), graph.labels, count)) for run in series.values()
            ]
            z = np.arctanh(np.clip(np.mean(runs, axis=0), -0.999999, 0.999999))
            layers[CONNECTIVITY].append(np.where(there[:, None] & there, z, np.nan))
    kept = np.flatnonzero(size > 0)
    if len(kept) < 2:
        raise InputError(f"{brains[0][0].brain}: {len(kept)} labelled areas; a network needs two or more")
    texts = {
        ADJACENCY: ("mm", "border on the mesh, mean over brains"),
        SIMILARITY: ("", "1 / (1 + distance of mean features / median distance)"),
        CONNECTIVITY: ("", "correlation of mean series, Fisher's z"),
    }
    made = {}
    for name, found in layers.items():
        if len(found) == len(brains):
            whole = np.array(found)
            known = np.isfinite(whole).sum(0)
            mean = np.divide(np.nansum(whole, 0), known, out=np.full(known.shape, np.nan), where=known > 0)
            mean = (mean + mean.T) / 2
            unit, text = texts[name]
            made[name] = Layer(weights=mean[np.ix_(kept, kept)], unit=unit, text=text)
    return Network(
        name="areas", nodes=tuple(names[k] for k in kept), layers={n: la for n, la in made.items() if la.edges().size},
        values={"nodes_of_the_mesh": size[kept]},
    )  # fmt: skip

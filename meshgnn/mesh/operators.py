"""One-ring averages and geodesic distances on the mesh graph. Deterministic: sorted CSR, no scatter."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from meshgnn.mesh.record import SurfaceMesh


def adjacency(n_nodes: int, edges: NDArray[np.int32]) -> sparse.csr_array:
    """0/1 adjacency [V, V] of directed edges [2, E], float32, indices sorted."""
    values = np.ones(edges.shape[1], np.float32)
    matrix = sparse.csr_array((values, (edges[0], edges[1])), shape=(n_nodes, n_nodes))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def one_ring_average(
    values: NDArray[np.floating], mask: NDArray[np.bool_], edges: NDArray[np.int32], rounds: tuple[int, ...]
) -> list[NDArray[np.float32]]:
    """Averages over a node and its one-ring, repeated; nodes outside the mask neither give nor receive.

    Args:
        values: [V, C]; rows outside the mask are ignored (may be NaN).
        mask: [V].
        edges: [2, E].
        rounds: the round counts wanted, ascending, e.g. (5, 15, 40).

    Returns:
        One [V, C] float32 per entry of `rounds`; rows outside the mask are 0. A masked node without a masked
        neighbour keeps its value.
    """
    if any(later <= earlier for earlier, later in zip((0, *rounds), rounds)):
        raise ValueError(f"rounds must ascend from 1, got {rounds}")
    inside = mask.astype(np.float32)
    matrix = adjacency(len(mask), edges) + sparse.eye_array(len(mask), dtype=np.float32, format="csr")
    weights = sparse.csr_array(matrix.multiply(inside[None, :]).multiply(inside[:, None]))
    total = np.asarray(weights.sum(axis=1)).ravel()
    scale = np.divide(1, total, out=np.zeros_like(total), where=total > 0)
    weights = sparse.csr_array(weights.multiply(scale[:, None]), dtype=np.float32)
    current = np.where(mask[:, None], values, 0).astype(np.float32)
    kept = []
    for step in range(1, (rounds[-1] if rounds else 0) + 1):
        current = weights @ current
        if step in rounds:
            kept.append(current)
    return kept


@lru_cache(maxsize=16)
def geodesic_graph(mesh: SurfaceMesh) -> sparse.csr_array:
    """Edge lengths [V, V] in mm, with a short cut across every inner edge (two triangles unfolded into a plane).

    Dijkstra on edges alone overestimates distances by about 12 % on regular triangulations; with the unfolded
    diagonals the mean error falls to about 4 %. Those of the last meshes asked for are kept: the result must not be
    changed. Any mesh will do: non-manifold edges get no diagonal.
    """
    points = mesh.vertices_mm.astype(np.float64)
    faces = mesh.faces.astype(np.int64)
    sides = np.concatenate([faces[:, [0, 1, 2]], faces[:, [1, 2, 0]], faces[:, [2, 0, 1]]])
    low, high = np.minimum(sides[:, 0], sides[:, 1]), np.maximum(sides[:, 0], sides[:, 1])
    order = np.lexsort((sides[:, 2], high, low))
    low, high, apex = low[order], high[order], sides[order, 2]
    key = low * mesh.n_vertices + high
    unique, first, count = np.unique(key, return_index=True, return_counts=True)
    i, j = unique // mesh.n_vertices, unique % mesh.n_vertices
    length = np.linalg.norm(points[i] - points[j], axis=1)

    inner = np.flatnonzero((count == 2) & (length > 1e-9))
    a, b = apex[first[inner]], apex[first[inner] + 1]
    axis = (points[j[inner]] - points[i[inner]]) / length[inner, None]

    def unfold(tip: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        offset = points[tip] - points[i[inner]]
        along = np.einsum("ij,ij->i", offset, axis)
        return along, np.linalg.norm(offset - along[:, None] * axis, axis=1)

    (xa, ya), (xb, yb) = unfold(a), unfold(b)
    diagonal = np.hypot(xa - xb, ya + yb)
    crossing = xa + (xb - xa) * np.divide(ya, ya + yb, out=np.zeros_like(ya), where=(ya + yb) > 1e-12)
    fits = (a != b) & (crossing >= 0) & (crossing <= length[inner])
    rows = np.concatenate([i, a[fits]])
    columns = np.concatenate([j, b[fits]])
    values = np.maximum(np.concatenate([length, diagonal[fits]]), 1e-9)
    # Two ways between the same pair: keep the shorter one (csr would add them up).
    low, high = np.minimum(rows, columns), np.maximum(rows, columns)
    order = np.lexsort((values, high, low))
    keep = np.unique((low * mesh.n_vertices + high)[order], return_index=True)[1]
    low, high, values = low[order][keep], high[order][keep], values[order][keep]
    shape = (mesh.n_vertices, mesh.n_vertices)
    return sparse.csr_array((np.tile(values, 2), (np.r_[low, high], np.r_[high, low])), shape=shape)


def geodesic_distance(
    graph: sparse.csr_array, sources: NDArray[np.integer], start_mm: NDArray[np.floating] | float = 0.0
) -> NDArray[np.float64]:
    """Distance [V] in mm to the nearest source; `inf` where none can be reached.

    Args:
        graph: from `geodesic_graph`.
        sources: [S] node indices.
        start_mm: distance already travelled at each source, scalar or [S].
    """
    n_nodes = graph.shape[0]
    if len(sources) == 0:
        return np.full(n_nodes, np.inf)
    start = np.broadcast_to(np.asarray(start_mm, dtype=np.float64), (len(sources),))
    # One extra node, joined to every source by the distance already travelled (zeros would vanish from a sparse row).
    shift = 1.0
    extended = sparse.csr_array(
        sparse.block_array(
            [
                [graph, None],
                [
                    sparse.csr_array((start + shift, (np.zeros(len(sources), int), sources)), shape=(1, n_nodes)),
                    sparse.csr_array((1, 1)),
                ],
            ]
        )
    )
    return csgraph.dijkstra(extended, directed=True, indices=n_nodes)[:n_nodes] - shift

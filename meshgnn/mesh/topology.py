"""Counting laws of a mesh: edges, Euler number, components."""

import numpy as np
from numpy.typing import NDArray

from meshgnn.mesh.record import SurfaceMesh


def undirected_edges(mesh: SurfaceMesh) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Edges [U, 2] int32 (i < j, sorted, each once) and the number of faces [U] that hold each."""
    faces = mesh.faces.astype(np.int64)
    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    sides.sort(axis=1)
    keys, counts = np.unique(sides[:, 0] * mesh.n_vertices + sides[:, 1], return_counts=True)
    edges = np.stack([keys // mesh.n_vertices, keys % mesh.n_vertices], axis=1)
    return edges.astype(np.int32), counts


def directed_edges(mesh: SurfaceMesh) -> NDArray[np.int32]:
    """Edges [2, E] int32, both directions, sorted by receiver then sender (row 0 = receiver)."""
    edges, _ = undirected_edges(mesh)
    both = np.concatenate([edges, edges[:, ::-1]])
    return np.ascontiguousarray(both[np.lexsort((both[:, 1], both[:, 0]))].T)


def euler_number(mesh: SurfaceMesh) -> int:
    """V - E + F over the vertices in use; 2 for a sphere, 0 for a torus."""
    edges, _ = undirected_edges(mesh)
    return int(len(np.unique(mesh.faces)) - len(edges) + mesh.n_faces)


def edges_not_in_two_faces(mesh: SurfaceMesh) -> int:
    """Edges on a boundary (one face) or non-manifold (three and more)."""
    _, counts = undirected_edges(mesh)
    return int((counts != 2).sum())


def components(n_nodes: int, edges: NDArray[np.int32]) -> NDArray[np.int32]:
    """Component number [V] of every node of a graph with edges [2, E]."""
    from scipy import sparse  # here, so that importing the records stays light
    from scipy.sparse import csgraph

    matrix = sparse.csr_matrix((np.ones(edges.shape[1], np.int8), (edges[0], edges[1])), shape=(n_nodes, n_nodes))
    return csgraph.connected_components(matrix, directed=False)[1].astype(np.int32)


def summary(mesh: SurfaceMesh) -> dict[str, int | float]:
    """What `validate` and the reports print of a mesh."""
    from meshgnn.mesh.metric import face_areas

    edges, counts = undirected_edges(mesh)
    both = np.concatenate([edges, edges[:, ::-1]]).T
    used = np.unique(mesh.faces)
    lengths = np.linalg.norm(mesh.vertices_mm[edges[:, 0]] - mesh.vertices_mm[edges[:, 1]], axis=1)
    return {
        "vertices": mesh.n_vertices,
        "faces": mesh.n_faces,
        "edges": len(edges),
        "euler_number": int(len(used) - len(edges) + mesh.n_faces),
        "components": len(np.unique(components(mesh.n_vertices, both)[used])) if len(used) else 0,
        "edges_not_in_two_faces": int((counts != 2).sum()),
        "vertices_without_face": mesh.n_vertices - len(used),
        "area_mm2": round(float(face_areas(mesh).sum()), 1),
        "edge_mm_mean": round(float(lengths.mean()), 3) if len(lengths) else 0.0,
    }

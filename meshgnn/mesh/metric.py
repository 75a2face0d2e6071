"""Areas, normals and curvature of a mesh."""

import numpy as np
from numpy.typing import NDArray

from meshgnn.mesh.record import SurfaceMesh


def _corners(mesh: SurfaceMesh) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    points = mesh.vertices_mm.astype(np.float64)
    return points[mesh.faces[:, 0]], points[mesh.faces[:, 1]], points[mesh.faces[:, 2]]


def face_areas(mesh: SurfaceMesh) -> NDArray[np.float64]:
    """Area [F] of every triangle in mm^2."""
    a, b, c = _corners(mesh)
    return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)


def vertex_areas(mesh: SurfaceMesh) -> NDArray[np.float64]:
    """A third of the area of the faces around each vertex, [V] in mm^2."""
    thirds = np.repeat(face_areas(mesh) / 3, 3)
    return np.bincount(mesh.faces.ravel(), weights=thirds, minlength=mesh.n_vertices).astype(np.float64)


def volume_mm3(mesh: SurfaceMesh) -> float:
    """Signed volume of a closed mesh in mm^3, positive if the faces turn outward."""
    a, b, c = _corners(mesh)
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def vertex_normals(mesh: SurfaceMesh) -> NDArray[np.float64]:
    """Area-weighted unit normals [V, 3]; zero where a vertex has no face."""
    a, b, c = _corners(mesh)
    normals = np.cross(b - a, c - a)
    total = np.stack(
        [np.bincount(mesh.faces.ravel(), np.repeat(normals[:, k], 3), mesh.n_vertices) for k in range(3)], axis=1
    ).astype(np.float64)  # bincount of nothing is whole numbers
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.divide(total, length, out=np.zeros_like(total), where=length > 0)


def mean_curvature(mesh: SurfaceMesh) -> NDArray[np.float64]:
    """Signed mean curvature [V] in 1/mm by the cotangent Laplacian; +1/r on a sphere whose faces turn outward.

    Meyer, Desbrun, Schroeder & Barr 2003, eq. 8, with barycentric vertex areas.
    """
    points = mesh.vertices_mm.astype(np.float64)
    flow = np.zeros((mesh.n_vertices, 3))
    for corner in range(3):
        i, j, k = (mesh.faces[:, (corner + shift) % 3] for shift in range(3))
        u, v = points[j] - points[i], points[k] - points[i]
        cross = np.linalg.norm(np.cross(u, v), axis=1)
        cotangent = np.divide(np.einsum("ij,ij->i", u, v), cross, out=np.zeros(len(cross)), where=cross > 1e-12)
        side = cotangent[:, None] * (points[j] - points[k])
        for axis in range(3):
            flow[:, axis] += np.bincount(j, side[:, axis], mesh.n_vertices)
            flow[:, axis] -= np.bincount(k, side[:, axis], mesh.n_vertices)
    area = vertex_areas(mesh)
    projected = np.einsum("ij,ij->i", flow, vertex_normals(mesh))
    return np.divide(projected, 4 * area, out=np.zeros_like(area), where=area > 1e-12)

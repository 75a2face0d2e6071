"""An inflated hemisphere: folds smoothed out, total area kept, so that what lies in sulci can be seen."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from meshgnn.mesh.metric import face_areas, vertex_areas
from meshgnn.mesh.operators import adjacency
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.mesh.topology import directed_edges


def inflate(mesh: SurfaceMesh, *, smoothness_mm: float = 21.0, step: float = 0.8) -> NDArray[np.float32]:
    """Inflated coordinates [V, 3] in mm of the same nodes, with the centre and the total area of `mesh`.

    Every round moves a node a share `step` towards the mean of its neighbours (weighted by their areas, so that uneven
    triangulations smooth evenly); the whole is then scaled about its centre to the area it had, which comes to the same
    as scaling after every round. These are the spring force and the area constraint of Fischl, Sereno & Dale 1999
    (NeuroImage 9:195) without their metric term. The number of rounds follows from the edge length, so that a finer
    mesh of one brain looks the same.

    Args:
        mesh: a hemisphere; components are smoothed apart, nodes without a neighbour stay.
        smoothness_mm: standard deviation of the smoothing over the whole of the rounds.
        step: 0 to 1.
    """
    points = mesh.vertices_mm.astype(np.float64)
    edges = directed_edges(mesh)
    area = float(face_areas(mesh).sum())
    if not edges.shape[1] or area <= 0:
        return mesh.vertices_mm.copy()
    squared = float(((points[edges[0]] - points[edges[1]]) ** 2).sum(1).mean())
    # One round spreads a value over a variance of step x edge^2 / 2 along each of two axes.
    rounds = int(np.clip(np.ceil(2 * smoothness_mm**2 / (step * squared)), 1, 3000))
    weights = sparse.csr_array(
        adjacency(mesh.n_vertices, edges).astype(np.float64).multiply(vertex_areas(mesh)[None, :] + 1e-12)
    )
    total = np.asarray(weights.sum(axis=1)).ravel()
    weights = sparse.csr_array(
        weights.multiply(np.divide(1, total, out=np.zeros_like(total), where=total > 0)[:, None])
    )
    moves = (total > 0)[:, None] * step
    centre = points.mean(0)
    current = points - centre
    for _ in range(rounds):
        current = current + moves * (weights @ current - current)
    current -= current.mean(0)
    smoothed = float(face_areas(mesh.with_vertices(current)).sum())
    return (current * np.sqrt(area / max(smoothed, 1e-12)) + centre).astype(np.float32)

"""What can be laid on a sphere: a closed surface without holes or handles, in one piece."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph
from scipy.spatial import cKDTree

from meshgnn.errors import InputError
from meshgnn.mesh.metric import volume_mm3
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.mesh.topology import components, directed_edges, undirected_edges

FEWEST_VERTICES = 12  # fewer do not enclose anything that could be told apart


@dataclass(frozen=True, kw_only=True, eq=False)
class ClosedMesh:
    """The closed part of a mesh, with its vertices numbered anew.

    Args:
        mesh: [N] vertices, closed, genus 0, faces turned outward.
        kept: [N] the vertices of the original that they are.
        spread: [V, N] sparse rows of weights: values on the closed mesh, carried to every vertex of the original.
        turned: the faces of the original turn inward.
        flaps: pairs of faces that were left out since each pair lies on itself.
    """

    mesh: SurfaceMesh
    kept: NDArray[np.int64]
    spread: sparse.csr_array
    turned: bool
    flaps: int


def closed_mesh(mesh: SurfaceMesh) -> ClosedMesh:
    """The closed genus-0 surface in `mesh`.

    Decimated meshes hold flaps: two faces on the same three vertices, which enclose nothing. They are taken away in
    pairs until none is left. A vertex without a face takes the mean of its former neighbours, or the place of the
    nearest vertex if it never had one.

    Raises:
        InputError: several pieces, holes, edges in three or more faces, faces that turn against each other, handles,
            vertices without extent, or too few vertices.
    """
    who = f"hemisphere {mesh.hemisphere}"
    faces, flaps = _without_flaps(mesh.faces.astype(np.int64))
    kept = np.unique(faces)
    if len(kept) < FEWEST_VERTICES:
        raise InputError(f"{who}: {len(kept)} vertices in closed faces, too few for a sphere")
    number = np.full(mesh.n_vertices, -1)
    number[kept] = np.arange(len(kept))
    points = mesh.vertices_mm[kept]
    inner = SurfaceMesh(vertices_mm=points, faces=number[faces], hemisphere=mesh.hemisphere, space=mesh.space)
    edges, counts = undirected_edges(inner)
    both = np.concatenate([edges, edges[:, ::-1]]).T
    pieces = int(components(inner.n_vertices, both).max()) + 1
    if pieces > 1:
        raise InputError(f"{who}: the surface is in {pieces} pieces; a sphere needs one")
    if (counts > 2).any():
        raise InputError(f"{who}: {int((counts > 2).sum())} edges lie in three or more faces; the mesh is no surface")
    if (counts < 2).any():
        raise InputError(f"{who}: {int((counts < 2).sum())} edges lie at holes; a sphere needs a closed surface")
    sides = np.concatenate([inner.faces[:, [0, 1]], inner.faces[:, [1, 2]], inner.faces[:, [2, 0]]]).astype(np.int64)
    if len(np.unique(sides[:, 0] * inner.n_vertices + sides[:, 1])) < len(sides):
        raise InputError(f"{who}: neighbouring faces turn against each other")
    euler = inner.n_vertices - len(edges) + inner.n_faces
    if euler != 2:
        raise InputError(f"{who}: Euler number {euler} in place of 2: the surface has handles or pinched vertices")
    extent = np.ptp(points.astype(np.float64), axis=0)
    if extent.min() <= 1e-6 * max(float(extent.max()), 1e-30):
        raise InputError(f"{who}: the surface is flat; it encloses nothing")
    turned = volume_mm3(inner) < 0
    if turned:
        inner = SurfaceMesh(
            vertices_mm=points, faces=inner.faces[:, ::-1], hemisphere=mesh.hemisphere, space=mesh.space
        )
    return ClosedMesh(mesh=inner, kept=kept, spread=_spread(mesh, kept), turned=turned, flaps=flaps)


def _without_flaps(faces: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Faces without pairs on the same three vertices, and how many pairs were taken away."""
    flaps = 0
    while len(faces):
        _, group, count = np.unique(np.sort(faces, axis=1), axis=0, return_inverse=True, return_counts=True)
        order = np.argsort(group.ravel(), kind="stable")
        place = np.empty(len(faces), np.int64)
        place[order] = np.arange(len(faces)) - np.repeat(np.cumsum(count) - count, count)
        paired = place < count[group.ravel()] // 2 * 2
        if not paired.any():
            break
        flaps += int(paired.sum()) // 2
        faces = faces[~paired]
    return faces, flaps


def _spread(mesh: SurfaceMesh, kept: NDArray[np.int64]) -> sparse.csr_array:
    """Weights that carry values from the vertices `kept` to all: see `closed_mesh`."""
    count = mesh.n_vertices
    column = np.full(count, -1)
    column[kept] = np.arange(len(kept))
    rows, columns = list(kept), list(range(len(kept)))
    left = np.flatnonzero(column < 0)
    if len(left):
        receiver, sender = directed_edges(mesh)
        nearest = cKDTree(mesh.vertices_mm[kept]).query(mesh.vertices_mm[left])[1]
        graph = sparse.csr_array((np.ones(len(receiver)), (receiver, sender)), shape=(count, count))
        for vertex, fallback in zip(left, nearest):
            near = csgraph.breadth_first_order(graph, vertex, return_predecessors=False)
            near = near[column[near] >= 0]
            ring = sender[receiver == vertex]
            ring = ring[column[ring] >= 0]
            found = column[ring] if len(ring) else column[near[:1]] if len(near) else np.array([fallback])
            rows += [vertex] * len(found)
            columns += list(found)
    matrix = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(count, len(kept)))
    total = np.asarray(matrix.sum(axis=1)).ravel()
    return sparse.csr_array(sparse.diags_array(1 / total) @ matrix)

"""Points on a triangulated sphere: which triangle holds a point, and with what weights."""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from meshgnn.errors import InputError

Floats = NDArray[np.float64]
Faces = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """Where points lie in a triangulation.

    Args:
        face: [P] the triangle that holds each point.
        weights: [P, 3] barycentric weights of its corners, at least 0, summing to 1 (gnomonic: the straight line from
            the centre through the weighted mean of the corners meets the point).
    """

    face: NDArray[np.int64]
    weights: Floats


class Sphere:
    """A triangulation of the unit sphere without folds, with its neighbours, ready for look-ups.

    Args:
        points: [N, 3] unit vectors.
        faces: [F, 3] outward, closed.
    """

    def __init__(self, points: NDArray[np.floating], faces: NDArray[np.integer]) -> None:
        self.points = np.ascontiguousarray(points, np.float64)
        self.faces = np.ascontiguousarray(faces, np.int64)
        self.neighbours = _neighbours(self.faces)
        self._tree: cKDTree | None = None
        self._face_of = np.zeros(len(self.points), np.int64)
        self._face_of[self.faces.ravel()] = np.repeat(np.arange(len(self.faces)), 3)

    def locate(self, places: NDArray[np.floating], start: NDArray[np.int64] | None = None) -> Places:
        """The triangles that hold `places` [P, 3], unit vectors.

        A visibility walk (Devillers, Pion & Teillaud 2002) from the nearest vertex, or from the triangles `start`.
        The answer does not depend on where it starts, but for points on an edge.

        Raises:
            InputError: a point that is not finite.
        """
        where: Floats = np.ascontiguousarray(places, np.float64)
        if not np.isfinite(where).all():
            raise InputError("a point to look up on the sphere is not finite")
        if start is None:
            self._tree = self._tree or cKDTree(self.points)
            start = self._face_of[self._tree.query(where)[1]]
        face, weights = _walk(self.points, self.faces, self.neighbours, where, np.asarray(start, np.int64))
        return Places(face=face, weights=weights)

    def values(self, places: Places, values: NDArray[np.floating]) -> Floats:
        """`values` [N, C] or [N] interpolated linearly at `places`."""
        corners = np.asarray(values, np.float64)[self.faces[places.face]]
        weights = places.weights if corners.ndim == 2 else places.weights[:, :, None]
        return np.asarray((corners * weights).sum(1))

    def matrix(self, places: Places) -> sparse.csr_array:
        """The same as a sparse matrix [P, N]: `values(places, x)` is `matrix(places) @ x`."""
        count = len(places.face)
        rows = np.repeat(np.arange(count), 3)
        entries = (places.weights.ravel(), (rows, self.faces[places.face].ravel()))
        return sparse.csr_array(entries, shape=(count, len(self.points)))


def unit(vectors: NDArray[np.floating]) -> Floats:
    """[N, 3] vectors at length 1."""
    vectors = np.asarray(vectors, np.float64)
    return np.asarray(vectors / np.maximum(np.sqrt((vectors * vectors).sum(1, keepdims=True)), 1e-300))


def orientation(points: NDArray[np.floating], faces: NDArray[np.integer]) -> Floats:
    """[F] determinant of the corners of every triangle: positive where it faces outward, twice its area if small."""
    a, b, c = (np.asarray(points, np.float64)[faces[:, k]] for k in range(3))
    return np.einsum("ij,ij->i", a, np.cross(b - a, c - a))


def _neighbours(faces: Faces) -> Faces:
    """[F, 3]: the face across the edge that lies opposite to each corner."""
    count, top = len(faces), int(faces.max()) + 1
    ends = np.concatenate([faces[:, [1, 2]], faces[:, [2, 0]], faces[:, [0, 1]]])
    owner = np.tile(np.arange(count), 3)
    order = np.argsort(ends.min(1) * top + ends.max(1), kind="stable")
    pairs = order.reshape(-1, 2)  # a closed surface: every edge twice
    across = np.empty(3 * count, np.int64)
    across[pairs[:, 0]], across[pairs[:, 1]] = owner[pairs[:, 1]], owner[pairs[:, 0]]
    return np.ascontiguousarray(across.reshape(3, count).T)


@numba.njit(cache=True, nogil=True)
def _sides(points: Floats, faces: Faces, face: int, p: Floats, out: Floats) -> None:  # pragma: no cover
    for k in range(3):
        b, c = points[faces[face, (k + 1) % 3]], points[faces[face, (k + 2) % 3]]
        out[k] = (
            p[0] * (b[1] * c[2] - b[2] * c[1]) + p[1] * (b[2] * c[0] - b[0] * c[2]) + p[2] * (b[0] * c[1] - b[1] * c[0])
        )


@numba.njit(cache=True, nogil=True)
def _walk(
    points: Floats, faces: Faces, neighbours: Faces, places: Floats, start: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Floats]:  # pragma: no cover
    count = places.shape[0]
    found, weights = np.empty(count, np.int64), np.empty((count, 3))
    side, longest = np.empty(3), 200 + faces.shape[0] // 4
    for i in range(count):
        face, inside = start[i], False
        for _ in range(longest):
            _sides(points, faces, face, places[i], side)
            worst = 0
            for k in range(1, 3):
                if side[k] < side[worst]:
                    worst = k
            if side[worst] >= -1e-14:
                inside = True
                break
            face = neighbours[face, worst]
        if not inside:  # the walk may turn in circles on slivers: then every triangle is tried
            best = -np.inf
            for other in range(faces.shape[0]):
                _sides(points, faces, other, places[i], side)
                total = side[0] + side[1] + side[2]
                if total > 0 and min(side[0], side[1], side[2]) / total > best:
                    best, face = min(side[0], side[1], side[2]) / total, other
            _sides(points, faces, face, places[i], side)
        total = 0.0
        for k in range(3):
            side[k] = max(side[k], 0.0)
            total += side[k]
        found[i] = face
        for k in range(3):
            weights[i, k] = side[k] / total if total > 0 else 1 / 3
    return found, weights

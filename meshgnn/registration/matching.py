"""What registration minimises: difference of folding, bending of the warp, stretching of triangles."""

from functools import cache

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import SuperLU

from meshgnn.registration.distortion import Distortion
from meshgnn.registration.icosphere import icosphere
from meshgnn.registration.locate import Faces, Floats, Sphere
from meshgnn.registration.minimise import Laplacian, factors


class Matching:
    """Energy of a warp of the grid, [N, 3] unit vectors on the fixed sphere, one for each node of an icosphere.

    The mean squared difference of features over area, half of it; plus `bending` times half the integral of the squared
    Laplacian of the displacement (a thin plate: whole gyri move together rather than every node by itself); plus
    `stretching` times the symmetric Dirichlet energy above its minimum, which no fold can pass.

    Args:
        level: of the grid.
        rest: [N, 3] where the grid lies without a warp: the rigid start.
        wanted: [N, C] features of the moving hemisphere at the nodes.
        share: [N] weight of each node in the difference, summing to 1.
        fixed: the grid that carries the features of the fixed hemisphere.
        values: [N', C] those features.
    """

    def __init__(
        self, *, level: int, rest: Floats, wanted: Floats, share: Floats, fixed: Sphere, values: Floats,
        bending: float, stretching: float,
    ) -> None:  # fmt: skip
        grid = icosphere(level)
        self.rest, self.wanted, self.share = rest, wanted, share
        self.fixed, self.values = fixed, np.ascontiguousarray(values)
        self.bending, self.stretching, self.plate = bending, stretching, thin_plate(level)
        self.distortion = Distortion(grid.points, grid.faces)
        self._start: NDArray[np.int64] | None = None

    def __call__(self, x: Floats) -> tuple[float, Floats]:
        stretched, gradient = self.distortion(x)
        if not np.isfinite(stretched):
            return stretched, gradient
        difference, slope, _ = self.difference(x)
        moved = x - self.rest
        bent = self.plate @ moved
        value = difference + self.stretching * (stretched - 4) + 0.5 * self.bending * float((moved * bent).sum())
        return value, self.stretching * gradient + slope + self.bending * bent

    def stiffness(self, x: Floats) -> Floats:
        return self.stretching * self.distortion.stiffness(x)

    def pull(self, x: Floats) -> Floats:
        """The diagonal of the Gauss-Newton matrix of the difference, averaged over directions."""
        return self.difference(x)[2]

    def difference(self, x: Floats) -> tuple[float, Floats, Floats]:
        """Half the mean squared difference, its gradient [N, 3], and `pull` [N]."""
        places = self.fixed.locate(x, self._start)
        self._start = places.face
        return _difference(x, places.face, self.fixed.points, self.fixed.faces, self.values, self.wanted, self.share)


class PlateLaplacian(Laplacian):
    """The grid's Laplacian, with the plate's stiffness in its factors."""

    def __init__(self, level: int, bending: float) -> None:
        grid = icosphere(level)
        super().__init__(grid.points, grid.faces)
        self.plate = bending * thin_plate(level)

    def factor(self, face_weights: Floats | float, diagonal: Floats | float) -> SuperLU:
        weights = self.weights(face_weights)
        own = np.asarray(weights.sum(axis=1)).ravel()
        return factors(sparse.csc_array(sparse.diags_array(own * (1 + 1e-4) + diagonal) - weights + self.plate))


@cache
def thin_plate(level: int) -> sparse.csr_array:
    """[N, N] L A^-1 L / 4 pi, with the cotangent Laplacian L and node areas A of the icosphere."""
    grid = icosphere(level)
    weights = Laplacian(grid.points, grid.faces).weights()
    laplacian = sparse.csr_array(sparse.diags_array(np.asarray(weights.sum(axis=1)).ravel()) - weights)
    area = 4 * np.pi * node_share(grid.points, grid.faces)
    return sparse.csr_array(laplacian @ sparse.diags_array(1 / (4 * np.pi * area)) @ laplacian)


def node_share(points: Floats, faces: Faces) -> Floats:
    """[N] share of the area around each node."""
    shares = np.repeat(Distortion(points, faces).share / 3, 3)
    return np.bincount(faces.ravel(), shares, len(points)).astype(np.float64)


@numba.njit(cache=True, nogil=True)
def _difference(
    x: Floats, face: NDArray[np.int64], points: Floats, faces: Faces, values: Floats, wanted: Floats, share: Floats
) -> tuple[float, Floats, Floats]:  # pragma: no cover
    gradient, pull, total = np.zeros_like(x), np.zeros(x.shape[0]), 0.0
    normals, sides, slope = np.empty((3, 3)), np.empty(3), np.empty(3)
    channels = values.shape[1]
    for i in range(x.shape[0]):
        whole = 0.0
        for k in range(3):
            b, c = points[faces[face[i], (k + 1) % 3]], points[faces[face[i], (k + 2) % 3]]
            normals[k, 0] = b[1] * c[2] - b[2] * c[1]
            normals[k, 1] = b[2] * c[0] - b[0] * c[2]
            normals[k, 2] = b[0] * c[1] - b[1] * c[0]
            sides[k] = x[i, 0] * normals[k, 0] + x[i, 1] * normals[k, 1] + x[i, 2] * normals[k, 2]
            whole += sides[k]
        weight = share[i] / channels
        for channel in range(channels):
            here = 0.0
            for k in range(3):
                here += sides[k] / whole * values[faces[face[i], k], channel]
            slope[:] = 0
            for k in range(3):
                step = (values[faces[face[i], k], channel] - here) / whole
                for axis in range(3):
                    slope[axis] += step * normals[k, axis]
            off = here - wanted[i, channel]
            total += 0.5 * weight * off * off
            for axis in range(3):
                gradient[i, axis] += weight * off * slope[axis]
                pull[i] += 0.5 * weight * slope[axis] * slope[axis]
    return total, gradient, pull

"""Linear interpolation in volumes.

Each call runs in one thread; the compiled code releases Python's global interpreter lock.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray


def sample(field: NDArray[np.floating], points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Values [V] of a field [X, Y, Z] at points [V, 3] in voxels; beyond the border the nearest value inside."""
    return _sample(np.ascontiguousarray(field), np.ascontiguousarray(points, np.float64))


def gradient(field: NDArray[np.floating], points: NDArray[np.floating], reach: float = 0.75) -> NDArray[np.float64]:
    """[V, 3] slope per voxel at points [V, 3], by differences over +-reach voxels."""
    return _gradient(np.ascontiguousarray(field), np.ascontiguousarray(points, np.float64), reach)


@njit(cache=True, nogil=True)
def _at(field, x, y, z):
    nx, ny, nz = field.shape
    x, y, z = min(max(x, 0.0), nx - 1.0), min(max(y, 0.0), ny - 1.0), min(max(z, 0.0), nz - 1.0)
    i, j, k = min(int(x), max(nx - 2, 0)), min(int(y), max(ny - 2, 0)), min(int(z), max(nz - 2, 0))
    u, v, w = x - i, y - j, z - k
    a, b, c = min(i + 1, nx - 1), min(j + 1, ny - 1), min(k + 1, nz - 1)
    low = (field[i, j, k] * (1 - w) + field[i, j, c] * w) * (1 - v) + (
        field[i, b, k] * (1 - w) + field[i, b, c] * w
    ) * v
    high = (field[a, j, k] * (1 - w) + field[a, j, c] * w) * (1 - v) + (
        field[a, b, k] * (1 - w) + field[a, b, c] * w
    ) * v
    return low * (1 - u) + high * u


@njit(cache=True, nogil=True)
def _sample(field, points):
    out = np.empty(points.shape[0])
    for n in range(points.shape[0]):
        out[n] = _at(field, points[n, 0], points[n, 1], points[n, 2])
    return out


@njit(cache=True, nogil=True)
def _gradient(field, points, reach):
    out = np.empty((points.shape[0], 3))
    for n in range(points.shape[0]):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        out[n, 0] = (_at(field, x + reach, y, z) - _at(field, x - reach, y, z)) / (2 * reach)
        out[n, 1] = (_at(field, x, y + reach, z) - _at(field, x, y - reach, z)) / (2 * reach)
        out[n, 2] = (_at(field, x, y, z + reach) - _at(field, x, y, z - reach)) / (2 * reach)
    return out

"""Lines across the cortex along the gradient of the depth field (Jones, Buchbinder & Aharon 2000)."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from reconstruct.sampling import _at

Points = NDArray[np.float64]


def trace(u: NDArray[np.float32], points: Points, towards: int, limit: float) -> tuple[Points, NDArray[np.float64]]:
    """Where the lines through points reach the boundary, and how long they are.

    Midpoint steps of a fifth of a voxel along the unit gradient, up to the place where u passes its boundary value. A
    line that runs into a flat or turning field ends there.

    Args:
        u: [X, Y, Z] depth field, continued across both boundaries.
        points: [V, 3] in voxels.
        towards: 1 for the white boundary (u = 1), 0 for the pial one (u = 0).
        limit: longest line, in voxels.

    Returns:
        Ends [V, 3] in voxels and lengths [V] in voxels.
    """
    return _trace(np.ascontiguousarray(u), np.ascontiguousarray(points, np.float64), float(towards), limit, 0.2)


@njit(cache=True, nogil=True)
def _direction(u, x, y, z, sign):
    """Unit vector along sign * gradient; zero where the field is flat."""
    a = _at(u, x + 0.5, y, z) - _at(u, x - 0.5, y, z)
    b = _at(u, x, y + 0.5, z) - _at(u, x, y - 0.5, z)
    c = _at(u, x, y, z + 0.5) - _at(u, x, y, z - 0.5)
    size = np.sqrt(a * a + b * b + c * c)
    if size < 1e-4:
        return 0.0, 0.0, 0.0
    return sign * a / size, sign * b / size, sign * c / size


@njit(cache=True, nogil=True)
def _trace(u, points, target, limit, step):
    ends, length = points.copy(), np.zeros(points.shape[0])
    sign = 1.0 if target > 0.5 else -1.0
    for n in range(points.shape[0]):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        value = _at(u, x, y, z)
        while length[n] < limit and sign * (target - value) > 0:
            dx, dy, dz = _direction(u, x, y, z, sign)
            dx, dy, dz = _direction(u, x + dx * step / 2, y + dy * step / 2, z + dz * step / 2, sign)
            after = _at(u, x + dx * step, y + dy * step, z + dz * step)
            if sign * (after - value) <= 0:
                break
            share = min(1.0, (target - value) / (after - value))
            x, y, z = x + share * step * dx, y + share * step * dy, z + share * step * dz
            length[n] += share * step
            value = after
        ends[n, 0], ends[n, 1], ends[n, 2] = x, y, z
    return ends, length

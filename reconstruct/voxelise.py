"""Signed distance of a closed triangle mesh on a grid: exact near the surface, sign everywhere."""

import numpy as np
from numba import njit
from numpy.typing import NDArray


def signed_distance(
    vertices: NDArray[np.floating], faces: NDArray[np.int32], shape: tuple[int, int, int], band: float = 3.0
) -> NDArray[np.float32]:
    """Distance [X, Y, Z] to the surface in voxels, negative inside, cut off at +-band.

    The sign is the winding number along z: overlapping parts of a mesh that folds over itself stay inside.

    Args:
        vertices: [V, 3] in voxel coordinates; the surface must lie within the grid.
        faces: [F, 3], turning outward.
        band: in voxels.
    """
    points = np.ascontiguousarray(vertices, np.float64)
    triangles = np.ascontiguousarray(faces, np.int32)
    winding = np.zeros(shape, np.int16)
    # The mesh is shifted by about a millionth of a voxel, so that no column of the grid runs exactly through one of its
    # edges or vertices, where a crossing would be counted twice or not at all.
    _crossings(points + np.array([1.234567e-6, 2.345678e-6, 0.0]), triangles, winding)
    inside = np.cumsum(winding[:, :, ::-1], axis=2, dtype=np.int16)[:, :, ::-1] > 0
    distance = np.full(shape, band, np.float32)
    _band(points, triangles, distance, band)
    return np.where(inside, -distance, distance)


@njit(cache=True, nogil=True)
def _crossings(points, triangles, winding):
    """At the last voxel below each crossing of a grid column: +1 where the surface is left upward, -1 where entered."""
    nx, ny, nz = winding.shape
    for f in range(triangles.shape[0]):
        a, b, c = points[triangles[f, 0]], points[triangles[f, 1]], points[triangles[f, 2]]
        turn = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if turn == 0:
            continue
        for x in range(max(0, int(np.ceil(min(a[0], b[0], c[0])))), min(nx - 1, int(max(a[0], b[0], c[0]))) + 1):
            for y in range(max(0, int(np.ceil(min(a[1], b[1], c[1])))), min(ny - 1, int(max(a[1], b[1], c[1]))) + 1):
                u = ((b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x)) / turn
                v = ((c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x)) / turn
                w = 1 - u - v
                if u >= 0 and v >= 0 and w >= 0:
                    z = int(np.floor(u * a[2] + v * b[2] + w * c[2]))
                    if z >= 0:
                        winding[x, y, min(z, nz - 1)] += 1 if turn > 0 else -1


@njit(cache=True, nogil=True)
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(cache=True, nogil=True)
def _minus(a, b):
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2])


@njit(cache=True, nogil=True)
def _beyond(p, u, s, v, t):
    """Squared length of p - s u - t v."""
    q = (p[0] - s * u[0] - t * v[0], p[1] - s * u[1] - t * v[1], p[2] - s * u[2] - t * v[2])
    return _dot(q, q)


@njit(cache=True, nogil=True)
def point_triangle(p, a, b, c):
    """Squared distance of a point to a triangle (Ericson 2005, Real-Time Collision Detection, section 5.1.5)."""
    ab, ac, ap = _minus(b, a), _minus(c, a), _minus(p, a)
    d1, d2 = _dot(ab, ap), _dot(ac, ap)
    if d1 <= 0 and d2 <= 0:
        return _dot(ap, ap)
    bp = _minus(p, b)
    d3, d4 = _dot(ab, bp), _dot(ac, bp)
    if d3 >= 0 and d4 <= d3:
        return _dot(bp, bp)
    vc = d1 * d4 - d3 * d2
    if vc <= 0 and d1 >= 0 and d3 <= 0:
        return _beyond(ap, ab, d1 / (d1 - d3), ac, 0.0)
    cp = _minus(p, c)
    d5, d6 = _dot(ab, cp), _dot(ac, cp)
    if d6 >= 0 and d5 <= d6:
        return _dot(cp, cp)
    vb = d5 * d2 - d1 * d6
    if vb <= 0 and d2 >= 0 and d6 <= 0:
        return _beyond(ap, ab, 0.0, ac, d2 / (d2 - d6))
    va = d3 * d6 - d5 * d4
    if va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0:
        return _beyond(bp, _minus(c, b), (d4 - d3) / ((d4 - d3) + (d5 - d6)), ac, 0.0)
    return _beyond(ap, ab, vb / (va + vb + vc), ac, vc / (va + vb + vc))


@njit(cache=True, nogil=True)
def _band(points, triangles, distance, band):
    for f in range(triangles.shape[0]):
        a, b, c = points[triangles[f, 0]], points[triangles[f, 1]], points[triangles[f, 2]]
        low, high = np.empty(3, np.int64), np.empty(3, np.int64)
        for k in range(3):
            low[k] = max(0, int(np.ceil(min(a[k], b[k], c[k]) - band)))
            high[k] = min(distance.shape[k] - 1, int(np.floor(max(a[k], b[k], c[k]) + band)))
        normal = np.array([
            (b[1] - a[1]) * (c[2] - a[2]) - (b[2] - a[2]) * (c[1] - a[1]),
            (b[2] - a[2]) * (c[0] - a[0]) - (b[0] - a[0]) * (c[2] - a[2]),
            (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]),
        ])  # fmt: skip
        size = np.sqrt((normal * normal).sum())
        for x in range(low[0], high[0] + 1):
            for y in range(low[1], high[1] + 1):
                for z in range(low[2], high[2] + 1):
                    plane = abs((x - a[0]) * normal[0] + (y - a[1]) * normal[1] + (z - a[2]) * normal[2])
                    if plane >= distance[x, y, z] * size and size > 0:
                        continue
                    d = point_triangle((float(x), float(y), float(z)), a, b, c)
                    if d < distance[x, y, z] ** 2:
                        distance[x, y, z] = np.sqrt(d)


@njit(cache=True, nogil=True)
def nearest_on_faces(points, vertices, faces, head, following, candidates):
    """Distance [N] of points to the faces around their candidate vertices [N, K]."""
    result = np.empty(points.shape[0])
    for n in range(points.shape[0]):
        best = np.inf
        for k in range(candidates.shape[1]):
            corner = head[candidates[n, k]]
            while corner >= 0:
                f = corner // 3
                d = point_triangle(points[n], vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]])
                best = min(best, d)
                corner = following[corner]
        result[n] = np.sqrt(best)
    return result

"""Does a surface cross itself? Edges against triangles (Moeller & Trumbore 1997), neighbours left out."""

import numba
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from meshgnn.source.virtual.fields import Floats


@numba.njit(cache=True, nogil=True)
def _count(points, faces, edges, start, near):  # pragma: no cover
    found = 0
    for e in range(edges.shape[0]):
        a, b = edges[e, 0], edges[e, 1]
        px, py, pz = points[a, 0], points[a, 1], points[a, 2]
        dx, dy, dz = points[b, 0] - px, points[b, 1] - py, points[b, 2] - pz
        for at in range(start[e], start[e + 1]):
            i, j, k = faces[near[at], 0], faces[near[at], 1], faces[near[at], 2]
            if a in (i, j, k) or b in (i, j, k):
                continue
            ux, uy, uz = points[j, 0] - points[i, 0], points[j, 1] - points[i, 1], points[j, 2] - points[i, 2]
            vx, vy, vz = points[k, 0] - points[i, 0], points[k, 1] - points[i, 1], points[k, 2] - points[i, 2]
            hx, hy, hz = dy * vz - dz * vy, dz * vx - dx * vz, dx * vy - dy * vx
            det = ux * hx + uy * hy + uz * hz
            if abs(det) < 1e-12:
                continue
            sx, sy, sz = px - points[i, 0], py - points[i, 1], pz - points[i, 2]
            first = (sx * hx + sy * hy + sz * hz) / det
            if first < 0 or first > 1:
                continue
            qx, qy, qz = sy * uz - sz * uy, sz * ux - sx * uz, sx * uy - sy * ux
            second = (dx * qx + dy * qy + dz * qz) / det
            along = (vx * qx + vy * qy + vz * qz) / det
            if second >= 0 and first + second <= 1 and 0 < along < 1:
                found += 1
    return found


def crossings(points_mm: Floats, faces: npt.NDArray[np.integer]) -> int:
    """How many edges of the mesh (points [V, 3], faces [F, 3]) go through a triangle that they are not part of."""
    edges = np.unique(np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1), axis=0)
    middle = points_mm[faces].mean(1)
    reach = np.sqrt(((points_mm[faces] - middle[:, None]) ** 2).sum(2)).max(1)
    half = np.sqrt(((points_mm[edges[:, 0]] - points_mm[edges[:, 1]]) ** 2).sum(1)) / 2
    near = cKDTree(middle).query_ball_point(points_mm[edges].mean(1), half + np.quantile(reach, 0.999))
    start = np.concatenate([[0], np.cumsum([len(one) for one in near])])
    flat = np.concatenate([np.array(one, np.int64) for one in near]) if len(near) else np.zeros(0, np.int64)
    return int(_count(np.asarray(points_mm, np.float64), faces.astype(np.int64), edges.astype(np.int64), start, flat))

"""The grid on which hemispheres are compared: a subdivided icosahedron."""

from functools import cache

import numpy as np

from meshgnn.registration.locate import Sphere, unit

FINEST = 7  # 163,842 nodes


def nodes_of(level: int) -> int:
    """10 * 4^level + 2."""
    return int(10 * 4**level + 2)


@cache
def icosphere(level: int) -> Sphere:
    """The icosahedron, every triangle cut into four `level` times; nodes of coarser levels come first."""
    if level == 0:
        golden = (1 + 5**0.5) / 2
        pairs = [(one * 1.0, two * golden) for one in (-1, 1) for two in (-1, 1)]
        points = np.array([p for a, b in pairs for p in ((0, a, b), (a, b, 0), (b, 0, a))])
        near = np.abs(((points[:, None] - points[None]) ** 2).sum(2) - 4) < 1e-9
        faces = [
            (i, j, k) if np.linalg.det(points[[i, j, k]]) > 0 else (i, k, j)
            for i in range(12)
            for j in range(i + 1, 12)
            for k in range(j + 1, 12)
            if near[i, j] and near[j, k] and near[i, k]
        ]
        return Sphere(unit(points), np.array(faces))
    coarse = icosphere(level - 1)
    triangles, count = coarse.faces, len(coarse.points)
    sides = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    keys, number = np.unique(sides.min(1) * count + sides.max(1), return_inverse=True)
    middles = unit(coarse.points[keys // count] + coarse.points[keys % count])
    (a, b, c), (ab, bc, ca) = triangles.T, count + number.reshape(3, -1)
    parts = [np.c_[a, ab, ca], np.c_[ab, b, bc], np.c_[ca, bc, c], np.c_[ab, bc, ca]]
    return Sphere(np.concatenate([coarse.points, middles]), np.concatenate(parts))

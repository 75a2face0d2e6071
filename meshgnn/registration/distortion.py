"""The price of stretching: the symmetric Dirichlet energy of a map between triangulated surfaces.

Per triangle with singular values s1, s2 of the map: s1^2 + s2^2 + 1/s1^2 + 1/s2^2, which is 4 for an isometry, weighs
stretch and shrinkage alike, and grows beyond all bounds before a triangle folds over (Smith & Schaefer 2015, "Bijective
parameterization with free boundaries", ACM TOG 34(4):70). What is minimised by steps that never raise it cannot fold.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from meshgnn.registration.locate import Faces, Floats


class Distortion:
    """Mean energy of maps of a surface onto the unit sphere.

    Args:
        points: [N, 3] of the surface that is mapped; scaled so that its area is that of the unit sphere.
        faces: [F, 3].
    """

    def __init__(self, points: NDArray[np.floating], faces: Faces) -> None:
        self.faces = faces
        points = np.asarray(points, np.float64)
        u, v = points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]]
        gram = np.stack([(u * u).sum(1), (u * v).sum(1), (v * v).sum(1)], axis=1)
        # A triangle of no area has no shape to keep: it is given a thousandth of its longest side as its height.
        floor = 1e-6 * np.maximum(gram[:, 0], gram[:, 2]) ** 2
        gram[:, 2] += np.maximum(floor - (gram[:, 0] * gram[:, 2] - gram[:, 1] ** 2), 0) / np.maximum(gram[:, 0], 1e-30)
        area = 0.5 * np.sqrt(gram[:, 0] * gram[:, 2] - gram[:, 1] ** 2)
        self.share: Floats = area / area.sum()
        self.gram: Floats = gram * (4 * np.pi / area.sum())

    def __call__(self, x: Floats) -> tuple[float, Floats]:
        """Energy of unit vectors [N, 3], 4 at the least and infinite with a fold; and its gradient [N, 3]."""
        return _energy(x, self.faces, self.gram, self.share)

    def stiffness(self, x: Floats) -> Floats:
        """[F] weights in a cotangent Laplacian that stands for the second derivative (1/s^3 where s is small).

        The largest weight that the proxy of Rabinovich et al. 2017 (ACM TOG 36(2):16, table 1) gives the triangle.
        """
        small, _ = self.stretches(x)
        near = np.abs(small - 1) < 1e-3
        weight = np.where(near, 4.0, (small - small**-3.0) / np.where(near, 1, small - 1))
        return np.asarray(np.minimum(weight, 1e4) / (4 * np.pi))

    def stretches(self, x: Floats) -> tuple[Floats, Floats]:
        """Smaller and larger singular value [F] of the map on each triangle."""
        f, g = self.faces, self.gram
        u, v = x[f[:, 1]] - x[f[:, 0]], x[f[:, 2]] - x[f[:, 0]]
        uu, uv, vv = (u * u).sum(1), (u * v).sum(1), (v * v).sum(1)
        whole = g[:, 0] * g[:, 2] - g[:, 1] ** 2
        trace = (g[:, 2] * uu - 2 * g[:, 1] * uv + g[:, 0] * vv) / whole
        root = np.sqrt(np.maximum(trace**2 - 4 * (uu * vv - uv**2) / whole, 0))
        return np.sqrt(np.maximum(trace - root, 2e-12) / 2), np.sqrt((trace + root) / 2)


@numba.njit(cache=True, nogil=True)
def _energy(x: Floats, faces: Faces, gram: Floats, share: Floats) -> tuple[float, Floats]:  # pragma: no cover
    gradient, total = np.zeros_like(x), 0.0
    u, v = np.empty(3), np.empty(3)
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        uu, uv, vv = 0.0, 0.0, 0.0
        for k in range(3):
            u[k], v[k] = x[b, k] - x[a, k], x[c, k] - x[a, k]
            uu, uv, vv = uu + u[k] * u[k], uv + u[k] * v[k], vv + v[k] * v[k]
        outward = (
            x[a, 0] * (u[1] * v[2] - u[2] * v[1])
            + x[a, 1] * (u[2] * v[0] - u[0] * v[2])
            + x[a, 2] * (u[0] * v[1] - u[1] * v[0])
        )
        det = uu * vv - uv * uv
        if outward <= 0 or det <= 0:
            return np.inf, gradient
        whole = gram[f, 0] * gram[f, 2] - gram[f, 1] * gram[f, 1]
        i, j, k2 = gram[f, 2] / whole, -gram[f, 1] / whole, gram[f, 0] / whole  # inverse of the reference metric
        trace, ratio = i * uu + 2 * j * uv + k2 * vv, whole / det
        total += share[f] * trace * (1 + ratio)
        near, far = share[f] * (1 + ratio), share[f] * trace * ratio / det
        h1, h2, h3 = 2 * (near * i - far * vv), 2 * (near * j + far * uv), 2 * (near * k2 - far * uu)
        for k in range(3):
            du, dv = h1 * u[k] + h2 * v[k], h2 * u[k] + h3 * v[k]
            gradient[b, k] += du
            gradient[c, k] += dv
            gradient[a, k] -= du + dv
    return total, gradient

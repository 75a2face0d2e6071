"""What hemispheres are matched by: their folding at several scales, computed from the surface alone."""

import numpy as np
from scipy import sparse

from meshgnn.errors import InputError
from meshgnn.mesh.metric import mean_curvature, vertex_areas
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.registration.locate import Floats
from meshgnn.registration.minimise import Laplacian, factors

LIMIT = 3.0  # standard deviations beyond which a value tells of the mesh rather than of the fold


def folding(mesh: SurfaceMesh, scales_mm: tuple[float, ...]) -> Floats:
    """Depth potentials [V, S] of a closed hemisphere, positive on gyri, standardised over its area.

    The potential solves (1/l^2 + Laplacian) d = mean curvature - its mean (Boucher, Whitesides & Evans 2009,
    Medical Image Analysis 13:203, eq. 6): at large l it is a sulcal depth, at small l a smoothed curvature.

    Args:
        mesh: its size does not matter: it is scaled to the area of a sphere of radius 100 mm.
        scales_mm: lengths l in mm on that sphere.

    Raises:
        InputError: a surface that is curved alike everywhere has no folds to be matched by.
    """
    area = vertex_areas(mesh)
    scale = 100 * np.sqrt(4 * np.pi / area.sum())
    area, share = area * scale**2, area / area.sum()
    curvature = mean_curvature(mesh) / scale
    # Where faces are slivers the cotangent formula blows up; what lies far outside is cut to the bulk's range.
    low, high = np.quantile(curvature, [0.01, 0.99])
    curvature = np.clip(curvature, low, high)
    spread = np.sqrt((share * (curvature - (share * curvature).sum()) ** 2).sum())
    if not spread > 1e-3:  # of 1/100 mm, the mean; folded cortex has more than 1e-2
        raise InputError(f"hemisphere {mesh.hemisphere}: curvature is the same everywhere; there is nothing to match")
    laplacian = Laplacian(mesh.vertices_mm.astype(np.float64) * scale, mesh.faces.astype(np.int64))
    weights = laplacian.weights()
    own = np.asarray(weights.sum(axis=1)).ravel()
    found = []
    for length in scales_mm:
        matrix = sparse.csc_array(sparse.diags_array(own + np.maximum(area, 1e-12) / length**2) - weights)
        found.append(factors(matrix).solve(area * (curvature - (share * curvature).sum())))
    values = np.stack(found, axis=1)
    for _ in range(2):
        values = values - (share[:, None] * values).sum(0)
        values = np.clip(values / np.sqrt((share[:, None] * values**2).sum(0)), -LIMIT, LIMIT)
    return np.asarray(values)

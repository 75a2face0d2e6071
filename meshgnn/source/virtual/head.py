"""T1-like volumes of a head: the MNI152 template on a cube, and its deformation into individual heads.

The deformation is a free-form one: displacements at the knots of a coarse lattice, cubic B-splines between them
(Rueckert et al. 1999, doi:10.1109/42.796284). As long as no displacement of a knot exceeds 0.4 of the lattice's spacing
along any axis, it cannot fold (Choi & Lee 2000, doi:10.1006/gmod.2000.0531: 0.403 in three dimensions).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import BSpline

from meshgnn.mesh.record import frozen
from meshgnn.optional import data_folder
from meshgnn.source.virtual.fields import Floats
from meshgnn.source.volume import read_volume

TEMPLATE = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
SPACE = "MNI152NLin2009aSym"
SIDE_MM = 192.0
CENTRE_MM = (0.0, -18.0, 6.0)
KNOTS = 7
STEEPEST = 0.4  # of the lattice's spacing


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """The template on a cube.

    Args:
        t1: [S, S, S] float32, 0 outside the skull-stripped brain, white matter near 1.
        affine: [4, 4] voxel -> mm of MNI152.
        weights: [S, KNOTS] values of the lattice's cubic B-splines at the voxels of one axis.
    """

    t1: NDArray[np.float32]
    affine: Floats
    weights: Floats

    @property
    def size(self) -> int:
        return len(self.t1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "t1", frozen(self.t1, np.float32))
        object.__setattr__(self, "affine", frozen(self.affine, np.float64))
        object.__setattr__(self, "weights", frozen(self.weights, np.float64))

    @staticmethod
    @lru_cache(maxsize=2)
    def of_size(size: int) -> "Head":
        """The template that nilearn ships, smoothed to the new spacing and sampled trilinearly."""
        volume = read_volume(data_folder("nilearn") / "datasets" / "data" / TEMPLATE, SPACE)
        spacing = SIDE_MM / size
        affine = np.diag([spacing, spacing, spacing, 1.0])
        affine[:3, 3] = np.array(CENTRE_MM) - spacing * (size - 1) / 2
        sigma = np.sqrt(np.maximum(spacing**2 - volume.voxel_mm**2, 0)) / 2 / volume.voxel_mm
        smooth = ndimage.gaussian_filter(volume.values, sigma, truncate=3)
        to_old = np.linalg.inv(volume.affine) @ affine
        t1 = ndimage.affine_transform(smooth, to_old[:3, :3], to_old[:3, 3], (size,) * 3, order=1, output=np.float32)
        t1 /= np.percentile(t1[t1 > 0], 95)
        t1[t1 < 0.08] = 0  # the faint rim that smoothing leaves
        knots = np.arange(-3.0, KNOTS + 1)
        places = np.linspace(0, KNOTS - 3 - 1e-9, size)
        weights = BSpline.design_matrix(places, knots, 3).toarray()
        return Head(t1=t1, affine=affine, weights=weights)

    def millimetres(self) -> Floats:
        """[S, 3] of the voxels' centres along each axis."""
        return np.arange(self.size)[:, None] * np.diag(self.affine)[:3] + self.affine[:3, 3]

    def displacement(self, knots_mm: Floats) -> NDArray[np.float32]:
        """[3, S, S, S] mm, of displacements [KNOTS, KNOTS, KNOTS, 3] of the lattice's knots."""
        most = STEEPEST * SIDE_MM / (KNOTS - 3)
        given = np.clip(knots_mm, -most, most)
        w = self.weights
        found = np.einsum("xa,abcd->xbcd", w, given)
        found = np.einsum("yb,xbcd->xycd", w, found)
        return np.einsum("zc,xycd->dxyz", w, found, optimize=True).astype(np.float32)

    def deformed(self, values: NDArray[np.float32], displacement: NDArray[np.float32]) -> NDArray[np.float32]:
        """values at x + u(x): an individual head, from values [S, S, S] on the template's grid."""
        spacing = np.float32(self.affine[0, 0])
        grid = np.indices(values.shape, np.float32)
        grid += displacement / spacing
        return ndimage.map_coordinates(values, grid, order=1, mode="constant", output=np.float32)

    def individual_mm(self, points_mm: Floats, displacement: NDArray[np.float32]) -> Floats:
        """Where points [P, 3] of the template lie in the head that `deformed` makes with this displacement.

        The deformed image shows at x what the template has at x + u(x); x = p - u(x) is iterated from x = p. It
        converges, since u changes by less than the way that is gone (see above).
        """
        to_voxels, out = np.linalg.inv(self.affine), np.array(points_mm, np.float64)
        for _ in range(15):
            voxels = out @ to_voxels[:3, :3].T + to_voxels[:3, 3]
            moved = [ndimage.map_coordinates(part, voxels.T, order=1, mode="nearest") for part in displacement]
            out = points_mm - np.stack(moved, axis=1)
        return out

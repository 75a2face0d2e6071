"""Uneven light taken off a section's optical density.

Light that is weaker by a factor somewhere adds to optical density there, on glass as in tissue. Glass shows it: a
polynomial of the plane, fitted to what may be glass with robust weights (Student's t; Lange et al. 1989), so that dirt
and pale tissue count little. It is not told, and nothing is taken off, where glass does not lie on all sides.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from reconstruct.stain_levels import STAINED

Image = NDArray[np.float32]
_ORDER = 3  # of the polynomial
_ROUNDS = 12
_SAMPLES = 40_000
_LEAST_GLASS = 0.02  # of the image, of the pixels in each of the four triangles between its middle and its sides
_NEAR = 0.1  # density that differs less from the field may be glass
_FREEDOM = 4.0


def light_field(density: Image) -> Image:
    """What uneven light adds to the density [H, W] of a section; zeros where glass does not tell.

    Args:
        density: against one grey value for the whole background: below 0 where the glass is brighter than that.
    """
    rows, columns = density.shape
    step = max(1, int(np.sqrt(density.size / _SAMPLES)))
    value = ndimage.uniform_filter(density, 3)[::step, ::step].astype(np.float64).ravel()
    grid = np.meshgrid(np.linspace(-1, 1, rows)[::step], np.linspace(-1, 1, columns)[::step], indexing="ij")
    y, x = (axis.ravel() for axis in grid)
    powers = [(i, j) for i in range(_ORDER + 1) for j in range(_ORDER + 1 - i)]
    basis = np.stack([y**i * x**j for i, j in powers], axis=1)
    factor, spread = np.zeros(len(powers)), STAINED / 3
    for number in range(_ROUNDS):
        left = value - basis @ factor
        # First a plane, which brings more glass within reach, then the whole polynomial.
        used = np.array([sum(one) <= 1 + (number > 3) + (number > 5) for one in powers])
        glass = np.abs(left) < _NEAR
        if not glass.any() or (number > 3 and not _all_round(glass, y, x)):
            return np.zeros_like(density)
        weight = glass * (_FREEDOM + 1) / (_FREEDOM + (left / spread) ** 2)
        h = (basis[:, used] * weight[:, None]).T @ basis[:, used]
        h += 1e-6 * np.trace(h) / len(h) * np.eye(len(h))
        factor = np.zeros(len(powers))
        factor[used] = np.linalg.solve(h, basis[:, used].T @ (weight * value))
        left = value - basis @ factor
        spread = max(float(np.sqrt((weight * left**2).sum() / glass.sum())), 2e-3)
    down, across = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, columns)[None]
    return np.sum([size * down**i * across**j for (i, j), size in zip(powers, factor)], axis=0).astype(np.float32)


def _all_round(glass: NDArray[np.bool_], y: NDArray[np.float64], x: NDArray[np.float64]) -> bool:
    """Whether there is glass towards all four sides of the image."""
    sides = ((y < -np.abs(x)), (y > np.abs(x)), (x < -np.abs(y)), (x > np.abs(y)))
    return min(float((glass & side).mean()) for side in sides) >= _LEAST_GLASS

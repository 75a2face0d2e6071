"""A smooth bend of a plane: what a section's tissue did on the glass beside being shifted, turned and stretched."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from meshgnn.errors import InputError
from meshgnn.mesh.record import frozen

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Bend:
    """Displacements x -> x + b(x) of a plane, b a uniform cubic B-spline; beyond its knots it goes on as at the rim.

    Args:
        knots: [2, R, C] float32 coefficients in mm, of (row, column).
        corner_mm: [2] (row, column) of the first knot.
        spacing_mm: between knots.
    """

    knots: NDArray[np.float32]
    corner_mm: Floats
    spacing_mm: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "knots", frozen(self.knots, np.float32))
        object.__setattr__(self, "corner_mm", frozen(self.corner_mm, np.float64))
        if self.knots.ndim != 3 or len(self.knots) != 2 or self.corner_mm.shape != (2,) or not self.spacing_mm > 0:
            raise InputError(f"a bend needs knots [2, R, C], a corner [2] and a spacing, got {self.knots.shape}")
        if not np.isfinite(self.knots).all():
            raise InputError("a bend's knots must be finite")

    def at(self, points_mm: NDArray[np.floating]) -> Floats:
        """Displacements [..., 2] in mm of points [..., 2] (row, column)."""
        points = np.asarray(points_mm, np.float64)
        places = ((points - self.corner_mm) / self.spacing_mm).reshape(-1, 2).T
        moves = [ndimage.map_coordinates(one, places, order=3, prefilter=False, mode="nearest") for one in self.knots]
        return np.stack(moves, axis=-1).astype(np.float64).reshape(points.shape)

    def back(self, points_mm: NDArray[np.floating], rounds: int = 12) -> Floats:
        """The points [..., 2] that the bend takes to these (fixed-point iteration; displacements that do not fold)."""
        target = np.asarray(points_mm, np.float64)
        found = target.copy()
        for _ in range(rounds):
            found = target - self.at(found)
        return found

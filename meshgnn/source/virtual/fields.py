"""Smooth random fields in space, evaluated anywhere: sums of cosines with random wave vectors.

Summation order is fixed and no threaded library is called, so the same seed gives the same bits at any thread count.
"""

from dataclasses import dataclass
from typing import Protocol

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def stream(seed: int, *path: int | str) -> np.random.Generator:
    """An independent random generator for a named part of the brain (same names, same numbers)."""
    words = [int.from_bytes(part.encode(), "little") % (1 << 63) if isinstance(part, str) else part for part in path]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *words])))


@numba.njit(cache=True, nogil=True)
def _cosines(points: Floats, waves: Floats, phases: Floats, weights: Floats, out: Floats) -> None:  # pragma: no cover
    for i in range(points.shape[0]):
        for m in range(waves.shape[0]):
            angle = points[i, 0] * waves[m, 0] + points[i, 1] * waves[m, 1] + points[i, 2] * waves[m, 2] + phases[m]
            value = np.cos(angle)
            for c in range(weights.shape[1]):
                out[i, c] += weights[m, c] * value


@dataclass(frozen=True, kw_only=True, eq=False)
class SmoothField:
    """A random field of mean 0 with C independent channels.

    Args:
        waves: [M, 3] wave vectors, radians per mm.
        phases: [M].
        weights: [M, C].
    """

    waves: Floats
    phases: Floats
    weights: Floats

    @staticmethod
    def draw(
        rng: np.random.Generator, *, scale_mm: float, sd: float, channels: int = 1, waves: int = 48
    ) -> "SmoothField":
        """A field with standard deviation `sd` and a correlation length of about `scale_mm`."""
        vectors = rng.standard_normal((waves, 3)) / scale_mm
        phases = rng.uniform(0, 2 * np.pi, waves)
        weights = rng.standard_normal((waves, channels)) * sd * np.sqrt(2 / waves)
        return SmoothField(waves=vectors, phases=phases, weights=weights)

    def at(self, points_mm: npt.NDArray[np.floating]) -> Floats:
        """Values [..., C] at points [..., 3]."""
        points = np.ascontiguousarray(points_mm, np.float64)
        out = np.zeros((points.size // 3, self.weights.shape[1]))
        _cosines(points.reshape(-1, 3), self.waves, self.phases, self.weights, out)
        return out.reshape(*points.shape[:-1], self.weights.shape[1])


def flow(points_mm: npt.NDArray[np.floating], velocity: SmoothField, steps: int = 6) -> Floats:
    """Points [N, 3] carried along a smooth velocity field for unit time (midpoint rule): invertible, no crossings."""
    points = np.array(points_mm, np.float64)
    for _ in range(steps):
        middle = points + velocity.at(points) / (2 * steps)
        points = points + velocity.at(middle) / steps
    return points


class Velocity(Protocol):
    """Anything with values [N, 3] at points [N, 3]."""

    def at(self, points_mm: npt.NDArray[np.floating]) -> Floats: ...


def flow_on_sphere(points: npt.NDArray[np.floating], velocity: Velocity, radius_mm: float, steps: int = 4) -> Floats:
    """Unit vectors [N, 3] carried along the tangential part of a velocity field in mm on a sphere of `radius_mm`."""
    current = np.array(points, np.float64)
    for _ in range(steps):
        step = velocity.at(current * radius_mm) / (steps * radius_mm)
        step -= (step * current).sum(1, keepdims=True) * current
        current = current + step
        current /= np.sqrt((current * current).sum(1, keepdims=True))
    return current

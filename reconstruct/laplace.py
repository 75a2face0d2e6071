"""The Laplace equation in the cortical ribbon with boundaries at their true, sub-voxel places.

u = 0 on the pial and 1 on the white surface (Jones, Buchbinder & Aharon 2000). Where a grid line leaves the ribbon
between two voxels, the place of the boundary is read off the level functions and enters the difference formula with its
true distance (Shortley & Weller 1938): the error falls with h^2, where a staircase boundary gives h.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

OUTSIDE, RIBBON, WHITE = 0, 1, 2


def classify(pial: NDArray[np.float32], white: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Voxel classes [X, Y, Z] from the level functions of the two surfaces (negative inside each)."""
    return np.where(white < 0, WHITE, np.where(pial < 0, RIBBON, OUTSIDE)).astype(np.uint8)


def solve(
    pial: NDArray[np.float32],
    white: NDArray[np.float32],
    classes: NDArray[np.uint8] | None = None,
    *,
    tolerance: float = 1e-5,
    max_sweeps: int = 400,
    relaxation: float = 1.6,
) -> tuple[NDArray[np.float32], int]:
    """The depth field u [X, Y, Z] and the number of sweeps.

    Inside the ribbon u solves the Laplace equation. In the voxels next to it u is continued linearly across the
    boundary (above 1 in white matter, below 0 outside), so that level sets near a boundary come out right. Where white
    matter touches the outside without a ribbon between, u crosses 0.5 at the boundary. Elsewhere u is 1 or 0.

    Args:
        pial, white: [X, Y, Z] level functions in any unit, negative inside the pial and the white surface; only their
            sign and their ratio across a boundary count.
        classes: [X, Y, Z] of OUTSIDE, RIBBON, WHITE; from the signs if absent. Where given it overrules the signs; a
            boundary that the signs do not know lies halfway between voxels. The frame must not be ribbon.
        tolerance: the solver stops when no value changes by more than this in a sweep.
    """
    classes = classify(pial, white) if classes is None else classes
    system = System.of(pial, white, classes)
    values, sweeps = system.solved(tolerance, max_sweeps, relaxation)
    fields = np.array(system.strides), pial.ravel(), white.ravel(), classes.ravel()
    u = (fields[-1] == WHITE).astype(np.float32)
    u[system.ribbon] = values
    _continue_across(u, system.ribbon, *fields)
    _touching(u, *fields)
    return u.reshape(classes.shape), sweeps


@dataclass(frozen=True, kw_only=True, eq=False)
class System:
    """The equations u = weight u[neighbour] + fixed of the N ribbon voxels.

    Args:
        ribbon: [N] places in the flattened volume, ascending.
        strides: of the three axes in it.
        neighbour: [N, 6] int32 number of the ribbon voxel on either side along each axis, -1 for a fixed one.
        weight: [N, 6] float32.
        fixed: [N] float32, what fixed neighbours contribute.
        start: [N] float32, u by the ratio of the level functions.
    """

    ribbon: NDArray[np.int64]
    strides: tuple[int, int, int]
    neighbour: NDArray[np.int32]
    weight: NDArray[np.float32]
    fixed: NDArray[np.float32]
    start: NDArray[np.float32]

    @staticmethod
    def of(pial: NDArray[np.float32], white: NDArray[np.float32], classes: NDArray[np.uint8]) -> "System":
        """See `solve` for the arguments, all [X, Y, Z]. Raises ValueError if the ribbon touches the frame."""
        for axis in range(3):
            ends = np.moveaxis(classes, axis, 0)[[0, -1]]
            if (ends == RIBBON).any():
                raise ValueError("the ribbon touches the frame of the volume; pad it by one voxel")
        strides = (classes.shape[1] * classes.shape[2], classes.shape[2], 1)
        ribbon = np.flatnonzero(classes == RIBBON)
        flat = pial.ravel(), white.ravel(), classes.ravel()
        neighbour, weight, fixed = _assemble(ribbon, np.array(strides), *flat)
        inner, outer = np.maximum(-flat[0][ribbon], 1e-3), np.maximum(flat[1][ribbon], 1e-3)
        start = (inner / (inner + outer)).astype(np.float32)
        return System(ribbon=ribbon, strides=strides, neighbour=neighbour, weight=weight, fixed=fixed, start=start)

    def solved(
        self, tolerance: float = 1e-5, max_sweeps: int = 400, relaxation: float = 1.6
    ) -> tuple[NDArray[np.float32], int]:
        """u [N] and the number of sweeps, the last of which changed no value by more than `tolerance`."""
        values = self.start.copy()
        sweeps = _relax(
            values, self.neighbour, self.weight, self.fixed, np.float32(relaxation), tolerance, max_sweeps
        )  # fmt: skip
        return values, sweeps

    def residual(self, values: NDArray[np.float32]) -> float:
        """Norm of what u [N] leaves of its equations, relative to that of their right-hand side."""
        inside = self.neighbour >= 0
        sums = (np.where(inside, values[self.neighbour], 0) * self.weight.astype(np.float64)).sum(1)
        return float(np.linalg.norm(sums + self.fixed - values) / np.linalg.norm(self.fixed))


@njit(cache=True, nogil=True)
def _distance(inside: float, beyond: float) -> float:
    """Share of the grid step from a ribbon voxel to the boundary, from a level function on both sides of it."""
    if inside * beyond < 0:
        share = inside / (inside - beyond)
        return min(max(share, 1e-3), 1.0)
    return 0.5


@njit(cache=True, nogil=True)
def _assemble(ribbon, strides, pial, white, classes):
    count = len(ribbon)
    # Ribbon voxels ascend, and so do their neighbours in one direction: one finger for each finds their numbers.
    finger = np.zeros(6, np.int64)
    neighbour = np.full((count, 6), -1, np.int32)
    weight = np.zeros((count, 6), np.float32)
    fixed = np.zeros(count, np.float32)
    for k in range(count):
        voxel = ribbon[k]
        total = 0.0
        constant = 0.0
        for axis in range(3):
            step = np.empty(2)
            for side in range(2):
                other = voxel + (strides[axis] if side else -strides[axis])
                if classes[other] == RIBBON:
                    step[side] = 1.0
                elif classes[other] == WHITE:
                    step[side] = _distance(white[voxel], white[other])
                else:
                    step[side] = _distance(pial[voxel], pial[other])
            for side in range(2):
                other = voxel + (strides[axis] if side else -strides[axis])
                share = 2.0 / (step[side] * (step[0] + step[1]))
                total += share
                if classes[other] == RIBBON:
                    place = finger[2 * axis + side]
                    while ribbon[place] < other:
                        place += 1
                    finger[2 * axis + side] = place
                    neighbour[k, 2 * axis + side] = place
                    weight[k, 2 * axis + side] = share
                elif classes[other] == WHITE:
                    constant += share
        for side in range(6):
            weight[k, side] /= total
        fixed[k] = constant / total
    return neighbour, weight, fixed


@njit(cache=True, nogil=True)
def _relax(values, neighbour, weight, fixed, relaxation, tolerance, max_sweeps):
    """Gauss-Seidel with over-relaxation, voxels in order: one thread, the same result everywhere."""
    for sweep in range(max_sweeps):
        largest = np.float32(0.0)
        for k in range(values.shape[0]):
            total = fixed[k]
            for side in range(6):
                other = neighbour[k, side]
                if other >= 0:
                    total += weight[k, side] * values[other]
            change = relaxation * (total - values[k])
            values[k] += change
            largest = max(largest, abs(change))
        if largest < tolerance:
            return sweep + 1
    return max_sweeps


@njit(cache=True, nogil=True)
def _continue_across(u, ribbon, strides, pial, white, classes):
    """Fixed voxels next to the ribbon: the mean of the linear continuations from their ribbon neighbours."""
    total = np.zeros(u.shape[0], np.float32)
    count = np.zeros(u.shape[0], np.uint8)
    for voxel in ribbon:
        for side in range(6):
            other = voxel + (strides[side // 2] if side % 2 else -strides[side // 2])
            if classes[other] == RIBBON:
                continue
            if classes[other] == WHITE:
                share = max(_distance(white[voxel], white[other]), 0.25)
                value = u[voxel] + (1 - u[voxel]) / share
            else:
                share = max(_distance(pial[voxel], pial[other]), 0.25)
                value = u[voxel] - u[voxel] / share
            total[other] += value
            count[other] += 1
    for other in range(u.shape[0]):
        if count[other] > 0:
            u[other] = total[other] / count[other]


@njit(cache=True, nogil=True)
def _touching(u, strides, pial, white, classes):
    """White matter that touches the outside: u crosses 0.5 at the boundary, on the scale of a voxel."""
    old = u.copy()
    size = u.shape[0]
    for voxel in range(size):
        if classes[voxel] == RIBBON:
            continue
        beside = 0
        nearest = 1.0
        for side in range(6):
            other = voxel + (strides[side // 2] if side % 2 else -strides[side // 2])
            if 0 <= other < size and classes[other] != RIBBON and classes[other] != classes[voxel]:
                beside += 1
                white_side, outside = (voxel, other) if classes[voxel] == WHITE else (other, voxel)
                share = _distance(white[white_side], pial[outside])
                nearest = min(nearest, share if classes[voxel] == WHITE else 1 - share)
        if beside:
            offset = max(nearest, 0.02)
            u[voxel] = 0.5 + 0.5 * offset if classes[voxel] == WHITE else 0.5 - 0.5 * offset
            if (classes[voxel] == WHITE) != (old[voxel] > 0.5):
                u[voxel] = old[voxel]

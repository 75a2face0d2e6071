"""Minimising over maps onto the unit sphere without ever folding a triangle."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import SuperLU, splu

from meshgnn.registration.locate import Faces, Floats, unit


class Objective(Protocol):
    """What is minimised, as a function of unit vectors [N, 3]."""

    def __call__(self, x: Floats) -> tuple[float, Floats]:
        """Value (infinite where a triangle folds) and gradient [N, 3]."""
        ...

    def stiffness(self, x: Floats) -> Floats:
        """[F] weight of each triangle in the Laplacian that stands for the second derivative."""
        ...

    def pull(self, x: Floats) -> Floats:
        """[N] what is added to its diagonal."""
        ...


class Laplacian:
    """Cotangent Laplacians of a triangulation with varying weights per face; edges with obtuse sides count as flat."""

    def __init__(self, points: Floats, faces: Faces) -> None:
        self.faces, self.count = faces, len(points)
        cotangents = []
        for corner in range(3):
            i, j, k = (points[faces[:, (corner + shift) % 3]] for shift in range(3))
            u, v = j - i, k - i
            cross = np.cross(u, v)
            area = np.sqrt((cross * cross).sum(1))
            cotangents.append(np.clip(0.5 * (u * v).sum(1) / np.maximum(area, 1e-12), 0.02, 20.0))
        self.cotangents = np.stack(cotangents)

    def weights(self, face_weights: Floats | float = 1.0) -> sparse.csr_array:
        """Symmetric edge weights [N, N], all positive."""
        f = self.faces
        rows = np.concatenate([f[:, (corner + 1) % 3] for corner in range(3)])
        columns = np.concatenate([f[:, (corner + 2) % 3] for corner in range(3)])
        values = (self.cotangents * face_weights).ravel()
        half = sparse.csr_array((values, (rows, columns)), shape=(self.count, self.count))
        return sparse.csr_array(half + half.T)

    def factor(self, face_weights: Floats | float, diagonal: Floats | float) -> SuperLU:
        """Factors of the weighted Laplacian plus a diagonal (and a ten-thousandth of its own: it must be regular)."""
        weights = self.weights(face_weights)
        own = np.asarray(weights.sum(axis=1)).ravel()
        return factors(sparse.csc_array(sparse.diags_array(own * (1 + 1e-4) + diagonal) - weights))


def factors(matrix: sparse.csc_array) -> SuperLU:
    """LU factors of a symmetric positive definite matrix."""
    return splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})


def minimise(
    objective: Objective,
    start: Floats,
    laplacian: Laplacian,
    *,
    steps: int,
    enough: float = 1e-5,
    told: Callable[[int, float], None] = lambda step, value: None,
) -> Floats:
    """Unit vectors [N, 3] of lower value, from `start`, whose value must be finite.

    Limited-memory quasi-Newton steps (Nocedal 1980) along the sphere, preconditioned by a Laplacian whose face weights
    follow the objective; every step lowers the value (Armijo's rule), so no triangle ever folds.

    Args:
        steps: at most.
        enough: stop when three steps on end lower the value by less than this share each.
        told: called with the number of the step and the value.
    """
    x = start
    value, gradient = objective(x)
    gradient = _along(x, gradient)
    solver, pairs, age, size, idle = None, [], 0, 1.0, 0  # type: ignore[var-annotated]
    for step in range(steps):
        fresh = solver is None or age >= 10 or size < 1e-2
        if fresh:
            solver, pairs, age = laplacian.factor(objective.stiffness(x), objective.pull(x)), [], 0
        age += 1
        direction = -_along(x, _two_loops(gradient, pairs, solver))
        slope = _dot(direction, gradient)
        if slope >= 0:
            break
        longest = float(np.sqrt((direction * direction).sum(1).max()))
        size = min(1.0, 0.5 / max(longest, 1e-300))
        while True:
            there = unit(x + size * direction)
            new, steepness = objective(there)
            if new <= value + 1e-4 * size * slope:
                break
            size /= 2
            if size < 1e-9:
                break
        if size < 1e-9:
            if fresh:
                break
            continue  # the preconditioner is out of date
        steepness = _along(there, steepness)
        moved, changed = _along(there, there - x), steepness - _along(there, gradient)
        if _dot(moved, changed) > 1e-14 * np.sqrt(_dot(moved, moved) * _dot(changed, changed)):
            pairs = [*pairs[-7:], (moved, changed)]
        idle = idle + 1 if value - new < enough * abs(value) else 0
        x, value, gradient = there, new, steepness
        told(step, value)
        if idle == 3:
            break
    return x


def _two_loops(gradient: Floats, pairs: list[tuple[Floats, Floats]], solver: SuperLU) -> Floats:
    q, kept = gradient.copy(), []
    for moved, changed in reversed(pairs):
        scale = 1 / _dot(moved, changed)
        share = scale * _dot(moved, q)
        kept.append((share, scale))
        q -= share * changed
    q = solver.solve(q)
    for (share, scale), (moved, changed) in zip(reversed(kept), pairs):
        q += (share - scale * _dot(changed, q)) * moved
    return np.asarray(q)


def _along(x: Floats, vectors: Floats) -> Floats:
    """The part of vectors that is tangent to the sphere."""
    return np.asarray(vectors - (vectors * x).sum(1, keepdims=True) * x)


def _dot(a: Floats, b: Floats) -> float:
    return float((a * b).sum())  # numpy adds in a fixed order, whereas BLAS may not

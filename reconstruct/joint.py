"""Where all sections of a stack lie, found at once: by their neighbours, and by how steadily they were laid on glass.

The correction c_k of section k (shift, turn, stretch; in mm) takes it from its place on the glass to where it belongs.
Two things are known of it. It should lie where the line between its neighbours leads, c_k - sum_j w_kj c_j = t_k, but
for an error of its own, since anatomy does not run in lines. And sections are laid on glass in much the same way: c_k
is small. With normal errors the most probable corrections solve one linear system,

    minimise  sum_k v_k |c_k - sum_j w_kj c_j - t_k|^2_{W_k} / s^2  +  sum_k |c_k|^2 / g^2,

in which W_k says which directions the outlines of section k can tell. How far the one is believed against the other is
not set but estimated: g (of shifts, turns and stretches apart) and s are those under which the stack is most probable
(expectation maximisation over variance components; Dempster et al. 1977), and v are the weights of Student's t with
four degrees of freedom (Lange et al. 1989), so that gaps, tears and sections out of order count little. What varies
slowly along the stack stays as it lay on the glass, the more so the steadier the hand was: images alone cannot tell it
from anatomy (the banana problem; Malandain et al. 2004).
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve_banded, cholesky_banded

from reconstruct.poses import compose, relative

Floats = NDArray[np.float64]

RADIUS_MM = 40.0
"""Turns and stretches count as the way of a point that lies so far from the middle."""
# An update of `poses` [6] per correction: shift in row and column, turn; two stretches and a shear.
_RIGID = np.array([[1, 0, 0], [0, 0, 0], [0, 0, -1], [0, 1, 0], [0, 0, 1], [0, 0, 0]], float)
_STRETCH = np.array([[0, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 1], [1, -1, 0]], float)
_SCALE = np.array([1, 1, *[1 / RADIUS_MM] * 4])
_KINDS = np.array([0, 0, 1, 2, 2, 2])
_START_MM = np.array([1.0, 1.0, 0.2])
_GLASS, _LINE = (0.02**2, 100.0**2), (0.01**2, 3.0**2)  # bounds of variances in mm^2
_FREEDOM = 4.0
_ONE_SIDED = 0.05  # what the first and the last section know, of what the others know


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Standard deviations in mm, as estimated.

    Args:
        glass_mm: of places on the glass: shift per direction, turn and, if asked, stretch (the way at RADIUS_MM).
        line_mm: of a section about the line between its neighbours.
    """

    glass_mm: tuple[float, ...]
    line_mm: float


class Joint:
    """Corrections of N sections, P numbers each.

    Args:
        start: [N, 2, 3] matrices of the places on the glass (see `Alignment.to_section`).
        position: [N] along the cutting axis, ascending.
        stretch: sections are stretched and sheared too (P = 6), not only shifted and turned (P = 3).
        like: estimates to begin with.

    Attributes:
        unsure_mm: [N] standard deviation of where each section lies (shift and turn), once solved.
    """

    def __init__(self, start: Floats, position: Floats, *, stretch: bool, like: Spread | None = None) -> None:
        self.start = start
        self.size = 6 if stretch else 3
        self.basis = (np.column_stack([_RIGID, _STRETCH]) * _SCALE)[:, : self.size]
        self.back = np.linalg.pinv(self.basis)
        self.weights = between_neighbours(position)
        gap = np.array([np.abs(position - position[k])[row > 0].mean() for k, row in enumerate(self.weights)])
        sides = np.where((self.weights > 0).sum(1) > 1, 1.0, _ONE_SIDED)
        self.trust = sides * np.median(gap) / gap  # an error grows with the way to the neighbours
        self.kinds = _KINDS[: self.size]
        self.glass = _START_MM[: self.kinds.max() + 1] ** 2
        self.line = 0.1**2
        self.unsure_mm = np.zeros(len(start))
        if like is not None:
            self.glass[: len(like.glass_mm)] = np.square(like.glass_mm)
            self.line = like.line_mm**2

    @property
    def spread(self) -> Spread:
        return Spread(glass_mm=tuple(np.sqrt(self.glass).tolist()), line_mm=float(np.sqrt(self.line)))

    def step(self, h: Floats, b: Floats) -> tuple[Floats, Floats]:
        """The move [P] that meets a prediction best, and what is known of it [P, P], from `poses.normal_equations`."""
        known = self.basis.T @ h @ self.basis
        return np.linalg.solve(known + 1e-6 * max(np.trace(known), 1.0) * np.eye(self.size), self.basis.T @ b), known

    def between(self, one: Floats, other: Floats) -> Floats:
        """The move [P] from a matrix to another."""
        return np.asarray(self.back @ relative(one, other), np.float64)

    def moved(self, matrix: Floats, move: Floats) -> Floats:
        """A matrix [2, 3] after a move [P] of the common frame."""
        return compose(matrix, self.basis @ move)

    def solve(self, matrices: Floats, moves: Floats, known: Floats, rounds: int = 4) -> Floats:
        """Matrices [N, 2, 3] after the most probable corrections; the estimates stay for the next call.

        Args:
            matrices: of now.
            moves: [N, P] that take each section alone to what its neighbours of now predict.
            known: [N, P, P] of those moves; only their proportions count.
            rounds: of expectation maximisation.
        """
        count, size = len(matrices), self.size
        now = np.stack([self.between(a, b) for a, b in zip(self.start, matrices)])
        target = moves + now - self.weights @ now
        usual = float(np.median(np.trace(known[:, :3, :3], axis1=1, axis2=2))) / 3
        information = known * (self.trust / max(usual, 1e-12))[:, None, None]
        usable = np.ones(count)
        found = now
        for _ in range(rounds):
            weighted = information * (usable / self.line)[:, None, None]
            band, right = self._system(weighted, target)
            try:
                factor = cholesky_banded(band, lower=True)
            except LinAlgError:  # pragma: no cover - the glass keeps it regular
                break
            found = cho_solve_banded((factor, True), right).reshape(count, size)
            unsure = _band_inverse(factor)
            off = found - self.weights @ found - target
            squares = np.einsum("kp,kpq,kq->k", off, information, off)
            unsure_line = np.array([np.trace(information[k] @ self._unsure(unsure, k)) for k in range(count)])
            self.line = float(np.clip((usable * (squares + unsure_line)).mean() / size, *_LINE))
            own = unsure[0].reshape(count, size)
            self.unsure_mm = np.sqrt(own[:, :3].sum(1))
            for kind in range(len(self.glass)):
                of_kind = self.kinds == kind
                self.glass[kind] = np.clip((found[:, of_kind] ** 2 + own[:, of_kind]).mean(), *_GLASS)
            usable = (_FREEDOM + size) / (_FREEDOM + squares / self.line)
        return np.stack([self.moved(matrix, change) for matrix, change in zip(matrices, found - now)])

    def _row(self, k: int) -> list[tuple[int, float]]:
        """Sections in the equation of section k with their factors."""
        others = np.flatnonzero(self.weights[k])
        return sorted([(k, 1.0), *((int(j), -float(self.weights[k, j])) for j in others)])

    def _system(self, weighted: Floats, target: Floats) -> tuple[Floats, Floats]:
        """Lower bands [3 P, N P] and right side [N P] of the normal equations."""
        count, size = target.shape
        band, right = np.zeros((3 * size, count * size)), np.zeros(count * size)
        places = np.arange(size)
        for k in range(count):
            row, told = self._row(k), weighted[k] @ target[k]
            for i, one in row:
                right[i * size : (i + 1) * size] += one * told
                for j, other in row:
                    if i >= j:
                        down = (i - j) * size + places[:, None] - places
                        across = np.broadcast_to(j * size + places, (size, size))
                        low = down >= 0
                        np.add.at(band, (down[low], across[low]), one * other * weighted[k][low])
        band[0] += np.tile(1 / self.glass[self.kinds], count)
        return band, right

    def _unsure(self, unsure: Floats, k: int) -> Floats:
        """[P, P] covariance of what the equation of section k says, from the bands of the inverse."""
        size, total = self.size, np.zeros((self.size, self.size))
        for i, one in self._row(k):
            for j, other in self._row(k):
                rows, columns = i * size + np.arange(size)[:, None], j * size + np.arange(size)
                total += one * other * unsure[np.abs(rows - columns), np.minimum(rows, columns)]
        return total


def between_neighbours(position: Floats) -> Floats:
    """[N, N] weights of the line through the neighbours on both sides at each section; of the only one at the ends."""
    count = len(position)
    weights = np.zeros((count, count))
    for k in range(1, count - 1):
        share = (position[k] - position[k - 1]) / (position[k + 1] - position[k - 1])
        weights[k, k - 1], weights[k, k + 1] = 1 - share, share
    weights[0, 1] = weights[-1, -2] = 1
    return weights


@njit(cache=True, nogil=True)
def _band_inverse(factor: Floats) -> Floats:
    """Bands [B, n] of the inverse of a symmetric matrix within the bands [B, n] of its Cholesky factor.

    Element (j + d, j) stands at [d, j]. The recursion of Takahashi et al. (1973), from the last row up.
    """
    width, count = factor.shape
    inverse = np.zeros((width, count))
    for i in range(count - 1, -1, -1):
        last = min(i + width - 1, count - 1)
        for j in range(last, i - 1, -1):
            total = 1.0 / factor[0, i] if i == j else 0.0
            for k in range(i + 1, last + 1):
                low, high = min(k, j), max(k, j)
                total -= factor[k - i, i] * inverse[high - low, low]
            inverse[j - i, i] = total / factor[0, i]
    return inverse

"""Where all sections of a stack lie, found at once: by their neighbours, and by how steadily they were laid on glass.

The correction c_k of section k (shift, turn, stretch; in mm) takes it from its place on the glass to where it belongs.
Two things are known of it. It should lie where the line between its neighbours leads, c_k - sum_j w_kj c_j = t_k, but
for an error of its own, since anatomy does not run in lines. And sections are laid on glass in much the same way: c_k
is small. With normal errors the most probable corrections solve one linear system,

    minimise  sum_k v_k |c_k - sum_j w_kj c_j - t_k|^2_{W_k} / s^2  +  sum_k |c_k|^2 / g^2
              [ + sum_k z_k |c_k - r_k|^2_{Z_k} / q^2 ],

the last where a reference volume says where it thinks section k to lie (r_k). W_k says which directions the outlines of
section k can tell. How far the one is believed against the other is not set but estimated: g (of shifts, turns and
stretches apart), s and q are those under which the stack is most probable (expectation maximisation over variance
components; Dempster et al. 1977), and v and z are the weights of Student's t with four degrees of freedom (Lange et al.
1989), so that gaps, tears and sections out of order count little. What varies slowly along the stack stays as it lay
on the glass, the more so the steadier the hand was: images alone cannot tell it from anatomy (the banana problem;
Malandain et al. 2004).
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve_banded, cholesky_banded

from reconstruct.frames import Frames
from reconstruct.poses import RIGID, compose, normal_equations, relative

Floats = NDArray[np.float64]

RADIUS_MM = 40.0
"""Turns and stretches count as the way of a point that lies so far from the middle."""
# An update of `poses` [6] per correction: shift in row and column, turn; two stretches and a shear.
_STRETCH = np.array([[0, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 1], [1, -1, 0]], float)
_SCALE = np.array([1, 1, *[1 / RADIUS_MM] * 4])
_KINDS = np.array([0, 0, 1, 2, 2, 2])
_START_MM = np.array([1.0, 1.0, 0.2])
_GLASS, _LINE = (0.02**2, 100.0**2), (0.01**2, 3.0**2)  # bounds of variances in mm^2
FREEDOM = 4.0
"""Of Student's t."""
_ONE_SIDED = 0.05  # what the first and the last section know, of what the others know


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Standard deviations in mm, as estimated.

    Args:
        glass_mm: of places on the glass: shift per direction, turn and, if asked, stretch (the way at RADIUS_MM).
        line_mm: of a section about the line between its neighbours.
        reference_mm: of a section about its cut through a reference volume.
    """

    glass_mm: tuple[float, ...]
    line_mm: float
    reference_mm: float = 0.3


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
        self.basis = (np.column_stack([RIGID, _STRETCH]) * _SCALE)[:, : self.size]
        self.back = np.linalg.pinv(self.basis)
        self.weights = between_neighbours(position)
        self.trust = trusted(position, self.weights)
        self.kinds = _KINDS[: self.size]
        self.glass = _START_MM[: self.kinds.max() + 1] ** 2
        self.line, self.reference = 0.1**2, 0.3**2
        self.unsure_mm = np.zeros(len(start))
        if like is not None:
            self.glass[: len(like.glass_mm)] = np.square(like.glass_mm)
            self.line, self.reference = like.line_mm**2, like.reference_mm**2

    @property
    def spread(self) -> Spread:
        return Spread(
            glass_mm=tuple(np.sqrt(self.glass).tolist()), line_mm=float(np.sqrt(self.line)),
            reference_mm=float(np.sqrt(self.reference)),
        )  # fmt: skip

    def towards(
        self, reference: NDArray[np.float32], work: Frames, k: int, matrix: Floats, scale: float
    ) -> tuple[Floats, Floats]:
        """A matrix that brings section k nearer to a reference, and what is known of it [P, P]: two Gauss-Newton steps.

        Args:
            reference: [C, h, w] what the section should look like in the common frame.
            work: the sections.
            k, matrix: which of them, and where it lies.
            scale: differences of this size count half.
        """
        for _ in range(2):
            h, b = normal_equations(reference, work.images[k], matrix, work.offset[k], work.step, work.half, scale)
            known = self.basis.T @ h @ self.basis
            steady = known + 1e-6 * max(np.trace(known), 1.0) * np.eye(self.size)
            matrix = self.moved(matrix, np.linalg.solve(steady, self.basis.T @ b))
        return matrix, known

    def between(self, one: Floats, other: Floats) -> Floats:
        """The move [P] from a matrix to another."""
        return np.asarray(self.back @ relative(one, other), np.float64)

    def moved(self, matrix: Floats, move: Floats) -> Floats:
        """A matrix [2, 3] after a move [P] of the common frame."""
        return compose(matrix, self.basis @ move)

    def now_of(self, matrices: Floats) -> Floats:
        """Corrections [N, P] that took the sections from the glass to where they are."""
        return np.stack([self.between(a, b) for a, b in zip(self.start, matrices)])

    def solve(
        self, matrices: Floats, moves: Floats, known: Floats, cuts: tuple[Floats, Floats] | None = None, rounds: int = 4
    ) -> Floats:
        """Matrices [N, 2, 3] after the most probable corrections; the estimates stay for the next call.

        Args:
            matrices: of now.
            moves: [N, P] that take each section alone to what its neighbours of now predict.
            known: [N, P, P] of those moves; only their proportions count.
            cuts: moves and what is known of them, to the cuts through a reference volume.
            rounds: of expectation maximisation.
        """
        count, size = len(matrices), self.size
        now = self.now_of(matrices)
        target = moves + now - self.weights @ now
        usual = float(np.median(np.trace(known[:, :3, :3], axis1=1, axis2=2))) / 3
        information = known * (self.trust / max(usual, 1e-12))[:, None, None]
        usable, usable_cut = np.ones(count), np.ones(count)
        found = now
        place, told = (now + cuts[0], cuts[1] / max(usual, 1e-12)) if cuts is not None else (now, 0 * known)
        for _ in range(rounds):
            weighted = information * (usable / self.line)[:, None, None]
            band, right = self._system(weighted, target, told * (usable_cut / self.reference)[:, None, None], place)
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
            usable = (FREEDOM + size) / (FREEDOM + squares / self.line)
            if cuts is not None:
                off = found - place
                squares = np.einsum("kp,kpq,kq->k", off, told, off)
                left = np.array([np.trace(told[k] @ self._block(unsure, k, k)) for k in range(count)])
                self.reference = float(np.clip((usable_cut * (squares + left)).mean() / size, *_LINE))
                usable_cut = (FREEDOM + size) / (FREEDOM + squares / self.reference)
        if cuts is not None:  # the volume is fitted to the stack, not the stack as a whole to the volume
            found = found - found.mean(0)
        return np.stack([self.moved(matrix, change) for matrix, change in zip(matrices, found - now)])

    def _row(self, k: int) -> list[tuple[int, float]]:
        """Sections in the equation of section k with their factors."""
        others = np.flatnonzero(self.weights[k])
        return sorted([(k, 1.0), *((int(j), -float(self.weights[k, j])) for j in others)])

    def _system(self, weighted: Floats, target: Floats, cut: Floats, place: Floats) -> tuple[Floats, Floats]:
        """Lower bands [3 P, N P] and right side [N P] of the normal equations."""
        count, size = target.shape
        band, right = np.zeros((3 * size, count * size)), np.zeros(count * size)
        for k in range(count):
            row, told = self._row(k), weighted[k] @ target[k]
            for i, one in row:
                right[i * size : (i + 1) * size] += one * told
                for j, other in row:
                    if i >= j:
                        _add(band, i, j, one * other * weighted[k])
            _add(band, k, k, cut[k])
            right[k * size : (k + 1) * size] += cut[k] @ place[k]
        band[0] += np.tile(1 / self.glass[self.kinds], count)
        return band, right

    def _unsure(self, unsure: Floats, k: int) -> Floats:
        """[P, P] covariance of what the equation of section k says, from the bands of the inverse."""
        total = np.zeros((self.size, self.size))
        for i, one in self._row(k):
            for j, other in self._row(k):
                total += one * other * self._block(unsure, i, j)
        return total

    def _block(self, unsure: Floats, i: int, j: int) -> Floats:
        """[P, P] covariance of sections i and j, from the bands of the inverse."""
        rows, columns = i * self.size + np.arange(self.size)[:, None], j * self.size + np.arange(self.size)
        return np.asarray(unsure[np.abs(rows - columns), np.minimum(rows, columns)])


def _add(band: Floats, i: int, j: int, block: Floats) -> None:
    """Add a block [P, P] at (i, j) of a symmetric matrix that is kept as lower bands; i is not below j."""
    places = np.arange(len(block))
    down = (i - j) * len(block) + places[:, None] - places
    across = np.broadcast_to(j * len(block) + places, block.shape)
    low = down >= 0
    np.add.at(band, (down[low], across[low]), block[low])


def between_neighbours(position: Floats) -> Floats:
    """[N, N] weights of the line through the neighbours on both sides at each section; of the only one at the ends."""
    count = len(position)
    weights = np.zeros((count, count))
    for k in range(1, count - 1):
        share = (position[k] - position[k - 1]) / (position[k + 1] - position[k - 1])
        weights[k, k - 1], weights[k, k + 1] = 1 - share, share
    weights[0, 1] = weights[-1, -2] = 1
    return weights


def trusted(position: Floats, weights: Floats) -> Floats:
    """[N] how far the line between neighbours is believed: an error grows with the way to them."""
    gap = np.array([np.abs(position - position[k])[row > 0].mean() for k, row in enumerate(weights)])
    sides = np.where((weights > 0).sum(1) > 1, 1.0, _ONE_SIDED)
    return np.asarray(sides * np.median(gap) / gap)


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

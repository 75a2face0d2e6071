"""Step: what every section's tissue did on the glass beside being shifted, turned and stretched.

Thin wet tissue bends when it is laid on glass. As in the alignment before it, all sections are unknowns of one problem
(`reconstruct.joint`): the bend b_k of section k, a B-spline of the plane (Rueckert et al. 1999), should lead where the
line between its neighbours leads, but for an error of its own, and bends are small,

    minimise  sum_k |b_k - sum_j w_kj b_j - t_k|^2_{H_k} / s^2  +  sum_k |b_k|^2 / g^2
              [ + sum_k |b_k - r_k|^2_{Z_k} / q^2 ].

H_k is what the outlines of section k tell (Gauss-Newton), t_k where they want to go, r_k where a reference volume wants
them. What goes on slowly along the stack stays as it lies, since it may be anatomy. How far each term is believed is
estimated by expectation maximisation; traces of the inverse by random signs (Hutchinson 1990).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import BSpline
from scipy.sparse.linalg import LinearOperator, cg

from meshgnn import config
from meshgnn.errors import SettingError
from meshgnn.progress import Progress, silent
from meshgnn.source.bend import Bend
from reconstruct.frames import Frames
from reconstruct.joint import FREEDOM, between_neighbours, trusted
from reconstruct.records import Alignment, TissueStack
from reconstruct.species import AS_SPECIES, BySpecies, settled
from reconstruct.steps.align import AlignSections, frames_of, shifted
from reconstruct.steps.reference import read_reference

Floats = NDArray[np.float64]

_BLOCK = 3  # pixels whose equations are joined: bends hardly differ within
_LEAST = 0.05  # of the usual information: a knot that is told less lies outside of tissue
_STEEPEST = 0.4  # knots over their spacing, below which a cubic B-spline cannot fold (Choi & Lee 2000)
_BOUNDS = (0.01**2, 3.0**2)  # of variances in mm^2
_PROBES = 2
_COMMON_MM = 12.0


class SmoothSections:
    """TissueStack + Alignment -> Alignment with bends."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            rounds: 0 leaves the step out; None = 2 with a reference volume and 0 without one: neighbours alone tell
                little of bends (docs/benchmarks.md).
            spacing_mm: between the knots of a bend.
        """

        rounds: int | None = None
        spacing_mm: BySpecies = AS_SPECIES

        def __post_init__(self) -> None:
            if (self.rounds or 0) < 0 or (self.spacing_mm is not None and not self.spacing_mm > 0):
                raise SettingError("<rounds> must not be negative, and <spacing_mm> above 0")

        def build(self) -> "SmoothSections":
            return SmoothSections(self)

        def rounds_of(self, align: AlignSections.Config) -> int:
            """How many rounds there are after such an alignment."""
            return self.rounds if self.rounds is not None else 2 * bool(align.reference.named)

    def __init__(self, settings: Config) -> None:
        self.settings = settled(settings, "smooth")

    def __call__(
        self, stack: TissueStack, alignment: Alignment, align: AlignSections.Config, progress: Progress = silent,
        plane: str = "coronal",
    ) -> Alignment:  # fmt: skip
        """The alignment with bends.

        Args:
            align: says how images are compared, and names the reference volume if there is one.
        """
        set_, align = self.settings, settled(align, "align")
        reference = None if not align.reference.named else read_reference(align.reference, plane, align.reach_mm)
        work = frames_of(stack, align.pixel_mm, align.reach_mm, align.workers)
        middle = alignment.frame_mm.mean(0) if len(alignment.frame_mm) else np.zeros(2)
        matrices = shifted(alignment.to_section, middle)
        bends = Bends(work, matrices, set_.spacing_mm)
        rounds = set_.rounds_of(align)
        for number in range(rounds):
            moved = bends.sample()
            if reference is not None and number % 2 == 0:
                reference = reference.told_by(work, moved)
                cuts, _ = reference.cuts(work, moved)
            bends.improve(moved, align.reach_mm / 3, cuts if reference is not None else None)
            progress("smooth", number + 1, rounds)
        return replace(
            alignment, knots=bends.knots.astype(np.float32), knots_corner_mm=bends.corner_mm + middle,
            knots_spacing_mm=float(set_.spacing_mm), bend_mm=float(np.sqrt(bends.glass)),
        )  # fmt: skip


class Bends:
    """Bends of N sections, R x C knots each.

    Args:
        work: the sections.
        matrices: [N, 2, 3] where they lie (see `Alignment.to_section`).
        spacing_mm: between knots.

    Attributes:
        knots: [N, 2, R, C] in mm.
        glass, line, reference: variances in mm^2, as estimated: of knots, of a section about its neighbours, and about
            its cut through a reference volume.
    """

    def __init__(self, work: Frames, matrices: Floats, spacing_mm: float) -> None:
        self.work, self.matrices, self.spacing_mm = work, matrices, spacing_mm
        corners: Floats = work.grid[[0, -1], [0, -1]]
        low, high = corners
        count = np.ceil((high - low) / spacing_mm).astype(int) + 3
        self.corner_mm: Floats = (low + high) / 2 - (count - 1) / 2 * spacing_mm
        self.knots = np.zeros((len(matrices), 2, *count))
        self.down, self.across = (
            _basis(places, self.corner_mm[axis], spacing_mm, count[axis])
            for axis, places in enumerate((work.grid[:, 0, 0], work.grid[0, :, 1]))
        )
        self.weights = between_neighbours(work.position)
        self.trust = trusted(work.position, self.weights)
        self.glass, self.line, self.reference = 0.15**2, 0.2**2, 0.1**2

    def sample(self) -> NDArray[np.float32]:
        """The images [N, 2, h, w] as they lie in the common frame."""
        out = np.empty_like(self.work.images)

        def one(k: int) -> None:
            bend = Bend(knots=self.knots[k], corner_mm=self.corner_mm, spacing_mm=self.spacing_mm)
            at = (self.work.grid + bend.at(self.work.grid)) @ self.matrices[k, :, :2].T + self.matrices[k, :, 2]
            places = np.moveaxis((at - self.work.offset[k]) / self.work.step, -1, 0)
            for channel, image in enumerate(self.work.images[k]):
                ndimage.map_coordinates(image, places, out[k, channel], order=1, mode="nearest")

        with ThreadPoolExecutor(max(1, self.work.workers)) as pool:
            list(pool.map(one, range(len(out))))
        return out

    def improve(
        self, moved: NDArray[np.float32], scale: float, cuts: NDArray[np.float32] | None, rounds: int = 3
    ) -> None:
        """The most probable bends, as far as one linearisation tells.

        Args:
            moved: [N, 2, h, w] the sections as they lie now.
            scale: differences of this size count half.
            cuts: [N, 2, h, w] a reference volume where the sections lie.
            rounds: of expectation maximisation.
        """
        now, beside = self.knots, self._beside
        near = self.weights > 0
        wanted = np.empty_like(moved)
        for k in range(len(moved)):
            wanted[k] = np.tensordot(self.weights[k, near[k]].astype(np.float32), moved[near[k]], axes=1)
        told = _Told(self, moved, wanted, scale)
        if not told.share.any():  # no outlines, or none that differ
            return
        target = beside(now) + told.move
        more = None if cuts is None else _Told(self, moved, cuts, scale)
        place = now if more is None else self._unmoved(now + more.move, more.share)
        trust = self.trust[:, None, None, None]
        inside = told.share > _LEAST if more is None else np.maximum(told.share, more.share) > _LEAST
        usable, usable_cut, found = np.ones_like(now), np.ones_like(now), now
        signs = np.sign(np.random.default_rng(0).standard_normal((_PROBES, *now.shape)))
        for _ in range(rounds):
            level, level_cut = np.sqrt(trust * usable / self.line), np.sqrt(usable_cut / self.reference)

            def system(x: Floats, level: Floats = level, level_cut: Floats = level_cut) -> Floats:
                out = self._beside_back(level * told(level * beside(x))) + x / self.glass
                return out if more is None else out + level_cut * more(level_cut * x)

            diagonal = level**2 * told.share + 1 / self.glass + (0 if more is None else level_cut**2 * more.share)
            right = self._beside_back(level * told(level * target))
            right = right if more is None else right + level_cut * more(level_cut * place)
            found = _solved(system, right, diagonal, found)
            probes = [(sign, _solved(system, sign, diagonal)) for sign in signs]
            own = np.mean([sign * probe for sign, probe in probes], axis=0)
            self.glass = _within((found**2 + own)[inside].mean())
            pairs = [(beside(sign), beside(probe)) for sign, probe in probes]
            self.line, usable = _noise(told, beside(found) - target, trust, usable, pairs, self.line)
            if more is not None:
                whole = np.ones_like(trust)
                self.reference, usable_cut = _noise(more, found - place, whole, usable_cut, probes, self.reference)
        steepest = _STEEPEST * self.spacing_mm
        self.knots = np.clip(found, -steepest, steepest)

    def _unmoved(self, x: Floats, share: Floats) -> Floats:
        """Bends [N, 2, R, C] without what near sections have in common: there the volume shows something else."""
        position = self.work.position
        near = np.exp(-0.5 * ((position[:, None] - position) / _COMMON_MM) ** 2)
        common = np.tensordot(near, share * x, axes=1) / np.maximum(np.tensordot(near, share, axes=1), 1e-9)
        return x - common

    def _beside(self, x: Floats) -> Floats:
        """[N, ...] what every section has beyond the line between its neighbours."""
        return x - np.tensordot(self.weights, x, axes=1)

    def _beside_back(self, x: Floats) -> Floats:
        return x - np.tensordot(self.weights.T, x, axes=1)


class _Told:
    """What differences of images tell about bends: x -> H x, with H as large for the usual knot as 1.

    Attributes:
        move: [N, 2, R, C] where the images want to go.
        share: [N, 2, R, C] the diagonal of H.
        freedom: [N] how many numbers each section's images tell.
    """

    def __init__(self, bends: Bends, moved: NDArray[np.float32], wanted: NDArray[np.float32], scale: float) -> None:
        step, block = bends.work.step, _BLOCK
        self.down, self.across = (_blocks(one.T, block).T / block for one in (bends.down, bends.across))
        tensor, force = [], []
        for one, other in zip(moved, wanted):
            slope = np.stack(np.gradient(one, step, axis=(1, 2)))  # [2, channel, h, w]
            residual = other - one
            weight = 1 / (1 + (residual / scale) ** 2) ** 2
            parts = [(weight * slope[a] * slope[b]).sum(0) for a, b in ((0, 0), (0, 1), (1, 1))]
            tensor.append([_blocks(part, block, both=True) for part in parts])
            force.append([_blocks((weight * slope[a] * residual).sum(0), block, both=True) for a in range(2)])
        self.tensor = np.array(tensor, np.float64)  # [N, 3, h', w']
        squares = (self.down**2).T, self.across**2
        self.share = squares[0] @ self.tensor[:, ::2] @ squares[1]
        usual = float(np.median(self.share[self.share > 0.05 * self.share.max()], axis=None)) if self.share.any() else 1
        self.tensor /= usual
        self.share /= usual
        self.freedom = (self.share / (self.share + 0.1)).sum((1, 2, 3)) + 1e-9
        pull = self.down.T @ np.array(force, np.float64) @ self.across / usual
        self.move = _solved(lambda x: self(x) + 0.02 * x, pull, self.share + 0.02)

    def __call__(self, x: Floats) -> Floats:
        field = self.down @ x @ self.across.T
        row = self.tensor[:, 0] * field[:, 0] + self.tensor[:, 1] * field[:, 1]
        column = self.tensor[:, 1] * field[:, 0] + self.tensor[:, 2] * field[:, 1]
        return self.down.T @ np.stack([row, column], axis=1) @ self.across


def _solved(system: Callable[[Floats], Floats], right: Floats, diagonal: Floats, start: Floats | None = None) -> Floats:
    """Conjugate gradients to 1 part in 500: far below what images tell."""
    size, shape = right.size, right.shape
    whole = LinearOperator((size, size), matvec=lambda x: system(x.reshape(shape)).ravel(), dtype=np.float64)
    eased = LinearOperator((size, size), matvec=lambda x: x / diagonal.ravel(), dtype=np.float64)
    first = None if start is None else start.ravel()
    found, _ = cg(whole, right.ravel(), x0=first, rtol=2e-3, maxiter=60, M=eased)
    return np.asarray(found).reshape(shape)


def _basis(places_mm: Floats, corner_mm: float, spacing_mm: float, count: int) -> Floats:
    """[n, count] values of uniform cubic B-splines about knots from `corner_mm` on."""
    bump = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
    away = (places_mm[:, None] - corner_mm) / spacing_mm - np.arange(count)
    return np.nan_to_num(np.asarray(bump(away), np.float64))


def _blocks(image: NDArray[np.floating], block: int, both: bool = False) -> Floats:
    """Sums over blocks of the columns of [h, w], or of both axes; the last block may be smaller."""
    out = np.add.reduceat(np.asarray(image, np.float64), np.arange(0, image.shape[1], block), axis=1)
    return np.add.reduceat(out, np.arange(0, image.shape[0], block), axis=0) if both else out


def _noise(
    told: _Told, off: Floats, trust: Floats, usable: Floats, probes: list[tuple[Floats, Floats]], variance: float
) -> tuple[float, Floats]:
    """Variance of what the images say and how far each knot is believed (Student's t), all [N, 2, R, C].

    Args:
        off: by how much the bends miss it.
        trust, usable: how far sections, and knots up to now, are believed.
        probes: signs and what the inverse of the system makes of them.
        variance: up to now.
    """
    level = np.sqrt(trust * usable)
    left = np.mean([np.sum(level * one * told(level * other)) for one, other in probes])
    found = _within((float(np.sum(level * off * told(level * off))) + left) / told.freedom.sum())
    squares = np.maximum(trust * off * told(off), 0).sum(1, keepdims=True)
    return found, np.broadcast_to((FREEDOM + 2) / (FREEDOM + squares / found), off.shape)


def _within(variance: float) -> float:
    return float(np.clip(variance, *_BOUNDS))

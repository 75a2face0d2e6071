"""Step: how every section came to lie on the glass, and whether it stands at its place in the order.

Mirror image and turn by 180 degrees: four ways to lay a section. Every section is brought rigidly onto the next two in
each of the four ways, and the ways of all sections are chosen together so that neighbours fit best (a chain of second
order, solved exactly by dynamic programming). Most sections lie right: every other one has a small cost. How sure a
choice is: by how much the best chain gets worse in which the section lies in another way (min-marginal). All costs are
logarithms of mean differences: how alike neighbours are, where sections are small or far apart, does not matter.

Images alone cannot tell whether the whole stack is mirrored.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from meshgnn import config
from meshgnn.progress import Progress, silent
from reconstruct.frames import Frames
from reconstruct.poses import compose, normal_equations, solve
from reconstruct.records import Alignment, Mounting, TissueStack
from reconstruct.species import AS_SPECIES, BySpecies, settled
from reconstruct.steps.align import AlignSections, frames_of, shifted

Floats = NDArray[np.float64]
WAYS = np.array([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])  # of (row, column): as is, turned, mirrored, both
_STEPS = 3  # how far apart sections are compared
_DOUBTFUL_DEG = 20.0  # sections are laid on glass better than this
_LOOK = 1.2  # sections with a smaller `oddness` are looked for elsewhere
_LOOK_PAIR = 0.85  # pairs below are taken for exchanged, and not looked for
_MOST = 20  # sections looked for elsewhere
_STILL = 0.02  # of a pixel: a smaller step of Gauss-Newton is the last
_ROUNDS = 10  # of Gauss-Newton
_ODD = 0.05  # cost of a section that lies otherwise: of two chains that fit alike the one with fewer of them


class CheckMounting:
    """TissueStack + Alignment -> Mounting."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            pixel_mm: of the images compared.
            reach_mm: signed distances are cut off at +- this.
            mend: align anew, with what surely lies turned by 180 degrees turned back, where the alignment did not find
                that by itself. (A mirrored section has to be marked in the table: whatever else reads it must know.)
            sure: what is sure, see `Plausible.sure`.
            workers: pairs worked on side by side; the result does not depend on it.
        """

        pixel_mm: BySpecies = AS_SPECIES
        reach_mm: BySpecies = AS_SPECIES
        mend: bool = True
        sure: float = 0.4
        workers: int = 2

        def build(self) -> "CheckMounting":
            return CheckMounting(self)

    def __init__(self, settings: Config) -> None:
        self.settings = settled(settings, "mounting")

    def __call__(self, stack: TissueStack, alignment: Alignment, progress: Progress = silent) -> Mounting:
        """Compare every section with the next three, the next two in all four ways."""
        work = pairs_of(stack, alignment, self.settings.pixel_mm, self.settings.reach_mm)
        count = len(stack.index)
        fit = np.full((count, _STEPS, 4), np.nan)

        def one(k: int) -> None:
            for step in range(1, min(_STEPS, count - 1 - k) + 1):
                for way in range(4 if step < _STEPS else 1):
                    fit[k, step - 1, way] = work.difference(k, k + step, way)

        with ThreadPoolExecutor(max(1, self.settings.workers)) as pool:
            for number, _ in enumerate(pool.map(one, range(count))):
                progress("mounting", number + 1, count)
        way, sure = ways(fit)
        like, gain = np.full(count, -1), np.ones(count)
        apart = corrected(fit, way)
        swapped = np.flatnonzero(exchanged(apart) < _LOOK_PAIR)
        doubtful = np.setdiff1d(np.flatnonzero(oddness(apart) < _LOOK), np.concatenate([swapped, swapped + 1]))[:_MOST]
        for k in doubtful.tolist():
            like[k], gain[k], own, certain = _search(work, k, way, apart)
            if abs(like[k] - k) > 1 and gain[k] > 1:
                way[k], sure[k] = own, certain
        return Mounting(fit=fit, way=way, sure=sure, like=like, gain=gain)


def missed_turns(alignment: Alignment, mounting: Mounting, sure: float) -> tuple[int, ...]:
    """Places of the sections that surely lie turned; none where the alignment has turned just these."""
    turned = (mounting.way & 1 > 0) & (mounting.sure > sure)
    over = np.abs(turns(alignment.to_section)[0]) > 90
    unsure = (mounting.sure <= sure) | (mounting.way & 1 > 0)
    return tuple(np.flatnonzero(turned).tolist()) if (turned & ~over).any() or (over & ~unsure).any() else ()


def realigned(
    align: AlignSections, stack: TissueStack, turned: Sequence[int], plane: str, progress: Progress
) -> Alignment:
    """The alignment of a stack whose sections at the places `turned` are turned by 180 degrees first."""
    outer, white, origin = stack.outer.copy(), stack.white.copy(), stack.origin_mm.copy()
    last = (np.array(outer.shape[1:]) - 1) * stack.pixel_mm
    for k in turned:
        outer[k], white[k] = outer[k, ::-1, ::-1].copy(), white[k, ::-1, ::-1].copy()
        origin[k] = 2 * stack.centre_mm[k] - origin[k] - last
    found = align(replace(stack, outer=outer, white=white, origin_mm=origin), progress, plane=plane)
    matrices = found.to_section.copy()
    for k in turned:
        matrices[k] = np.column_stack([-matrices[k, :, :2], 2 * stack.centre_mm[k] - matrices[k, :, 2]])
    return replace(found, to_section=matrices)


def corrected(fit: Floats, way: NDArray[np.int64]) -> Floats:
    """[N, S] differences of section k and of k + 1, ... lying as `way` [N] says; nan past the end."""
    result = np.full(fit.shape[:2], np.nan)
    for step in range(1, fit.shape[1] + 1):
        between = way[:-step] ^ way[step:]
        result[: len(between), step - 1] = fit[np.arange(len(between)), step - 1, between]
    return result


def oddness(apart: Floats) -> Floats:
    """[N] by how much the neighbours of a section differ more from each other than from it; inf at the ends."""
    odd = np.full(len(apart), np.inf)
    with np.errstate(invalid="ignore"):
        odd[1:-1] = 2 * apart[:-2, 1] / np.maximum(apart[:-2, 0] + apart[1:-1, 0], 1e-9)
    return np.where(np.isnan(odd), np.inf, odd)


def exchanged(apart: Floats) -> Floats:
    """[N] by how much section k and the next fit their places better than each other's; inf at the ends."""
    ratio = np.full(len(apart), np.inf)
    if len(apart) > 3:
        other = apart[:-3, 1] + apart[1:-2, 1]
        ratio[1:-2] = other / np.maximum(apart[:-3, 0] + apart[2:-1, 0], 1e-9)
    return np.where(np.isnan(ratio), np.inf, ratio)


def _search(work: "Pairs", k: int, way: NDArray[np.int64], apart: Floats) -> tuple[int, float, int, float]:
    """Where section k fits best: place of the most alike, by how much better than beside it, its way, how sure."""
    count = len(way)
    found: dict[int, Floats] = {}

    def look(j: int) -> None:
        if j not in found and 0 <= j < count and j != k:
            found[j] = np.array([work.difference(j, k, one ^ int(way[j])) for one in range(4)])

    for j in range(k % 2, count, 2):
        look(j)
    for j in sorted(found, key=lambda one: float(np.nanmin(found[one])))[:3]:
        look(j - 1)
        look(j + 1)
    best = min(found, key=lambda one: float(np.nanmin(found[one])))
    order = np.sort(found[best])
    beside = np.nanmin([apart[k - 1, 0], apart[k, 0]])
    return best, float(beside / order[0]), int(np.argmin(found[best])), float(2 * np.log(order[1] / order[0]))


class Pairs:
    """Sections of a stack brought onto each other, two at a time.

    Where the alignment has turned a section by neither about 0 nor about 180 degrees it may have been mistaken: such a
    section is tried as it lies on the glass too.

    Args:
        work: level images, coarse.
        matrices: [N, 2, 3] of the alignment.
    """

    def __init__(self, work: Frames, matrices: Floats) -> None:
        self.work = work
        self.places: list[list[tuple[Floats, int, NDArray[np.float32], Floats]]] = []
        moved, (turn, usual) = work.sample(matrices), turns(matrices)
        for k, matrix in enumerate(matrices):
            tries = [(matrix, int(abs(turn[k]) > 90), moved[k])]
            if abs(np.sin(np.radians(turn[k]))) > np.sin(np.radians(_DOUBTFUL_DEG)):
                middle = self._middle(moved[k])
                glass = np.column_stack([usual, matrix[:, :2] @ middle + matrix[:, 2] - usual @ middle])
                tries.append((glass, 0, work.sample_one(k, glass)))
            self.places.append([(*one, self._middle(one[2])) for one in tries])

    def _middle(self, moved: NDArray[np.float32]) -> Floats:
        mask = moved[0] < 0
        return np.asarray(self.work.grid[mask].mean(0)) if mask.any() else np.zeros(2)

    def difference(self, fixed: int, other: int, way: int = 0) -> float:
        """Mean difference in mm of the level images of two sections, where either shows tissue.

        Args:
            fixed, other: places in the stack; the other is brought onto the fixed one rigidly.
            way: how they lie to each other on the glass, a row of `WAYS`.

        Returns:
            nan where neither shows tissue.
        """
        work, image, offset = self.work, self.work.images[other], self.work.offset[other]
        best = np.nan
        for _, over, reference, middle in self.places[fixed]:
            for own, turned, _, there in self.places[other]:
                turn = np.diag(WAYS[way ^ over ^ turned])
                start = there - turn @ middle
                matrix = np.column_stack([own[:, :2] @ turn, own[:, :2] @ start + own[:, 2]])
                for _ in range(_ROUNDS):
                    h, b = normal_equations(reference, image, matrix, offset, work.step, work.half, 1.0)
                    if not np.trace(h) > 0:
                        break
                    update = solve(h, b)
                    matrix = compose(matrix, update)
                    if np.abs(update[[0, 3]]).max() < _STILL * work.step and abs(update[4]) < _STILL / 10:
                        break
                moved = work.sample_one(other, matrix)
                either = (reference[0] < 0) | (moved[0] < 0)
                if either.any():
                    best = np.fmin(best, np.abs(reference - moved)[:, either].mean())
        return float(best)


def turns(matrices: Floats) -> tuple[Floats, Floats]:
    """[N] degrees (-180 to 180) by which each section is turned against most others, and the turn of most [2, 2]."""
    turn = np.exp(1j * np.arctan2(matrices[:, 1, 0] - matrices[:, 0, 1], matrices[:, 0, 0] + matrices[:, 1, 1]))
    usual = np.median(turn.real) + 1j * np.median(turn.imag)
    usual = usual / abs(usual) if abs(usual) > 1e-9 else 1.0 + 0j
    around = np.array([[usual.real, -usual.imag], [usual.imag, usual.real]])
    return np.degrees(np.angle(turn * np.conj(usual))), around


def pairs_of(stack: TissueStack, alignment: Alignment, pixel_mm: float, reach_mm: float) -> Pairs:
    """The sections of a stack at `pixel_mm`, as the alignment put them."""
    middle = alignment.frame_mm.mean(0) if len(alignment.frame_mm) else np.zeros(2)
    return Pairs(frames_of(stack, pixel_mm, reach_mm), shifted(alignment.to_section, middle))


def ways(fit: Floats) -> tuple[NDArray[np.int64], Floats]:
    """How each section lies to most others [N] (a row of `WAYS`), and how sure that is [N].

    Args:
        fit: [N, S, 4] difference of section k and of k + 1, k + 2 in each way; nan where it is not known.
    """
    count = len(fit)
    if count < 3:
        return np.zeros(count, np.int64), np.zeros(count)
    cost = np.log(np.maximum(fit[:, :2], 1e-6))
    cost = np.where(np.isfinite(cost).all(2, keepdims=True), cost, 0.0)
    # 1 (turned) and 2 (mirrored) make 3 (both): the exclusive or of two ways is how they lie to each other.
    group = np.arange(4)[:, None] ^ np.arange(4)
    first, second = cost[:, 0][:, group], cost[:, 1][:, group]  # [N, 4, 4] of the ways of k and k + 1, k and k + 2
    odd = np.where(np.arange(4) > 0, _ODD, 0.0)
    before = [first[0] + odd[:, None] + odd]  # the state is the ways of k and k + 1
    for k in range(1, count - 1):
        before.append((before[-1][:, :, None] + second[k - 1][:, None] + first[k] + odd).min(0))
    after = [np.zeros((4, 4))]
    for k in range(count - 2, 0, -1):
        after.append((after[-1] + second[k - 1][:, None] + first[k] + odd).min(2))
    best = np.stack(before) + np.stack(after[::-1])
    own = np.concatenate([best.min(2), best[-1:].min(1)])  # [N, 4] the least cost of all chains with that way
    order = np.sort(own, axis=1)
    return own.argmin(1), order[:, 1] - order[:, 0]

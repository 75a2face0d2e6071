"""Step: section-to-section alignment that does not straighten the brain.

All sections are moved at once, in rounds: each towards what its two neighbours predict for its place, and all of them
no further from where they lay on the glass than need be (`reconstruct.joint`); first rigidly, then affinely. Chaining
pairwise transforms would turn a curved brain into a straight one (the banana problem): what changes slowly from section
to section may be anatomy, what changes from one section to the next is how it came to lie on the glass. A stack whose
sections lie about at random at long range keeps that: images alone cannot separate it from anatomy.

The images compared are signed distances to the tissue and white-matter boundaries, cut off at a few mm: stain plays no
part, and robust weights keep tears and folds out.
"""

from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from meshgnn import config
from meshgnn.errors import InputError
from meshgnn.progress import Progress, silent
from reconstruct.frames import Frames, block_means, overlap
from reconstruct.given import Given
from reconstruct.joint import Joint, Spread
from reconstruct.records import Alignment, TissueStack
from reconstruct.species import AS_SPECIES, BySpecies, settled
from reconstruct.steps.reference import ReferenceVolume, read_reference

Floats = NDArray[np.float64]
_WITH_REFERENCE = 6  # rounds


class AlignSections:
    """TissueStack -> Alignment."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            pixel_mm: of the images compared.
            reach_mm: signed distances are cut off at +- this.
            rigid_rounds, affine_rounds: 0 leaves a stage out.
            reference: a volume of the same brain (an MRI before it was cut, a block face), as maps of grey and white
                matter or as an image, which says how it is bent; none if no files are named.
            workers: sections worked on side by side; the result does not depend on it.
            least_quality: below this the sections do not follow on one another and the step refuses.
        """

        gone: ClassVar[tuple[str, ...]] = ("glass_trust", "anatomy_mm")  # they are estimated

        pixel_mm: BySpecies = AS_SPECIES
        reach_mm: BySpecies = AS_SPECIES
        rigid_rounds: int = 12
        affine_rounds: int = 5
        reference: ReferenceVolume.Config = field(default_factory=ReferenceVolume.Config)
        least_quality: float = 0.25
        workers: int = 2

        def build(self) -> "AlignSections":
            return AlignSections(self)

    def __init__(self, settings: Config) -> None:
        self.settings = settled(settings, "align")

    def __call__(
        self, stack: TissueStack, progress: Progress = silent, given: Given | None = None, plane: str = "coronal"
    ) -> Alignment:
        """Align, from where a registration put the sections if there is one: then its slow part stays.

        Raises:
            InputError: neighbouring sections fit no better than distant ones (shuffled, or not one brain), or a
                reference cannot be read or does not fit.
        """
        set_ = self.settings
        reference = None if not set_.reference.named else read_reference(set_.reference, plane, set_.reach_mm)
        count = len(stack.outer)
        work = frames_of(stack, set_.pixel_mm, set_.reach_mm, set_.workers)
        start = np.zeros((count, 2, 3))
        start[:, 0, 0] = start[:, 1, 1] = 1
        start[:, :, 2] = stack.centre_mm
        # The frame of a registration is moved, so that its tissue lies about 0, 0, and back at the end.
        middle = np.zeros(2) if given is None else given.frame_mm.mean(0)
        matrices = start = (
            _rescue(work, start, 3 * set_.pixel_mm) if given is None else shifted(given.to_section, middle)
        )
        # At first all differences count, in the end those that cannot be fitted hardly do.
        share = np.arange(set_.rigid_rounds) / max(1, set_.rigid_rounds)
        scales = set_.reach_mm * np.select([share < 0.25, share < 0.5], [3.0, 1.0], 1 / 3)
        rounds = [(False, float(scale)) for scale in scales] + [(True, set_.reach_mm / 3)] * set_.affine_rounds
        if given is not None and given.keep:
            rounds = []
        if reference is not None:  # once the sections follow on one another, the volume can be fitted to them
            rounds += rounds[-1:] * _WITH_REFERENCE
        joint, cuts, fit = None, None, 0.0
        for number, (stretch, scale) in enumerate(rounds):
            turn = number == len(rounds) - _WITH_REFERENCE and reference is not None
            if turn or joint is None or stretch != (joint.size > 3):
                # A volume shows what neighbours did not: that sections which follow on one another lie about together.
                like: Spread | None = None if turn or joint is None else joint.spread
                joint = Joint(start, stack.position_mm, stretch=stretch, like=like)
            moved = work.sample(matrices)
            if reference is not None and number >= len(rounds) - _WITH_REFERENCE:
                reference = reference.told_by(work, moved)
                cuts, fit = reference.cuts(work, moved)
            matrices = _round(work, joint, matrices, moved, scale, cuts)
            progress("align", number + 1, len(rounds))
        moved = work.sample(matrices)
        quality = order_quality(moved, stack.position_mm)
        if quality < set_.least_quality:
            raise InputError(
                f"the sections do not follow on one another (order quality {quality:.2f}, at least "
                f"{set_.least_quality:g} is needed): check file, index and position_mm of each in the sections file"
            )
        found = Alignment(
            to_section=matrices if given is None else shifted(matrices, -middle), overlap=_overlap(moved),
            quality=quality,
            frame_mm=np.zeros((0, 2)) if given is None else given.frame_mm,
            unsure_mm=np.zeros(count) if joint is None else joint.unsure_mm,
            glass_mm=() if joint is None else joint.spread.glass_mm, reference=fit,
        )  # fmt: skip
        return found if given is None else given.bent(found)


def shifted(matrices: Floats, origin: Floats) -> Floats:
    """Matrices [N, 2, 3] for a common frame whose 0, 0 is `origin` [2] of the one that they were for."""
    moved = matrices.copy()
    moved[:, :, 2] += matrices[:, :, :2] @ origin
    return moved


def frames_of(stack: TissueStack, pixel_mm: float, reach_mm: float, workers: int = 1) -> Frames:
    """A stack's level images, cut off at +- reach, as block means of about `pixel_mm`; their middles lie at 0, 0."""
    block = max(1, round(pixel_mm / stack.pixel_mm))
    images = np.stack([
        np.stack([block_means(np.clip(one, -reach_mm, reach_mm), block, reach_mm) for one in pair])
        for pair in zip(stack.outer, stack.white)
    ])  # fmt: skip
    offset = stack.origin_mm + stack.pixel_mm * (block - 1) / 2
    half = (np.array(images.shape[2:]) - 1) / 2
    return Frames(images, offset, block * stack.pixel_mm, half, stack.position_mm, workers)


def _round(
    work: Frames, joint: Joint, matrices: Floats, moved: NDArray[np.float32], scale: float,
    cuts: NDArray[np.float32] | None,
) -> Floats:  # fmt: skip
    """One round: every section towards what its neighbours predict, and its cut [2, h, w], all from the same state.

    Args:
        moved: [N, 2, h, w] the sections where `matrices` put them.
    """

    def towards(k: int, reference: NDArray[np.float32]) -> tuple[Floats, Floats]:
        found, known = joint.towards(reference, work, k, matrices[k], scale)
        return joint.between(matrices[k], found), known

    def one(k: int) -> tuple[Floats, ...]:
        near = np.flatnonzero(joint.weights[k])
        found = towards(k, np.tensordot(joint.weights[k, near].astype(np.float32), moved[near], axes=1))
        return found if cuts is None else (*found, *towards(k, cuts[k]))

    with ThreadPoolExecutor(max(1, work.workers)) as pool:
        moves, known, *more = (np.stack(part) for part in zip(*pool.map(one, range(len(matrices)))))
    return joint.solve(matrices, moves, known, (more[0], more[1]) if more else None)


def _rescue(fine: Frames, start: Floats, coarse: float) -> Floats:
    """Sections that lie far off (shift, turn) brought near: those that fit badly on the section before.

    A section is turned in steps of 15 degrees about its tissue's centre; the turn that fits best is taken if it fits
    clearly better than none.
    """
    images, step = fine.images, fine.step
    block = max(1, round(coarse / step))
    matrices = start.copy()
    work = copy(fine)
    work.grid = fine.grid[::block, ::block]

    def tissue(k: int, matrix: Floats) -> NDArray[np.bool_]:
        return ndimage.map_coordinates(images[k, 0], work.places(k, matrix), order=0, mode="nearest") < 0

    middle = int(np.argmax([(image[0] < 0).sum() for image in images]))
    for order in (range(middle + 1, len(images)), range(middle - 1, -1, -1)):
        for k in order:
            before = k - 1 if order.step > 0 else k + 1
            fixed = tissue(before, matrices[before])
            carried = start[k].copy()
            base = overlap(tissue(k, carried), fixed)
            if base > 0.6 or not fixed.any() or not (images[k, 0] < 0).any():
                continue
            target = work.grid[fixed].mean(0)
            own = (np.argwhere(images[k, 0] < 0).mean(0)) * step + fine.offset[k]
            best, chosen = base + 0.15, carried
            for angle in np.radians(np.arange(0, 360, 15)):
                turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
                trial = np.column_stack([turn, own - turn @ target])
                score = overlap(tissue(k, trial), fixed)
                if score > best:
                    best, chosen = score, trial
            matrices[k] = chosen
    return matrices


def _overlap(moved: NDArray[np.float32]) -> Floats:
    """[N] mean Dice overlap of each section's tissue with its neighbours'."""
    tissue = moved[:, 0] < 0
    size = tissue.sum((1, 2))
    pair = 2 * (tissue[1:] & tissue[:-1]).sum((1, 2)) / np.maximum(1, size[1:] + size[:-1])
    return np.array([pair[max(0, k - 1) : k + 1].mean() for k in range(len(tissue))])


def order_quality(moved: NDArray[np.float32], position: Floats) -> float:
    """1 - (mean difference of neighbours) / (mean difference of random pairs): near 0 for sections in random order."""
    count = len(moved)
    if count < 3:
        return 1.0
    small = moved[:, :, ::2, ::2]

    def difference(a: int, b: int) -> float:
        return float(np.abs(small[a] - small[b]).mean())

    beside = float(np.mean([difference(k, k + 1) for k in range(count - 1)]))
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
    chosen = pairs[:: max(1, len(pairs) // 400)]
    apart = float(np.mean([difference(a, b) for a, b in chosen]))
    return 1 - beside / max(apart, 1e-9)

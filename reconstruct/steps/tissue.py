"""Step: from section images to the level images of tissue and white matter.

Grey values become optical density against the section's own background, log(background / grey): differences of stain
are then factors. Tissue is what takes stain at all; grey matter takes more than white. Layer I is as pale as white
matter, so white matter is what stays of the pale tissue after an opening wider than layer I. Thin pale cracks (tears)
are closed, thin dark lines in white matter (folds) too; strands across sulci are cut.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from meshgnn import config
from meshgnn.errors import InputError
from meshgnn.progress import Progress, silent
from meshgnn.slurm_jobs import SlurmJobs
from meshgnn.source.sections import Section, SectionStack
from reconstruct.bridges import strands
from reconstruct.density import corner_mm, section_density
from reconstruct.distance import signed_distance
from reconstruct.given import start_of
from reconstruct.outline import edge_softness, soft_outline
from reconstruct.records import TissueStack
from reconstruct.slabs import Frame, Slab, frame_for, grouped, make_slabs
from reconstruct.species import AS_SPECIES, BySpecies, settled
from reconstruct.stain_levels import stack_ratio, stain_levels

LEAST_SECTIONS = 4  # a cubic spline through them carries the shape from section to section

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]


def check_count(stack: SectionStack, found: int | None = None) -> None:
    """Refuse a stack that no mesh can be made of.

    Args:
        found: how many of its usable sections hold tissue, once that is known.

    Raises:
        InputError: fewer sections than LEAST_SECTIONS.
    """
    usable = sum(section.usable for section in stack)
    if min(usable, usable if found is None else found) >= LEAST_SECTIONS:
        return
    text = f"{usable} of {len(stack)} sections are usable"
    hint = f"at least {LEAST_SECTIONS} are needed to make a surface, and a folded one takes a section every 2 to 4 mm"
    if found is not None and found < usable:
        text = f"tissue was found on {found} of {usable} sections"
        hint += "; dark tissue on a bright background is expected"
    raise InputError(f"{stack.folder}: {text}; {hint}")


class ClassifyTissue:
    """SectionStack -> TissueStack."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            pixel_mm: of the level images; the nearest whole multiple of the images' pixels is taken.
            reach_mm: signed distances are cut off at +- this.
            tear_mm: cracks in tissue narrower than this are closed.
            fold_mm: dark lines in white matter narrower than this are closed.
            bridge_mm: strands of tissue across a sulcus up to this wide are cut; 0 = never.
            layer_one_mm: pale bands narrower than this are not white matter.
            soft_mm: edges over which density rises more slowly than this (`outline.edge_softness`, median of the
                sections) are blurred: tissue then ends at half of the density that lies behind.
            grey_share: a pixel is grey matter from this share of the way from white to grey density; from the middle
                where edges are blurred.
            smooth_mm: sd of the smoothing of density before grey and white matter are parted.
            piece_mm2, hole_mm2: smaller pieces of tissue are dropped, smaller holes filled; half a hole is the least
                piece of white matter.
            least_mm2: a section with less tissue is left out.
            least_stain: so is one whose darkest tenth is paler than this share of what is usual in the stack.
            largest_mm: side of the largest image; pixel_um must be wrong where one is larger.
            even_light: uneven light is taken off as the glass around the tissue shows it (`reconstruct.evened`).
            every_mm: sections that lie nearer together than this are averaged, in slabs that are so thick at most.
            jobs: slabs are made as Slurm jobs; the command submits them and waits.
            masks: folder with corrected label images, see `reconstruct.masks`; applied to what this step finds.
            workers: threads reading images.
        """

        pixel_mm: BySpecies = AS_SPECIES
        reach_mm: BySpecies = AS_SPECIES
        tear_mm: BySpecies = AS_SPECIES
        fold_mm: BySpecies = AS_SPECIES
        bridge_mm: BySpecies = AS_SPECIES
        layer_one_mm: BySpecies = AS_SPECIES
        soft_mm: BySpecies = AS_SPECIES
        grey_share: float = 0.35
        smooth_mm: BySpecies = AS_SPECIES
        piece_mm2: BySpecies = AS_SPECIES
        hole_mm2: BySpecies = AS_SPECIES
        least_mm2: BySpecies = AS_SPECIES
        least_stain: float = 0.35
        largest_mm: BySpecies = AS_SPECIES
        even_light: bool = True
        every_mm: BySpecies = AS_SPECIES
        jobs: SlurmJobs.Config | None = None
        masks: Path | None = None
        workers: int = 2

        def build(self) -> "ClassifyTissue":
            return ClassifyTissue(self)

    def __init__(self, settings: Config) -> None:
        self.settings = settled(settings, "tissue")

    def __call__(
        self,
        stack: SectionStack,
        progress: Progress = silent,
        *,
        placed: bool | None = None,
        folder: Path | None = None,
    ) -> TissueStack:
        """Tissue of a stack; a dense one (`every_mm`) becomes a stack of slabs.

        Args:
            placed: a registration put the sections where they lie, and keeps them there (True) or may be improved
                (False); None if there is none.
            folder: where slabs are kept until all are made, so that a killed command goes on where it was.

        Raises:
            InputError: too few sections hold tissue (`check_count`), or none holds grey and white matter.
        """
        set_ = self.settings
        check_count(stack)
        sections = stack.usable().sections
        self._check_sizes(sections)
        # One grid for all: that of the most common image pixel; images with another pixel are resampled to it.
        usual = float(np.median([section.pixel_um for section in sections])) / 1000
        pixel = max(1, round(set_.pixel_mm / usual)) * usual
        groups = grouped(sections, set_.every_mm)
        slabs: list[Slab] = []
        dense = len(groups) < len(sections)
        with ThreadPoolExecutor(max(1, set_.workers)) as pool, ExitStack() as kept_open:
            if dense:
                place = folder or Path(kept_open.enter_context(TemporaryDirectory()))
                slabs = list(self._slabs(groups, stack, pixel, placed, place, progress))
                found = [slab.density for slab in slabs]
            else:
                found = []
                density = partial(section_density, pixel=pixel, even_light=set_.even_light)
                for number, item in enumerate(pool.map(density, sections)):
                    found.append(item)
                    progress("tissue", number + 1, 2 * len(sections))
            kept = [k for k, item in enumerate(found) if item.area_mm2 >= set_.least_mm2]
            # Glass alone, in uneven light, has an area too: it is far paler than any grey matter of the stack.
            dark = {k: found[k].darkest() for k in kept}
            least = set_.least_stain * float(np.median(list(dark.values()) or [0.0]))
            kept = [k for k in kept if dark[k] >= least]
            check_count(stack, len(kept))
            values = [found[k].values for k in kept]
            ratio = stack_ratio(values)
            soft = self._softness(values, ratio, pixel)
            ratio = stack_ratio(values, soft=True) if soft else ratio
            shape = (max(one.shape[0] for one in values), max(one.shape[1] for one in values))
            more: dict[str, Any] = {"falloff": np.array([found[k].falloff for k in kept]),
                                    "fine": np.stack([found[k].fine for k in kept])}  # fmt: skip
            more |= _slab_parts([slabs[k] for k in kept]) if dense else {}
            chosen = [stack.at(int(slabs[k].index[slabs[k].place])) if dense else sections[k] for k in kept]
            where = np.array([slabs[k].position_mm.mean() for k in kept]) if dense else None
            del found, slabs
            outer, white = (np.empty((len(kept), *shape), np.float32) for _ in range(2))

            def finish(k: int) -> NDArray[np.float64]:
                outer[k], white[k], cut = self._levels(values[k], pixel, ratio, shape, soft)
                values[k] = values[k][:0]  # of a long series they would fill the memory
                return cut

            cuts = []
            for number, cut in enumerate(pool.map(finish, range(len(kept)))):
                cuts.append(cut)
                progress("tissue", len(groups) + number + 1, len(groups) + len(kept))
        if not any((one < 0).any() for one in white):
            raise InputError(f"{stack.folder}: no white matter was found; is grey matter the darker of the two?")
        image_px = np.array([section.pixel_um / 1000 for section in chosen])
        corner = np.array([corner_mm(section, pixel) for section in chosen]) * (not dense)
        size = np.array([section.shape for section in chosen]) * image_px[:, None]
        middle = (size - image_px[:, None]) / 2
        return TissueStack(
            outer=outer, white=white, pixel_mm=pixel, origin_mm=np.stack([corner, corner], axis=1),
            centre_mm=np.tile((np.array(shape) - 1) / 2 * pixel, (len(kept), 1)) if dense else middle,
            position_mm=np.array([section.position_mm for section in chosen]) if where is None else where,
            thickness_mm=np.array([section.thickness_um / 1000 for section in chosen]),
            index=np.array([section.index for section in chosen]),
            image_px_mm=np.full(len(kept), pixel) if dense else image_px, weight=np.ones(len(kept)),
            bridges=np.concatenate([
                np.column_stack([np.full(len(cut), k), corner[k] + cut[:, :2] * pixel, cut[:, 2] * pixel**2])
                for k, cut in enumerate(cuts)
            ]),
            **more,
        )  # fmt: skip

    def _slabs(
        self, groups: list[tuple[Section, ...]], stack: SectionStack, pixel: float, placed: bool | None, folder: Path,
        progress: Progress,
    ) -> Iterator[Slab]:  # fmt: skip
        """Slabs that hold tissue."""
        set_, starts = self.settings, {}
        sections = [section for group in groups for section in group]
        for section in sections:
            middle = (np.array(section.shape) - 1) / 2 * section.pixel_um / 1000
            lying = np.column_stack([np.eye(2), middle])
            starts[section.index] = lying if placed is None else start_of(stack, section)
        shape, middle_mm = frame_for(sections, starts, pixel, placed is not None)
        frame = Frame(
            shape=shape, pixel_mm=pixel, middle_mm=middle_mm, coarse_mm=5 * set_.pixel_mm, least_mm2=set_.least_mm2,
            least_stain=set_.least_stain, keep=bool(placed), even_light=set_.even_light,
        )  # fmt: skip
        made = make_slabs(groups, starts, frame, folder, set_.jobs, set_.workers)
        for number, slab in enumerate(made):
            progress("tissue", number + 1, 2 * len(groups))
            if slab is not None:
                yield slab

    def _check_sizes(self, sections: tuple[Section, ...]) -> None:
        """All images share one grid: one with a wrong pixel_um would ask for any amount of memory."""
        side = np.array([max(section.shape) * section.pixel_um / 1000 for section in sections])
        usual = float(np.median(side))
        for section, mm in zip(sections, side):
            if mm > self.settings.largest_mm or mm > 4 * usual:
                raise InputError(
                    f"section {section.index} ({section.path.name}): its image is {mm:.4g} mm wide (others "
                    f"{usual:.4g}, tissue.largest_mm = {self.settings.largest_mm:g}); check its pixel_um"
                )

    def _softness(self, densities: list[Image], ratio: float, pixel: float) -> float:
        """Median softness in mm of the sections' edges, 0 where it is that of sharp ones."""
        some = densities[:: max(1, len(densities) // 15)]
        found = [edge_softness(one, stain_levels(one, ratio)[0] / 2, pixel, self.settings.smooth_mm) for one in some]
        soft = float(np.nanmedian(found)) if np.isfinite(found).any() else 0.0
        return soft if soft > self.settings.soft_mm else 0.0

    def _levels(
        self, density: Image, pixel: float, ratio: float, shape: tuple[int, int], soft: float
    ) -> tuple[Image, Image, NDArray[np.float64]]:
        set_ = self.settings
        grow = [(0, shape[axis] - density.shape[axis]) for axis in range(2)]
        density = np.pad(density, grow)
        white_od, grey_od = stain_levels(density, ratio, bool(soft))
        limit: Any = white_od / 2
        cut = white_od + (0.5 if soft else set_.grey_share) * (grey_od - white_od)
        found = density > limit
        skin = np.zeros_like(found)
        if soft:
            edge = soft_outline(density, limit, cut, pixel, set_.smooth_mm, soft)
            found, limit, skin = found & ~edge.rim, edge.level, edge.skin
        tissue = _close(found, set_.tear_mm / 2 / pixel)
        tissue = ndimage.binary_fill_holes(tissue) & _large(tissue, set_.piece_mm2 / pixel**2)
        holes = ndimage.binary_fill_holes(tissue) & ~tissue
        tissue |= holes & ~_large(holes, set_.hole_mm2 / pixel**2)
        bridges = np.zeros((0, 3))
        if set_.bridge_mm:
            cut_off, bridges = strands(tissue, set_.bridge_mm / pixel, set_.hole_mm2 / 2 / pixel**2)
            tissue = tissue & ~cut_off
        level = np.where(tissue & (density < limit), 1.01 * limit, density)
        level = np.where(tissue, level, np.minimum(density, 0.99 * limit) if soft else 0)
        outer = signed_distance((limit - level) / limit, pixel, set_.reach_mm)
        smooth = ndimage.gaussian_filter(density, set_.smooth_mm / pixel)
        pale = tissue & (smooth < cut) & ~skin
        core = _open(pale, set_.layer_one_mm / 2 / pixel)
        core = _close(core, set_.fold_mm / 2 / pixel) & tissue
        core = _large(core, set_.hole_mm2 / 2 / pixel**2)
        # The boundary within a pixel: where the density passes the cut, next to the kept white matter only.
        near = ndimage.binary_dilation(core, iterations=2)
        value = np.clip((smooth - cut) / (grey_od - cut), -1, 1)
        inside = ndimage.binary_erosion(core, iterations=2)
        value = np.where(inside, -1, np.where(near, value, 1))
        value = np.where(core & (value > 0), -0.05, np.where(~core & (value <= 0), 0.05, value))
        white = signed_distance(value.astype(np.float32), pixel, set_.reach_mm)
        return outer, np.maximum(white, outer), bridges


def _slab_parts(slabs: list[Slab]) -> dict[str, Any]:
    """The fields of a TissueStack that tell of the sections in its slabs."""
    return {
        "part_slab": np.repeat(np.arange(len(slabs)), [len(slab.index) for slab in slabs]),
        "part_index": np.concatenate([slab.index for slab in slabs]),
        "part_position_mm": np.concatenate([slab.position_mm for slab in slabs]),
        "part_px_mm": np.concatenate([slab.px_mm for slab in slabs]),
        "part_to_image": np.concatenate([slab.to_image for slab in slabs]),
        "odd": np.concatenate([slab.odd for slab in slabs]),
    }


def _within(mask: Mask, radius: float) -> Mask:
    """Pixels at most `radius` pixels from the mask: shifted copies, since the radii here are a few pixels."""
    reach = int(radius)
    rows, columns = mask.shape
    padded = np.pad(mask, reach)
    grown = mask.copy()
    for down in range(-reach, reach + 1):
        for across in range(-reach, reach + 1):
            if 0 < down * down + across * across <= radius * radius:
                grown |= padded[reach + down : reach + down + rows, reach + across : reach + across + columns]
    return grown


def _close(mask: Mask, radius: float) -> Mask:
    grown = _within(mask, radius)
    return mask | ~_within(np.pad(~grown, 1, mode="edge"), radius + 0.5)[1:-1, 1:-1]


def _open(mask: Mask, radius: float) -> Mask:
    core = ~_within(~mask, radius)
    return mask & _within(core, radius + 0.5)


def _large(mask: Mask, least: float) -> Mask:
    """The components of at least this many pixels."""
    numbers, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(numbers.ravel())
    sizes[0] = 0
    return (sizes >= least)[numbers]

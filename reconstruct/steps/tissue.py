"""Step: from section images to the level images of tissue and white matter.

Grey values become optical density against the section's own background, log(background / grey): differences of stain
are then factors. Tissue is what takes stain at all; grey matter takes more than white. Layer I is as pale as white
matter, so white matter is what stays of the pale tissue after an opening wider than layer I. Thin pale cracks (tears)
are closed, thin dark lines in white matter (folds) too; strands across sulci are cut.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from meshgnn import config
from meshgnn.errors import InputError
from meshgnn.progress import Progress, silent
from meshgnn.source.background import background_grey, brighter_than_glass, frame_of
from meshgnn.source.same_images import fine_structure
from meshgnn.source.section_image import SectionImage
from meshgnn.source.sections import Section, SectionStack, open_section
from reconstruct.bridges import strands
from reconstruct.distance import to_zero_set
from reconstruct.outline import edge_softness, soft_outline
from reconstruct.records import TissueStack
from reconstruct.species import AS_SPECIES, BySpecies, settled
from reconstruct.stain_levels import STAINED, stack_ratio, stain_levels

_WHOLE_PX = 1 << 26  # larger images are averaged as they are read
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
            every_mm: of sections that lie nearer together than this, annotated ones and enough others are used.
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
        every_mm: BySpecies = AS_SPECIES
        masks: Path | None = None
        workers: int = 2

        def build(self) -> "ClassifyTissue":
            return ClassifyTissue(self)

    def __init__(self, settings: Config) -> None:
        self.settings = settled(settings, "tissue")

    def __call__(self, stack: SectionStack, progress: Progress = silent) -> TissueStack:
        """Raises InputError if too few sections hold tissue (`check_count`) or none holds grey and white matter."""
        check_count(stack)
        sections = stack.usable().sections
        self._check_sizes(sections)
        # One grid for all: that of the most common image pixel; images with another pixel are resampled to it.
        usual = float(np.median([section.pixel_um for section in sections])) / 1000
        pixel = max(1, round(self.settings.pixel_mm / usual)) * usual
        pool = ThreadPoolExecutor(max(1, self.settings.workers))
        with pool:
            found = []
            for number, item in enumerate(pool.map(partial(self._densities, pixel=pixel), sections)):
                found.append(item)
                progress("tissue", number + 1, 2 * len(sections))
            kept = [k for k, item in enumerate(found) if item[1] >= self.settings.least_mm2]
            # Glass alone, in uneven light, has an area too: it is far paler than any grey matter of the stack.
            dark = {k: float(np.percentile(found[k][0][found[k][0] > STAINED], 90)) for k in kept}
            least = self.settings.least_stain * float(np.median(list(dark.values()) or [0.0]))
            kept = [k for k in kept if dark[k] >= least]
            check_count(stack, len(kept))
            ratio = stack_ratio([found[k][0] for k in kept])
            soft = self._softness([found[k][0] for k in kept], ratio, pixel)
            ratio = stack_ratio([found[k][0] for k in kept], soft=True) if soft else ratio
            height = max(found[k][0].shape[0] for k in kept)
            width = max(found[k][0].shape[1] for k in kept)

            def finish(k: int) -> tuple[Image, Image, NDArray[np.float64]]:
                return self._levels(found[k][0], pixel, ratio, (height, width), soft)

            levels = []
            for number, level in enumerate(pool.map(finish, kept)):
                levels.append(level)
                progress("tissue", len(sections) + number + 1, len(sections) + len(kept))
        if not any((white < 0).any() for _, white, _ in levels):
            raise InputError(f"{stack.folder}: no white matter was found; is grey matter the darker of the two?")
        chosen = [sections[k] for k in kept]
        image_px = np.array([section.pixel_um / 1000 for section in chosen])
        # Row and column of pixel (0, 0) of the level images in the image's own frame: half a block in.
        block = np.array([max(1, round(pixel / px)) for px in image_px])
        corner = (block - 1) / 2 * image_px
        return TissueStack(
            outer=np.stack([outer for outer, _, _ in levels]),
            white=np.stack([white for _, white, _ in levels]),
            pixel_mm=pixel,
            origin_mm=np.stack([corner, corner], axis=1),
            centre_mm=(np.array([section.shape for section in chosen]) - 1) / 2 * image_px[:, None],
            position_mm=np.array([section.position_mm for section in chosen]),
            thickness_mm=np.array([section.thickness_um / 1000 for section in chosen]),
            index=np.array([section.index for section in chosen]),
            image_px_mm=image_px,
            weight=np.ones(len(chosen)),
            falloff=np.array([found[k][2] for k in kept]),
            fine=np.stack([found[k][3] for k in kept]),
            bridges=np.concatenate(
                [
                    np.column_stack([np.full(len(cut), k), corner[k] + cut[:, :2] * pixel, cut[:, 2] * pixel**2])
                    for k, (_, _, cut) in enumerate(levels)
                ]
            ),
        )

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

    def _densities(self, section: Section, pixel: float) -> tuple[Image, float, float, Image]:
        """Optical density on the level grid of `pixel` mm, tissue area in mm^2, `falloff`, and fine structure."""
        block = max(1, round(pixel * 1000 / section.pixel_um))
        with open_section(section) as image:
            grey, step = working_image(image, block)
        block //= step
        if not np.isfinite(grey).all():
            raise InputError(
                f"{section.path}: {int((~np.isfinite(grey)).sum())} pixels are not finite; export it again without gaps"
            )
        background = background_grey(frame_of(grey))
        if background <= 0:
            raise InputError(f"{section.path}: the background is black; grey matter on bright glass is expected")
        if brighter_than_glass(grey, background):
            raise InputError(
                f"{section.path}: much of the image is brighter than the glass at its frame; invert the image if its "
                "tissue is bright (dark tissue on bright glass is expected), or even out the light"
            )
        if grey.dtype == np.uint8:
            table = -np.log(np.maximum(np.arange(256, dtype=np.float32), 1) / background)
            density = table[grey]
        else:
            density = -np.log(np.maximum(grey.astype(np.float32), background / 250) / background)
        rows, columns = (size // block * block for size in density.shape)
        if min(rows, columns) == 0:
            raise InputError(f"{section.path}: the image is smaller than one pixel of the working grid")
        coarse = density[:rows, :columns].reshape(rows // block, block, columns // block, block).mean((1, 3))
        coarse = np.maximum(coarse, 0).astype(np.float32)
        own = block * step * section.pixel_um / 1000
        if abs(own - pixel) > 1e-3 * pixel:
            axes = [np.arange(max(1, int(size * own / pixel))) * pixel / own for size in coarse.shape]
            places = np.stack(np.meshgrid(*axes, indexing="ij"))
            soft = ndimage.gaussian_filter(coarse, 0.4 * pixel / own) if own < pixel else coarse
            coarse = ndimage.map_coordinates(soft, places, order=1, mode="nearest").astype(np.float32)
        return coarse, float((coarse > STAINED).sum() * pixel**2), falloff(grey), fine_structure(grey)

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


def working_image(image: SectionImage, block: int) -> tuple[NDArray[Any], int]:
    """What tissue is looked for in: the image, or means of it where it is large or has a pyramid.

    A pyramid is read at its coarsest level that is as fine as `block` pixels, and comes at the working grid. Images of
    up to 67 million pixels without one are read whole; larger ones strip by strip, averaged over the smallest share of
    a block that leaves 17 million pixels.

    Args:
        image: opened.
        block: pixels of the image per pixel of the working grid.

    Returns:
        [H, W] grey, and how many pixels of the image each of them stands for in a row; a divisor of `block`.
    """
    if image.level_for(block) > 0:
        return image.reduced(block), block
    pixels = image.shape[0] * image.shape[1]
    if pixels <= _WHOLE_PX:
        return image.read(), 1
    steps = [step for step in range(2, block) if block % step == 0 and pixels / step**2 <= _WHOLE_PX / 4]
    step = min(steps, default=block)
    return image.reduced(step), step


def falloff(grey: NDArray[Any]) -> float:
    """How much darker one edge of an image [H, W] is than the opposite one, as a share: uneven light.

    Edges are bands of 2 % of the image, each by its median: tissue that reaches half of an edge does not count.
    """
    band = max(1, round(0.02 * min(grey.shape)))
    ends = ((grey[:band], grey[-band:]), (grey[:, :band], grey[:, -band:]))
    pairs = [(float(np.median(one)), float(np.median(other))) for one, other in ends]
    return max(abs(one - other) / max(one, other, 1e-9) for one, other in pairs)


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


def signed_distance(level: Image, pixel_mm: float, reach_mm: float) -> Image:
    """Signed distance in mm to the zero set of a level function [H, W] (negative inside), cut off at +-reach.

    See `to_zero_set`; an image of one sign is +-reach all over.
    """
    inside = level <= 0
    if not inside.any() or inside.all():
        return np.full(level.shape, -reach_mm if inside.all() else reach_mm, np.float32)
    return np.clip(to_zero_set(level) * np.float32(pixel_mm), -reach_mm, reach_mm)

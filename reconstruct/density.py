"""Optical density of a section on the working grid, and what else its image tells at a glance."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from meshgnn.errors import InputError
from meshgnn.source.background import background_grey, brighter_than_glass, frame_of
from meshgnn.source.same_images import fine_structure
from meshgnn.source.section_image import SectionImage
from meshgnn.source.sections import Section, open_section
from reconstruct.evened import light_field
from reconstruct.stain_levels import STAINED

_WHOLE_PX = 1 << 26  # larger images are averaged as they are read

Image = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Density:
    """What an image told.

    Args:
        values: [H, W] optical density against the image's own background, at least 0, on the working grid.
        area_mm2: of pixels that take stain.
        falloff: see `falloff`.
        fine: fine structure, by which copies of an image are recognised.
    """

    values: Image
    area_mm2: float
    falloff: float
    fine: Image

    def darkest(self) -> float:
        """Density from which on the darkest tenth of stained pixels is."""
        stained = self.values[self.values > STAINED]
        return float(np.percentile(stained, 90)) if len(stained) else 0.0


def section_density(section: Section, pixel: float, even_light: bool = True) -> Density:
    """Density of a section on a grid of `pixel` mm; `even_light` takes off what glass shows of uneven light.

    Raises:
        InputError: the image cannot be read, is not finite, or does not show dark tissue on bright glass.
    """
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
    coarse = coarse.astype(np.float32)
    coarse = np.maximum(coarse - light_field(coarse) if even_light else coarse, 0)
    own = block * step * section.pixel_um / 1000
    if abs(own - pixel) > 1e-3 * pixel:
        axes = [np.arange(max(1, int(size * own / pixel))) * pixel / own for size in coarse.shape]
        places = np.stack(np.meshgrid(*axes, indexing="ij"))
        soft = ndimage.gaussian_filter(coarse, 0.4 * pixel / own) if own < pixel else coarse
        coarse = ndimage.map_coordinates(soft, places, order=1, mode="nearest").astype(np.float32)
    area = float((coarse > STAINED).sum() * pixel**2)
    return Density(values=coarse, area_mm2=area, falloff=falloff(grey), fine=fine_structure(grey))


def corner_mm(section: Section, pixel: float) -> float:
    """Row (and column) of the centre of the first pixel of the working grid, in mm of the section's image."""
    block = max(1, round(pixel * 1000 / section.pixel_um))
    return (block - 1) / 2 * section.pixel_um / 1000


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

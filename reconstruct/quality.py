"""How good every section is, in [0, 1]: the product of what was measured against its neighbours.

| factor | measured | formula |
|---|---|---|
| fit | neighbours' difference from each other over that from the section, by `oddness` | min(1, o / o of 9 around it) |
| area | tissue over the nearer neighbour's where it lies outside of both, s | min(s, 1 / s) |
| tears | share p of tissue that is as bright as glass, plus that of its rim that is white | 1 - 5 (p - p around) |
| stain | median optical density of tissue, d | min(d / d around, d around / d) |
| focus | steepest rise of density (95th percentile of its gradient over d), g | min(1, g / g around) |
| light | darkening of one edge against the opposite one, f | 1 - f, from f = 0.05 on |

"Around" is the median of the nine sections about it; factors are cut off at 0 and 1, and are 1 where they cannot be
measured. The rim is three working pixels wide: where a crack was closed tissue is bright in it, where it was not it has
white matter at its banks. The product is a rank, not a probability: 1 is a section like its neighbours.
docs/benchmarks.md has how well planted damage is found. Nothing is weighted by it yet.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from meshgnn.source.background import background_grey, frame_of
from meshgnn.source.section_image import SectionImage
from reconstruct.density import working_image
from reconstruct.plausibility import area_steps
from reconstruct.records import Mounting, TissueStack
from reconstruct.steps.mounting import corrected, oddness

FACTORS = ("fit", "area", "tears", "stain", "focus", "light")
_AROUND = 9
_LIGHT = 0.05  # falloff that even scans show
_PALE = 0.2  # of the median density of tissue: less is a crack

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is measured on the image of one section.

    Args:
        picture: [h, w] uint8, brightness with glass at 245.
        step: pixels of the image per pixel of the picture.
        stain: median optical density of tissue; nan where there is none.
        focus: steepest rise of density per pixel of the picture, over `stain`.
        pale: share of tissue that is nearly as bright as glass, plus the share of its rim that is white matter.
    """

    picture: NDArray[np.uint8]
    step: float
    stain: float
    focus: float
    pale: float


def look(image: SectionImage, stack: TissueStack, k: int) -> Look:
    """Measure the image of section k on the working grid."""
    block = max(1, round(stack.pixel_mm / stack.image_px_mm[k]))
    grey, step = working_image(image, block)
    if min(grey.shape) * step >= block > step:
        grey, step = _means(grey, block // step), block
    glass = max(background_grey(frame_of(grey)), 1e-6)
    density = -np.log(np.clip(grey / glass, 0.02, 1))
    rows, columns = np.minimum(grey.shape, stack.outer.shape[1:])
    tissue = stack.outer[k, :rows, :columns] < 0
    density = density[:rows, :columns]
    stain = focus = pale = float("nan")
    if step == block and tissue.any():
        stain = max(float(np.median(density[tissue])), 1e-6)
        slope = np.hypot(*np.gradient(density))
        focus = float(np.percentile(slope[ndimage.binary_dilation(tissue, iterations=2)], 95)) / stain
        inner = stack.outer[k, :rows, :columns] < -2 * stack.pixel_mm
        pale = float((density[inner] < _PALE * stain).mean()) if inner.any() else pale
        rim = (stack.outer[k] < 0) & (stack.outer[k] > -3 * stack.pixel_mm)
        pale += float((stack.white[k][rim] < 0).mean())
    picture = np.clip(np.nan_to_num(grey / glass) * 245, 0, 255).astype(np.uint8)
    return Look(picture=picture, step=float(step), stain=stain, focus=focus, pale=pale)


def _means(grey: NDArray[Any], block: int) -> NDArray[np.float32]:
    """Means over whole blocks, by strided sums: several times faster than sums along two axes."""
    rows, columns = (size // block * block for size in grey.shape)
    total = np.zeros((rows // block, columns // block), np.float32)
    for down in range(block):
        for across in range(block):
            total += grey[down:rows:block, across:columns:block]
    return np.asarray(total / block**2, np.float32)


def quality(stack: TissueStack, mounting: Mounting, looks: list[Look]) -> dict[str, Floats]:
    """[N] every factor of `FACTORS`, and their product as "quality"."""
    odd = oddness(corrected(mounting.fit, mounting.way))
    odd = np.where(np.isfinite(odd), odd, np.nan)
    step = area_steps(stack)
    stain, focus, pale = (np.array([getattr(one, name) for one in looks]) for name in ("stain", "focus", "pale"))
    found = {
        "fit": odd / _around(odd),
        "area": np.minimum(step, 1 / step),
        "tears": 1 - 5 * np.maximum(pale - np.nan_to_num(_around(pale)), 0),
        "stain": np.minimum(stain / _around(stain), _around(stain) / stain),
        "focus": focus / _around(focus),
        "light": np.where(stack.falloff > _LIGHT, 1 - stack.falloff, 1.0),
    }
    found = {name: np.clip(np.nan_to_num(values, nan=1.0), 0, 1) for name, values in found.items()}
    return {**found, "quality": np.prod(list(found.values()), axis=0)}


def _around(values: Floats) -> Floats:
    """[N] the median of the nine about each, of those that are known."""
    half = _AROUND // 2
    padded = np.pad(values, half, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _AROUND)
    known = np.isfinite(windows).any(axis=1)
    result = np.full(len(values), np.nan)
    result[known] = np.nanmedian(windows[known], axis=1)
    return np.where(result > 0, result, np.nan)

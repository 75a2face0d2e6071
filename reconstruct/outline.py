"""Where tissue ends on a section whose edges are not sharp.

A sharp edge is where density passes half of what lies next to it, whatever that is: layer I, cut white matter. On an
image that was averaged or taken out of focus (or cut through a map of probabilities), density falls over millimetres,
and half of white matter's density lies far outside of grey matter: sulci close, and the pale rim looks like white
matter all around the brain. There the edge is where density passes half of the darkest within reach of the blur.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from reconstruct.distance import to_background

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]


_REACH = 3.0  # a blurred edge rises over about this many times its softness
_SOFTER = (1.0, 1.5, 2.0, 2.5)  # steps in which edges are softer than is usual in the stack


def edge_softness(density: Image, limit: float, pixel_mm: float, smooth_mm: float) -> float:
    """Median of density over its slope, in mm, where density [H, W] passes `limit`; nan where it never does.

    About a pixel for sharp edges, at any step of density; of the order of the blur for soft ones.

    Args:
        smooth_mm: sd of the smoothing against noise.
    """
    _, found = _edges(density, limit, pixel_mm, smooth_mm)
    return float(np.median(found)) if len(found) else float("nan")


def _edges(density: Image, limit: float, pixel_mm: float, smooth_mm: float) -> tuple[Mask, NDArray[np.float64]]:
    """Pixels [H, W] just inside the limit, and their softness in mm, in their order."""
    soft = ndimage.gaussian_filter(density, smooth_mm / pixel_mm)
    inside = soft > limit
    edge = inside & ~ndimage.binary_erosion(inside)
    down, across = np.gradient(soft, pixel_mm)
    return edge, limit / np.maximum(np.hypot(down[edge], across[edge]), 1e-6)


@dataclass(frozen=True, kw_only=True, eq=False)
class SoftOutline:
    """Where tissue ends on a section with blurred edges, each [H, W].

    Args:
        level: density from which a pixel is tissue: half of the darkest within reach.
        rim: pixels above the limit of sharp edges that are no tissue.
        skin: pale pixels on the way from glass into grey matter, and in clefts between two banks: no white matter.
    """

    level: Image
    rim: Mask
    skin: Mask


def soft_outline(
    density: Image, limit: float, cut: float, pixel_mm: float, smooth_mm: float, soft_mm: float
) -> SoftOutline:
    """Part pale pixels into those that belong to glass and those that belong to white matter.

    Both are pale, and grey matter lies between them: a watershed on density, from glass and from the middle of white
    matter, gives every pale pixel to the side that it is reached from over less grey. What belongs to glass and hangs
    together with it through pale pixels is no tissue below half of the darkest within reach, and no white matter above.
    White matter next to grey is pale too, but grey matter lies before it; a pale piece within grey stays what it is.

    Args:
        density: [H, W] optical density.
        limit: half of white matter's density.
        cut: density between white and grey matter.
        smooth_mm: sd of the smoothing against noise.
        soft_mm: usual softness of the stack's edges; softer ones (cut aslant, more blurred) reach further.
    """
    from skimage.segmentation import watershed

    smooth = ndimage.gaussian_filter(density, smooth_mm / pixel_mm)
    # Blurred images hold nothing finer than the blur: half of it is a fine enough pixel to tell the basins apart.
    block = max(1, int(soft_mm / 2 / pixel_mm))
    rows, columns = (-(-size // block) * block for size in smooth.shape)
    grown = np.pad(smooth, [(0, rows - smooth.shape[0]), (0, columns - smooth.shape[1])], mode="edge")
    coarse = grown.reshape(rows // block, block, columns // block, block).mean((1, 3)).astype(np.float32)
    width = _REACH * soft_mm / pixel_mm / block
    edge, found = _edges(coarse, limit, pixel_mm * block, smooth_mm)
    weight = edge.astype(np.float32)
    weight[edge] *= np.clip(found, soft_mm, _SOFTER[-1] * soft_mm)
    own, all_ = (ndimage.gaussian_filter(field, width) for field in (weight, edge.astype(np.float32)))
    local = np.where(all_ > 1e-6, own / np.maximum(all_, 1e-6), soft_mm)
    level = np.full(coarse.shape, limit, np.float32)
    for factor in _SOFTER:
        darkest = ndimage.maximum_filter(coarse, 2 * max(1, round(width * factor)) + 1)
        level = np.where(local >= (factor - 0.25) * soft_mm, np.maximum(limit, 0.5 * darkest), level)
    glass = coarse <= limit
    core = (to_background(coarse < cut) > width) & (to_background(~glass) > width)
    markers = np.where(glass, 1, np.where(core, 2, 0)).astype(np.int32)
    light = watershed(coarse, markers, mask=glass | (coarse < 2 * cut)) == 1

    def fine(field: NDArray[np.generic]) -> NDArray[np.generic]:
        return field.repeat(block, 0).repeat(block, 1)[: smooth.shape[0], : smooth.shape[1]]

    def reached(pale: Mask) -> Mask:
        numbers, _ = ndimage.label(light & (pale | glass))
        lit = np.isin(numbers, np.unique(numbers[glass]))
        return np.asarray(fine(ndimage.binary_dilation(lit) if block > 1 else lit), bool)

    wanted = fine(level).astype(np.float32)
    inside = smooth > limit
    return SoftOutline(
        level=wanted, rim=reached(coarse < level) & (smooth < wanted) & inside,
        skin=reached(coarse < cut) & (smooth < cut) & inside,
    )  # fmt: skip

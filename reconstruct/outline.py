"""Where tissue ends on a section whose edges are not sharp.

A sharp edge is where density passes half of what lies next to it, whatever that is: layer I, cut white matter. On an
image that was averaged or taken out of focus (or cut through a map of probabilities), density falls over millimetres,
and half of white matter's density lies far outside of grey matter: sulci close, and the pale rim looks like white
matter all around the brain. There the edge is where density passes half of the darkest within reach of the blur.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from reconstruct.distance import to_background

Image = NDArray[np.float32]


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


def _edges(
    density: Image, limit: float, pixel_mm: float, smooth_mm: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Pixels [H, W] just inside the limit, and their softness in mm, in their order."""
    soft = ndimage.gaussian_filter(density, smooth_mm / pixel_mm)
    inside = soft > limit
    edge = inside & ~ndimage.binary_erosion(inside)
    down, across = np.gradient(soft, pixel_mm)
    return edge, limit / np.maximum(np.hypot(down[edge], across[edge]), 1e-6)


def soft_limit(
    density: Image, limit: float, pixel_mm: float, smooth_mm: float, soft_mm: float
) -> tuple[Image, NDArray[np.bool_]]:
    """Density from which a pixel is tissue, and which pixels above `limit` are not.

    Args:
        density: [H, W] optical density.
        limit: half of white matter's density.
        smooth_mm: sd of the smoothing against noise.
        soft_mm: usual softness of the stack's edges; softer ones (cut aslant, more blurred) reach further.

    Returns:
        [H, W] the larger of `limit` and half of the darkest within reach; [H, W] bool, pixels that are paler than that
        and reached from glass through such pixels: white matter next to grey is pale too, but grey matter lies before
        it.
    """
    edge, found = _edges(density, limit, pixel_mm, smooth_mm)
    weight = edge.astype(np.float32)
    weight[edge] *= np.clip(found, soft_mm, _SOFTER[-1] * soft_mm)
    width = _REACH * soft_mm / pixel_mm
    own, all_ = (ndimage.gaussian_filter(field, width) for field in (weight, edge.astype(np.float32)))
    local = np.where(all_ > 1e-6, own / np.maximum(all_, 1e-6), soft_mm)
    level = np.full(density.shape, limit, np.float32)
    for factor in _SOFTER:
        reach = max(1, round(width * factor))
        darkest = ndimage.maximum_filter(density, 2 * reach + 1)
        level = np.where(local >= (factor - 0.25) * soft_mm, np.maximum(limit, 0.5 * darkest), level)
    glass = density <= limit
    pale = (glass | (density < level)) & (to_background(~glass) <= _REACH * local / pixel_mm)
    numbers, _ = ndimage.label(pale)
    lit = np.unique(numbers[glass])
    return level, np.isin(numbers, lit[lit > 0]) & ~glass

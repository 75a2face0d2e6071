"""How dark white and grey matter are on a section, and in a stack."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

STAINED = 0.06
"""Optical density from which a pixel may be tissue."""

Image = NDArray[np.float32]


def stain_levels(density: Image, ratio: float, soft: bool = False) -> tuple[float, float]:
    """Optical density of white and of grey matter of a section.

    Two-class Otsu within tissue; where the two do not lie as in the rest of the stack (poles without white matter),
    grey is the upper quartile and white follows by the ratio of the stack.

    Args:
        density: [H, W].
        ratio: white over grey density of the stack.
        soft: edges are blurred, see `_soft_levels`.
    """
    if soft:
        white, grey = _soft_levels(density)
        return (white if 0.75 * ratio < white / grey < 1.33 * ratio else ratio * grey), grey
    white, grey = _two_levels(density)
    if not 0.6 * ratio < white / grey < 1.5 * ratio:
        tissue = density[density > STAINED]
        grey = float(np.percentile(tissue, 75)) if len(tissue) else 0.5
        white = ratio * grey
    return white, grey


def _soft_levels(density: Image) -> tuple[float, float]:
    """The same for blurred images: partial volumes make all between the two levels common, and the middle of either
    class lies too near to the other. White is the commonest density below Otsu's threshold, grey nearly the darkest.
    """
    from skimage.filters import threshold_otsu

    tissue = ndimage.uniform_filter(density, 3)
    tissue = tissue[tissue > 0.08]
    if len(tissue) < 100:
        return 0.1, 1.0
    cut = float(threshold_otsu(tissue))
    grey = float(np.percentile(tissue[tissue >= cut], 98))
    low = tissue[(tissue < cut) & (tissue > 0.2 * grey)]
    if len(low) < 100:
        return grey / 3, grey
    counts, edges = np.histogram(low, bins=40)
    top = int(np.argmax(ndimage.gaussian_filter1d(counts.astype(float), 1.5)))
    return float(edges[top : top + 2].mean()), grey


def _two_levels(density: Image) -> tuple[float, float]:
    from skimage.filters import threshold_otsu

    smooth = ndimage.uniform_filter(density, 3)
    tissue = smooth[smooth > 0.08]
    if len(tissue) < 100:
        return 0.1, 1.0
    cut = threshold_otsu(tissue)
    low, high = tissue[tissue < cut], tissue[tissue >= cut]
    inner = low[low > 0.5 * np.median(low)]
    return float(np.median(inner)), float(np.median(high))


def stack_ratio(densities: list[Image], soft: bool = False) -> float:
    """White over grey density, median of the sections, the large ones counting."""
    area = np.array([(density > STAINED).sum() for density in densities])
    large = np.flatnonzero(area >= np.median(area))
    levels = _soft_levels if soft else _two_levels
    ratios = [np.divide(*levels(densities[k])) for k in large[:: max(1, len(large) // 15)]]
    return float(np.median(ratios))

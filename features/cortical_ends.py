"""Where lines across the cortex enter and leave it, as the section shows: at glass, and at white matter.

Surfaces of a reconstructed mesh lie some tenths of a millimetre off, which is the width of a layer. n nodes, J samples
along a line, L parallel lines. Depths are in units of the mesh's cortex: 0 at its pial surface, 1 at its white one.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.floating]
REACH = 0.4  # how far beyond either surface lines are read, and how far an end may lie from it
SMOOTH_DEPTH, SMOOTH_LINES = 0.19, 3  # what is averaged before an end is looked for: share of the cortex, lines
LEAST_CONTRAST = 0.1  # in units of the cortex' median; below it white matter is not told from the innermost layers


@dataclass(frozen=True, slots=True)
class EndLevels:
    """Densities of a section that its cortex ends at.

    Args:
        pial: halfway between the outermost layers and glass.
        white: halfway between the innermost layers and white matter; None where the two are too much alike.
        least: of white matter; where less follows in its place it is glass, and the end a tear.
    """

    pial: float
    white: float | None
    least: float

    @staticmethod
    def of(smooth: Floats, depth: Floats) -> "EndLevels":
        """Levels of smoothed lines [n, J, L] at depths [J]."""
        outer, inner, beyond = (
            float(np.median(smooth[:, (depth > a) & (depth < b)]))
            for a, b in ((0.1, 0.25), (0.75, 0.9), (1.2, 1 + REACH))
        )
        return EndLevels(outer / 2, None if inner - beyond < LEAST_CONTRAST else (inner + beyond) / 2, beyond / 2)


def smoothed(density: Floats, depth: Floats, lines: int = SMOOTH_LINES) -> Floats:
    """Lines [n, J, L] as ends are looked for: averaged over SMOOTH_DEPTH of the cortex and so many lines."""
    # Odd: an even window is shifted by half a sample.
    size = (1, 2 * round(SMOOTH_DEPTH / (depth[1] - depth[0]) / 2) + 1, lines)
    return np.asarray(ndimage.uniform_filter(density, size, mode="nearest"))


def seen_ends(smooth: Floats, depth: Floats, levels: EndLevels) -> tuple[Floats, Floats]:
    """Depths [n, L] of the pial and of the white end of every line.

    The end of a line is the crossing of the section's level that lies nearest to where the mesh says. Where a line
    shows no end, the median of the node's lines stands for it, and where none of these does, the mesh's own.

    Args:
        smooth: [n, J, L] of nodes of one section, `smoothed`, as a multiple of the median of its cortex.
        depth: [J] in equal steps from -REACH to 1 + REACH.
        levels: of the section.
    """
    pial = _nearest(smooth, depth, levels.pial, 0.0, outward=-1)
    if levels.white is None:
        return pial, np.ones_like(pial)
    return pial, _nearest(smooth, depth, levels.white, 1.0, outward=1, least=levels.least)


def _nearest(
    density: Floats, depth: Floats, level: float, expected: float, outward: int, least: float = -np.inf
) -> Floats:
    """Depths [n, L] nearest to the expected one at which density falls below the level on the way outward.

    Args:
        least: density that what follows outward has, or it is no end.
    """
    step = depth[1] - depth[0]
    inner = density[:, 1:-1]
    outer = density[:, 2:] if outward > 0 else density[:, :-2]
    found = depth[1:-1, None] + outward * step * (inner - level) / np.maximum(inner - outer, 1e-6)
    away = np.where((inner >= level) & (outer < level), np.abs(found - expected), np.inf)
    best = away.argmin(1)[:, None]
    here = np.take_along_axis(found, best, 1)[:, 0]
    here[np.take_along_axis(away, best, 1)[:, 0] > REACH] = np.nan
    after = np.clip(best + 1 + outward * round(SMOOTH_DEPTH / step), 0, len(depth) - 1)
    here[np.take_along_axis(density, after, 1)[:, 0] < least] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a node none of whose lines shows an end
        middle = np.nanmedian(here, axis=1, keepdims=True)
    here = np.where(np.isnan(here), middle, here)
    return np.where(np.isnan(here), expected, here)


def between_ends(density: Floats, depth: Floats, pial: Floats, white: Floats, count: int) -> Floats:
    """[n, count, L] at equal steps from end to end of every line, linear between samples.

    Args:
        density, depth: as for `seen_ends`.
        pial, white: [n, L] depths of the ends.
    """
    share = ((np.arange(count) + 0.5) / count)[:, None]
    place = (pial[:, None] + share * (white - pial)[:, None] - depth[0]) / (depth[1] - depth[0])
    place = np.clip(place, 0, len(depth) - 1.001)
    first = place.astype(np.int64)
    rest = (place - first).astype(density.dtype)
    above, below = (np.take_along_axis(density, first + k, 1) for k in (0, 1))
    return np.asarray(above + rest * (below - above))

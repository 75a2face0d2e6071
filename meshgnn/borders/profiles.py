"""Depth profiles along a section's ribbon, and the ten numbers that tell their shape."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from meshgnn.borders.ribbon import RibbonLine
from meshgnn.errors import InputError
from meshgnn.source.background import background_grey, frame_of
from meshgnn.source.sections import Section, open_section

Floats = NDArray[np.float64]
WANTED_UM = 25.0  # pixels are averaged to at most this width: fine enough for layers, and any section fits memory
GLASS = 0.15  # a sample with less than this share of the section's upper quartile of density is no tissue
KNOWN = 0.8  # share of a profile's samples that must be tissue
SMOOTH = 1 / 32  # of the depth: sd of the Gaussian that profiles are smoothed by before they are differentiated
FEATURES = tuple(f"{name}{of}" for of in ("", "_of_slope") for name in ("mean", "centre", "sd", "skewness", "kurtosis"))


def section_density(section: Section) -> tuple[NDArray[np.float32], int]:
    """Optical density log(background / grey) of a section, and how many of its pixels make one of these.

    A factor of the grey values changes nothing.

    Raises:
        InputError: an image that cannot be read, or is dark where there is no tissue.
    """
    block = max(1, int(WANTED_UM / section.pixel_um + 1e-6))
    with open_section(section) as image:
        grey = image.reduced(min(block, *image.shape))
    glass = background_grey(frame_of(grey))
    if not glass > 0:
        raise InputError(f"{section.path}: the frame is black; dark tissue on bright glass is expected")
    return -np.log(np.maximum(grey, glass / 250) / np.float32(glass)).astype(np.float32), block


def line_profiles(
    density: NDArray[np.float32], block: int, line: RibbonLine, *, depths: int, pieces: int
) -> tuple[Floats, NDArray[np.bool_]]:
    """Profiles [N // pieces, depths] from pial to white, means of `pieces` neighbouring lines, and which are known.

    Args:
        density, block: of `section_density`.
        line: of N places.
    """
    share = (np.arange(depths) + 0.5) / depths
    points = line.pial_px[:, None] * (1 - share)[:, None] + line.white_px[:, None] * share[:, None]
    row, column = np.moveaxis((points - (block - 1) / 2) / block, -1, 0)
    found = ndimage.map_coordinates(density, [row, column], order=1, mode="constant", cval=0)
    found = found.reshape(-1, pieces, depths)
    upper = np.percentile(density[density > 0.05], 75) if (density > 0.05).any() else np.inf
    tissue = found > GLASS * upper
    count = tissue.sum(1)
    profile = np.where(tissue, found, 0).sum(1) / np.maximum(count, 1)
    good = count >= pieces / 2
    known = good.mean(1) >= KNOWN
    depth = np.arange(depths)
    for k in np.flatnonzero(known & ~good.all(1)):
        profile[k] = np.interp(depth, depth[good[k]], profile[k, good[k]])
    return profile.astype(np.float64), known


def level_profiles(profiles: Floats) -> Floats:
    """Profiles of one section moved and scaled to its own 1st and 99th percentile, and cut at 0.

    Moments treat a profile as a distribution, which an offset of the grey values would change: after this no
    offset or factor of all profiles changes any feature. Constant profiles become 0.
    """
    if not len(profiles):
        return profiles
    low, high = np.percentile(profiles, [1, 99])
    return np.maximum((profiles - low) / (high - low), 0) if high > low else np.zeros_like(profiles)


def shape_features(profiles: Floats) -> Floats:
    """Ten features [N, 10] of profiles [N, D], which are not negative (Schleicher et al. 1999; names in `FEATURES`).

    Mean, centre of gravity, standard deviation, skewness and kurtosis of the profile, taken as a distribution over
    depth from 0 to 1, and of the absolute value of its first derivative. Where a profile is 0 throughout, or its mass
    lies in one place, the moments that do not exist are 0.
    """
    wide = ndimage.gaussian_filter1d(profiles, SMOOTH * profiles.shape[1], axis=1, mode="nearest")
    slope = np.abs(np.gradient(wide, 1 / profiles.shape[1], axis=1))
    return np.concatenate([_moments(profiles), _moments(slope)], axis=1)


def _moments(weight: Floats) -> Floats:
    """[N, 5]."""
    depth = (np.arange(weight.shape[1]) + 0.5) / weight.shape[1]
    total = weight.sum(1)
    share = np.divide(weight, total[:, None], out=np.zeros_like(weight), where=total[:, None] > 0)
    centre = share @ depth
    away = depth[None] - centre[:, None]
    spread = np.sqrt((share * away**2).sum(1))
    safe = np.where(spread > 1e-9, spread, np.inf)
    skew, kurtosis = ((share * away**k).sum(1) / safe**k for k in (3, 4))
    return np.stack([weight.mean(1), centre, spread, skew, kurtosis], axis=1)

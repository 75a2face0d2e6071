"""How high distances rise along a series without a border: surrogates that keep the spectra and lose the place.

Every series is taken apart into waves, and all its features get the same random phases (Prichard & Theiler 1994, Phys
Rev Lett 73:951): each surrogate has the spectra and cross-spectra of the series, thus its autocorrelation, but nothing
that happens at one place. What rises above their maxima is more than slow change along the cortex. Borders are in the
spectra, too: that makes the comparison strict, the more so the more borders there are.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

Floats = NDArray[np.float64]


def surrogate(features: Floats, rng: np.random.Generator) -> Floats:
    """[N, p] of the same means, spectra and cross-spectra as a series [N, p], its phases drawn anew.

    The series is joined to its mirror image first, so that its ends make no step.
    """
    mean = features.mean(0)
    waves = np.fft.rfft(np.concatenate([features, features[::-1]]) - mean, axis=0)
    waves *= np.exp(2j * np.pi * rng.random(len(waves)))[:, None]
    waves[0] = 0
    waves[-1] = np.abs(waves[-1])  # the highest frequency of an even number of samples is real
    return mean + np.fft.irfft(waves, n=2 * len(features), axis=0)[: len(features)]


def summits(height: Floats, reach: int) -> tuple[NDArray[np.intp], Floats]:
    """Places of the largest value within `reach` on either side, and these values; NaN is no height."""
    known = np.where(np.isfinite(height), height, -np.inf)
    if not len(known):
        return np.zeros(0, np.intp), known
    top = maximum_filter1d(known, 2 * reach + 1, mode="constant", cval=-np.inf)
    places = np.flatnonzero((known == top) & np.isfinite(known))
    return places, known[places]


def chances(heights: Floats, null: Floats) -> Floats:
    """[M] share of the null's maxima that are at least as high, themselves counted in (Phipson & Smyth 2010)."""
    above = len(null) - np.searchsorted(np.sort(null), heights, side="left")
    return (above + 1) / (len(null) + 1)


def adjusted(p: Floats) -> Floats:
    """[M] p values after Benjamini & Hochberg (1995): below q, a share q of what is kept is expected to be false."""
    order = np.argsort(p)
    ranked = p[order] * len(p) / (np.arange(len(p)) + 1)
    result = np.empty(len(p))
    result[order] = np.minimum(np.minimum.accumulate(ranked[::-1])[::-1], 1)
    return result


def lowest_near(places: Sequence[int], summit: NDArray[np.intp], values: Floats, reach: int) -> Floats:
    """The lowest of the values [M] at summits within `reach` of each place; 1 where there is none."""
    near = np.abs(np.subtract.outer(np.asarray(places, np.intp), summit)) <= reach
    return np.where(near, values, 1.0).min(1, initial=1.0)

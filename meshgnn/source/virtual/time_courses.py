"""Signals of resting brains: noise of low frequencies with a peak, as the blood shows it, and what a scanner adds."""

import numpy as np

from meshgnn.source.virtual.fields import Floats

CORNER_HZ = 0.02  # above it the background falls off
WIDTH_HZ = 0.008  # of a peak
MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
RADIUS_MM = 50.0  # of the head, by which an angle is a way


def haemodynamic(tr_s: float, length_s: float = 30.0) -> Floats:
    """The response of the blood to a short event, one value per frame: two gamma functions with the constants of Glover
    (1999, doi:10.1006/nimg.1998.0419), sum 1."""
    time = np.arange(0, length_s, tr_s)
    rise = (time / 5.4) ** 6 * np.exp(-(time - 5.4) / 0.9)
    fall = (time / 10.8) ** 12 * np.exp(-(time - 10.8) / 0.9)
    response = rise - 0.35 * fall
    return np.asarray(response / response.sum())


def amplitudes(peak_hz: Floats, frames: int, tr_s: float, share: float = 0.5) -> Floats:
    """[K, F] amplitude by frequency of signals with these peaks [K], before `coloured` draws them; mean power 1.

    Args:
        frames: of the signals; F = frames + 1 frequencies, since twice as many frames are drawn.
        share: of the power in the peak; the rest is a background that falls off.
    """
    hz = np.fft.rfftfreq(2 * frames, tr_s)
    blood = np.abs(np.fft.rfft(haemodynamic(tr_s), 2 * frames))
    background = (blood / (1 + (hz / CORNER_HZ) ** 2)) ** 2
    background[0] = 0
    peak = np.exp(-((hz - np.asarray(peak_hz)[:, None]) ** 2) / (2 * WIDTH_HZ**2))
    peak[:, 0] = 0
    power = share * peak / peak.sum(1, keepdims=True) + (1 - share) * background / background.sum()
    return np.asarray(np.sqrt(power))


def coloured(rng: np.random.Generator, amplitude: Floats, frames: int) -> Floats:
    """[K, frames] normal noise of these amplitudes [K, F], of variance 1. Cut out of twice its length: it has a
    beginning and an end that do not meet."""
    drawn = rng.standard_normal((2, *amplitude.shape))
    whole = np.fft.irfft((drawn[0] + 1j * drawn[1]) * amplitude, 2 * frames, axis=1)
    return np.asarray(whole[:, :frames] * (frames / np.sqrt((amplitude**2).sum(1, keepdims=True)))[:, :1])


def motion(rng: np.random.Generator, frames: int, size_mm: float) -> Floats:
    """[frames, 6] shifts in mm and turns in radians of a head that wanders and now and then jerks; 0 on average.

    Args:
        size_mm: standard deviation of a shift; turns move the rim of the head as far.
    """
    steps = rng.standard_normal((frames, 6))
    jerks = (rng.random((frames, 1)) < 0.03) * rng.standard_normal((frames, 6)) * 4
    way = np.zeros((frames, 6))
    for k in range(1, frames):
        way[k] = 0.95 * way[k - 1] + steps[k] + jerks[k]
    way -= way.mean(0)
    way *= size_mm / np.maximum(way.std(0), 1e-9)
    way[:, 3:] /= RADIUS_MM
    return way


def drifts(frames: int) -> Floats:
    """[frames, 3] a line and two slow cosines, of variance 1."""
    time = (np.arange(frames) + 0.5) / frames
    found = np.stack([time - 0.5, np.cos(np.pi * time), np.cos(2 * np.pi * time)], axis=1)
    return np.asarray(found / np.maximum(found.std(0), 1e-9))

"""The grey of an image's background: bare slide, without tissue. Two rules, for two kinds of images.

The median of the frame, where the whole image is at hand: reconstruction, depth profiles, the page. The brightest hump
of the histogram, for sections far too large to be read whole, of which tiles are sampled all over the image; a frame
may also be cropped into tissue. They differ by a few grey values, so that one may not stand for the other without
changing the embeddings.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def frame_of(grey: NDArray[np.generic]) -> list[NDArray[np.generic]]:
    """Outermost rows and columns of an image."""
    return [grey[0], grey[-1], grey[:, 0], grey[:, -1]]


def background_grey(frame: Sequence[NDArray[np.generic]]) -> float:
    """Grey value of the background: the median of the frame's pixels.

    Args:
        frame: outermost rows and columns; see `frame_of`.
    """
    return float(np.median(np.concatenate([side.ravel() for side in frame]).astype(np.float64)))


def brighter_than_glass(grey: NDArray[Any], background: float) -> bool:
    """Whether much of an image [H, W] outshines its background: bright tissue on dark ground, or very uneven light."""
    return bool((grey > 1.3 * background).mean() > 0.05)


def brightest_hump(pixels: NDArray[np.float64]) -> float:
    """Grey value of the background: the brightest hump of the histogram, climbed from the brightest well-filled bin.

    Args:
        pixels: a sample of the image, finite, of at least two values.
    """
    counts, edges = np.histogram(pixels, bins=128)
    heavy = np.flatnonzero(counts >= 0.02 * counts.sum())
    top = int(heavy[-1]) if len(heavy) else int(counts.argmax())
    while top > 0 and counts[top - 1] > counts[top]:
        top -= 1
    near = pixels[(pixels >= edges[max(top - 1, 0)]) & (pixels <= edges[min(top + 2, 128)])]
    return max(float(np.median(near)), 1e-6)

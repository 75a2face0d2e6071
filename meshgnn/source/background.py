"""The grey of an image's background: bare slide, without tissue.

The rule is the median of the frame. `features/section_cache.py` reads sections far too large for their frame to be
trusted alone (a frame may be cropped into tissue) and takes the brightest hump of the histogram instead: the two rules
differ by a few grey values, so that one may not stand for the other without changing the embeddings.
"""

from collections.abc import Sequence

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

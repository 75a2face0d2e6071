"""Raw pixels of patches, the features that any encoder must beat. numpy only."""

import numpy as np
from numpy.typing import NDArray

MOST_PIXELS = 4096  # of a patch, that principal components are taken of


def raw_pixels(patches: NDArray[np.float32]) -> NDArray[np.float32]:
    """[B, P] pixels of patches [B, rows, columns]; of large ones means over squares, the smallest that leave at most
    `MOST_PIXELS`."""
    count, tall, wide = patches.shape
    side = int(np.ceil(np.sqrt(tall * wide / MOST_PIXELS)))
    if side == 1:
        return patches.reshape(count, -1)
    whole = patches[:, : tall // side * side, : wide // side * side]
    return whole.reshape(count, tall // side, side, wide // side, side).mean((2, 4)).reshape(count, -1)

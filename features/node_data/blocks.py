"""Nodes that lie near each other in space, as groups that are held out together."""

import numpy as np
from numpy.typing import NDArray


def blocks(points_mm: NDArray[np.floating], side_mm: float) -> NDArray[np.int32]:
    """[V] number of the cube of a grid of this side that each point lies in."""
    cells = np.floor((points_mm - points_mm.min(0)) / side_mm).astype(np.int64)
    _, number = np.unique(cells, axis=0, return_inverse=True)
    return number.ravel().astype(np.int32)

"""Values of a volume between its voxels."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def sampled(
    values: NDArray[np.floating], voxels: NDArray[np.floating]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Trilinear interpolation; a point outside takes the nearest value of the border.

    Args:
        values: [X, Y, Z].
        voxels: [..., 3] places in voxels; 0 is the centre of the first one.

    Returns:
        Values [...], and whether each point lies between the centres of the outermost voxels.
    """
    inside = ((voxels >= 0) & (voxels <= np.array(values.shape) - 1)).all(-1)
    found = ndimage.map_coordinates(values, voxels.reshape(-1, 3).T, order=1, mode="nearest", output=np.float32)
    return found.reshape(voxels.shape[:-1]), np.asarray(inside)

"""Section images sampled in the common frame."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Frames:
    """Level images with what is needed to sample them in the common frame.

    Args:
        images: [N, 2, h, w].
        offset: [N, 2] mm (row, column) of pixel (0, 0) in the section image.
        step: side of a pixel in mm.
        half: [2] pixel (row, column) that lies at 0, 0 of the common frame.
        position: [N] along the cutting axis.
        workers: sections worked on side by side.
    """

    def __init__(
        self, images: NDArray[np.float32], offset: Floats, step: float, half: Floats, position: Floats, workers: int = 1
    ) -> None:
        self.workers = workers
        self.images, self.offset, self.step, self.half, self.position = images, offset, step, half, position
        index = np.indices(images.shape[2:]).astype(np.float64)
        self.grid = np.moveaxis((index - half[:, None, None]) * step, 0, -1)  # [h, w, 2] mm

    def places(self, k: int, matrix: Floats) -> Floats:
        """[2, h, w] pixel coordinates in image k of the common frame's grid."""
        at = self.grid @ matrix[:, :2].T + matrix[:, 2]
        return np.moveaxis((at - self.offset[k]) / self.step, -1, 0)

    def sample_one(self, k: int, matrix: Floats) -> NDArray[np.float32]:
        """Image k [2, h, w] as it lies in the common frame by a matrix [2, 3]."""
        out = np.empty_like(self.images[k])
        _resample(self.images[k], matrix, self.offset[k], self.step, self.half, out)
        return out

    def sample(self, matrices: Floats) -> NDArray[np.float32]:
        """The images [N, 2, h, w] as they lie in the common frame; beyond an image its border value."""
        out = np.empty_like(self.images)

        def one(k: int) -> None:
            _resample(self.images[k], matrices[k], self.offset[k], self.step, self.half, out[k])

        with ThreadPoolExecutor(max(1, self.workers)) as pool:
            list(pool.map(one, range(len(self.images))))
        return out


@njit(cache=True, nogil=True)
def _resample(image, matrix, offset, step, half, out):
    channels, height, width = image.shape
    for r in range(out.shape[1]):
        y = (r - half[0]) * step
        for c in range(out.shape[2]):
            x = (c - half[1]) * step
            pr = (matrix[0, 0] * y + matrix[0, 1] * x + matrix[0, 2] - offset[0]) / step
            pc = (matrix[1, 0] * y + matrix[1, 1] * x + matrix[1, 2] - offset[1]) / step
            pr, pc = min(max(pr, 0.0), height - 1.0), min(max(pc, 0.0), width - 1.0)
            i, j = int(pr), int(pc)
            a, b = min(i + 1, height - 1), min(j + 1, width - 1)
            fr, fc = pr - i, pc - j
            for k in range(channels):
                low = image[k, i, j] * (1 - fc) + image[k, i, b] * fc
                high = image[k, a, j] * (1 - fc) + image[k, a, b] * fc
                out[k, r, c] = low * (1 - fr) + high * fr


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Dice overlap of two masks."""
    return float(2 * (one & other).sum() / max(1, one.sum() + other.sum()))


def block_means(image: NDArray[np.float32], block: int, fill: float) -> NDArray[np.float32]:
    """Means [h, w] over blocks of an image [H, W]; blocks that reach beyond it are filled up."""
    rows, columns = (-(-size // block) for size in image.shape)
    grow = [(0, rows * block - image.shape[0]), (0, columns * block - image.shape[1])]
    padded = np.pad(image, grow, constant_values=fill)
    return np.asarray(padded.reshape(rows, block, columns, block).mean((1, 3)), np.float32)

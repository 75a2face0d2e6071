"""Section images sampled in the common frame, and what neighbours say a section should look like."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_CUBIC = 0.6  # share of cubic interpolation in the prediction: less bias by curvature, more noise


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


def predicted(moved: NDArray[np.float32], position: Floats, k: int, width_mm: float) -> NDArray[np.float32]:
    """What the sections around section k say it should look like [2, h, w]: a line fitted through their levels.

    Weights fall with distance; with neighbours on both sides this is interpolation, at the ends extrapolation to the
    nearest one.
    """
    away = position - position[k]
    weight = np.exp(-0.5 * (away / width_mm) ** 2)
    weight[k] = 0
    near = np.argsort(np.abs(away))[1:5]
    near = near[np.abs(away[near]) < 3.5 * width_mm] if (np.abs(away[near]) < 3.5 * width_mm).any() else near[:1]
    w, x = weight[near], away[near]
    if (x > 0).sum() == 2 and (x < 0).sum() == 2:
        full = np.array([np.prod([x[j] / (x[j] - x[i]) for j in range(4) if j != i]) for i in range(4)])
        line = w * ((w * x * x).sum() - (w * x).sum() * x)
        w = _CUBIC * full + (1 - _CUBIC) * line / line.sum()
    elif (x > 0).any() and (x < 0).any():
        s0, s1, s2 = w.sum(), (w * x).sum(), (w * x * x).sum()
        w = w * (s2 - s1 * x) / max(s0 * s2 - s1 * s1, 1e-12)
    else:
        w = (np.abs(x) == np.abs(x).min()).astype(float)
    shares = (w / w.sum()).astype(np.float32)
    result = shares[0] * moved[near[0]]
    for share, other in zip(shares[1:], near[1:]):
        result += share * moved[other]
    return result

"""Smooth displacements of sections: regularised optical flow on a coarse grid."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from reconstruct.frames import Frames, predicted
from reconstruct.poses import smooth_along

Floats = NDArray[np.float64]


def no_warp(axes: list[Floats], spacing: float, count: int) -> tuple[Floats, Floats]:
    sizes = [int(np.ceil((axis[-1] - axis[0]) / spacing)) + 1 for axis in axes]
    return np.zeros((count, 2, *sizes)), np.array([axis[0] for axis in axes])


def warp_round(
    work: Frames, matrices: Floats, warp: Floats, origin: Floats, spacing: float, stiffness: float
) -> Floats:
    """One round of the smooth displacement: regularised optical flow on the coarse grid, half of it applied."""
    moved = work.sample(matrices, warp, origin, spacing)
    width = 1.2 * float(np.median(np.diff(work.position)))
    sizes = warp.shape[2:]
    rows = (work.grid[:, 0, 0] - origin[0]) / spacing
    columns = (work.grid[0, :, 1] - origin[1]) / spacing
    smoothness = _stiffness(sizes)
    result = warp.copy()
    for k in range(len(moved)):
        reference = predicted(moved, work.position, k, width)
        h, b = _flow_equations(reference, moved[k], work.step, rows, columns, sizes[0], sizes[1], 1.0)
        scale = stiffness * np.trace(h) / max(1, (np.diag(h) > 0).sum())
        regular = np.kron(np.eye(2), scale * (smoothness + 0.02 * np.eye(len(smoothness))))
        field = np.linalg.solve(h + regular + 1e-9 * np.eye(len(h)), b).reshape(2, *sizes)
        # A step in the common frame becomes one in the section's frame.
        result[k] += 0.5 * np.tensordot(matrices[k][:, :2], field, axes=1)
    return result


def _stiffness(sizes: tuple[int, ...]) -> Floats:
    """Squared first differences on a grid, [M, M]."""
    number = np.arange(sizes[0] * sizes[1]).reshape(sizes)
    pairs = [(number[1:].ravel(), number[:-1].ravel()), (number[:, 1:].ravel(), number[:, :-1].ravel())]
    matrix = np.zeros((number.size, number.size))
    for a, b in pairs:
        np.add.at(matrix, (a, a), 1)
        np.add.at(matrix, (b, b), 1)
        np.add.at(matrix, (a, b), -1)
        np.add.at(matrix, (b, a), -1)
    return matrix


@njit(cache=True, nogil=True)
def _flow_equations(reference, image, step, at_rows, at_columns, n_rows, n_columns, scale):
    """Normal equations of a bilinear displacement field: [2M, 2M], [2M], rows of the field first."""
    m = n_rows * n_columns
    h, b = np.zeros((2 * m, 2 * m)), np.zeros(2 * m)
    node, share = np.empty(4, np.int64), np.empty(4)
    channels, rows, columns = reference.shape
    for r in range(1, rows - 1):
        i = min(int(at_rows[r]), n_rows - 2)
        fr = at_rows[r] - i
        for c in range(1, columns - 1):
            j = min(int(at_columns[c]), n_columns - 2)
            fc = at_columns[c] - j
            node[0], node[1] = i * n_columns + j, i * n_columns + j + 1
            node[2], node[3] = node[0] + n_columns, node[1] + n_columns
            share[0], share[1], share[2], share[3] = (1 - fr) * (1 - fc), (1 - fr) * fc, fr * (1 - fc), fr * fc
            for channel in range(channels):
                gr = (image[channel, r + 1, c] - image[channel, r - 1, c]) / (2 * step)
                gc = (image[channel, r, c + 1] - image[channel, r, c - 1]) / (2 * step)
                if gr == 0 and gc == 0:
                    continue
                residual = reference[channel, r, c] - image[channel, r, c]
                weight = 1.0 / (1.0 + (residual / scale) ** 2)
                for p in range(4):
                    b[node[p]] += weight * share[p] * gr * residual
                    b[m + node[p]] += weight * share[p] * gc * residual
                    for q in range(4):
                        w = weight * share[p] * share[q]
                        h[node[p], node[q]] += w * gr * gr
                        h[node[p], m + node[q]] += w * gr * gc
                        h[m + node[p], node[q]] += w * gr * gc
                        h[m + node[p], m + node[q]] += w * gc * gc
    return h, b


def slow_part_off(warp: Floats, position: Floats, width_mm: float) -> Floats:
    return warp - smooth_along(warp, position, width_mm)

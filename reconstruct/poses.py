"""Planar transforms of sections: small updates, and the system that finds them.

An update is [6]: row shift, row per row, row per column, column shift, column per row, column per column.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]


RIGID = np.array([[1, 0, 0], [0, 0, 0], [0, 0, -1], [0, 1, 0], [0, 0, 1], [0, 0, 0]], float)
"""[6, 3] updates that shift rows, shift columns, and turn."""


def solve(h: Floats, b: Floats) -> Floats:
    """The shift and turn [6] that solve a system of `normal_equations` best."""
    left = RIGID.T @ h @ RIGID
    return RIGID @ np.linalg.solve(left + 1e-6 * np.trace(left) * np.eye(3), RIGID.T @ b)


def compose(matrix: Floats, update: Floats) -> Floats:
    """Matrix after a small update of the common frame; near-rotations are kept rotations."""
    small = np.eye(2) + np.array([[update[1], update[2]], [update[4], update[5]]])
    if update[1] == 0 and update[5] == 0 and update[2] == -update[4]:
        c, s = np.cos(update[4]), np.sin(update[4])
        small = np.array([[c, -s], [s, c]])
    shift = np.array([update[0], update[3]])
    return np.column_stack([matrix[:, :2] @ small, matrix[:, :2] @ shift + matrix[:, 2]])


def relative(start: Floats, end: Floats) -> Floats:
    """The update [6] that takes `start` to `end`."""
    inverse = np.linalg.inv(start[:, :2])
    small = inverse @ end[:, :2] - np.eye(2)
    shift = inverse @ (end[:, 2] - start[:, 2])
    angle = (small[1, 0] - small[0, 1]) / 2
    if np.allclose(small + np.eye(2), [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], atol=1e-4):
        return np.array([shift[0], 0, -angle, shift[1], angle, 0])
    return np.array([shift[0], small[0, 0], small[0, 1], shift[1], small[1, 0], small[1, 1]])


@njit(cache=True, nogil=True)
def normal_equations(reference, image, matrix, offset, step, half, scale):
    """Gauss-Newton system [6, 6], [6] of one section against its reference, with robust (Cauchy) weights."""
    channels, rows, columns = reference.shape
    height, width = image.shape[1], image.shape[2]
    h, b = np.zeros((6, 6)), np.zeros(6)
    jacobian = np.empty(6)
    for r in range(rows):
        y = (r - half[0]) * step
        for c in range(columns):
            x = (c - half[1]) * step
            pr = (matrix[0, 0] * y + matrix[0, 1] * x + matrix[0, 2] - offset[0]) / step
            pc = (matrix[1, 0] * y + matrix[1, 1] * x + matrix[1, 2] - offset[1]) / step
            i, j = int(np.floor(pr)), int(np.floor(pc))
            if i < 0 or j < 0 or i >= height - 1 or j >= width - 1:
                continue
            fr, fc = pr - i, pc - j
            for channel in range(channels):
                a00, a01 = image[channel, i, j], image[channel, i, j + 1]
                a10, a11 = image[channel, i + 1, j], image[channel, i + 1, j + 1]
                gr = ((a10 - a00) * (1 - fc) + (a11 - a01) * fc) / step
                gc = ((a01 - a00) * (1 - fr) + (a11 - a10) * fr) / step
                if gr == 0 and gc == 0:
                    continue
                value = (a00 * (1 - fc) + a01 * fc) * (1 - fr) + (a10 * (1 - fc) + a11 * fc) * fr
                residual = reference[channel, r, c] - value
                weight = 1.0 / (1.0 + (residual / scale) ** 2)
                down = gr * matrix[0, 0] + gc * matrix[1, 0]
                across = gr * matrix[0, 1] + gc * matrix[1, 1]
                jacobian[0], jacobian[1], jacobian[2] = down, down * y, down * x
                jacobian[3], jacobian[4], jacobian[5] = across, across * y, across * x
                for p in range(6):
                    b[p] += weight * jacobian[p] * residual
                    for q in range(p, 6):
                        h[p, q] += weight * jacobian[p] * jacobian[q]
    for p in range(6):
        for q in range(p):
            h[p, q] = h[q, p]
    return h, b

"""The kernel that turns windows of sections into patches."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


def sample_patches(
    window: NDArray[Any], row: NDArray[np.float64], column: NDArray[np.float64], angle: NDArray[np.floating],
    step: float, size: int, image: tuple[int, int, int, int], fill: float,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:  # fmt: skip
    """Bilinear patches around points of a window.

    Args:
        window: [H, W] pixels.
        row, column: [B] centres in window pixels.
        angle: [B] radians from the column axis towards the row axis; this direction points to the patch's first row.
        step: window pixels per patch pixel.
        size: patch side.
        image: first row, first column, rows, columns of the whole image in window pixels.
        fill: value outside the image.

    Returns:
        patches [B, size, size] float32, and where they lie inside the image.
    """
    out = np.empty((len(row), size, size), np.float32)
    inside = np.empty((len(row), size, size), np.bool_)
    _sample(window, row, column, np.cos(angle), np.sin(angle), float(step), image, np.float32(fill), out, inside)
    return out, inside


@njit(cache=True, nogil=True, fastmath=True)
def _sample(window, row, column, cosine, sine, step, image, fill, out, inside):
    height, width = window.shape
    top, left = max(image[0], 0), max(image[1], 0)
    bottom, right = min(image[0] + image[2], height), min(image[1] + image[3], width)
    size = out.shape[1]
    half = np.float32((size - 1) / 2)
    reach = int(np.ceil(size * step)) + 2
    for k in range(len(row)):
        # Offsets from a whole pixel near the patch: small numbers above 0, which float32 holds well in any window.
        base_y, base_x = int(np.floor(row[k])) - reach, int(np.floor(column[k])) - reach
        low_y, high_y = np.float32(top - base_y) - np.float32(0.5), np.float32(bottom - base_y) - np.float32(0.5)
        low_x, high_x = np.float32(left - base_x) - np.float32(0.5), np.float32(right - base_x) - np.float32(0.5)
        first_y, last_y = np.float32(top - base_y), np.float32(bottom - 1 - base_y)
        first_x, last_x = np.float32(left - base_x), np.float32(right - 1 - base_x)
        # Up in the patch is the normal (cos, sin); right is a quarter turn from it, so that nothing is mirrored.
        up_x, up_y = np.float32(cosine[k] * step), np.float32(sine[k] * step)
        x0 = np.float32(column[k] - base_x) + half * up_x + half * up_y
        y0 = np.float32(row[k] - base_y) + half * up_y - half * up_x
        wide = half * (abs(up_x) + abs(up_y))
        middle_x, middle_y = np.float32(column[k] - base_x), np.float32(row[k] - base_y)
        if (
            middle_x - wide > first_x + 1
            and middle_x + wide < last_x - 1
            and middle_y - wide > first_y + 1
            and middle_y + wide < last_y - 1
        ):  # nothing of the patch touches the border
            inside[k] = True
            for i in range(size):
                x_row, y_row = x0 - np.float32(i) * up_x, y0 - np.float32(i) * up_y
                for j in range(size):
                    x = x_row - np.float32(j) * up_y
                    y = y_row + np.float32(j) * up_x
                    r, c = np.int32(y), np.int32(x)
                    v, u = y - np.float32(r), x - np.float32(c)
                    r, c = r + base_y, c + base_x
                    left_top, right_top = np.float32(window[r, c]), np.float32(window[r, c + 1])
                    left_low, right_low = np.float32(window[r + 1, c]), np.float32(window[r + 1, c + 1])
                    upper = left_top + u * (right_top - left_top)
                    lower = left_low + u * (right_low - left_low)
                    out[k, i, j] = upper + v * (lower - upper)
            continue
        for i in range(size):
            x_row, y_row = x0 - np.float32(i) * up_x, y0 - np.float32(i) * up_y
            for j in range(size):
                x = x_row - np.float32(j) * up_y
                y = y_row + np.float32(j) * up_x
                within = y >= low_y and y <= high_y and x >= low_x and x <= high_x
                inside[k, i, j] = within
                if not within:
                    out[k, i, j] = fill
                    continue
                y = min(max(y, first_y), last_y)
                x = min(max(x, first_x), last_x)
                r, c = np.int32(y), np.int32(x)
                v, u = y - np.float32(r), x - np.float32(c)
                r, c = r + base_y, c + base_x
                r1, c1 = min(r + 1, bottom - 1), min(c + 1, right - 1)
                upper = np.float32(window[r, c]) + u * (np.float32(window[r, c1]) - np.float32(window[r, c]))
                lower = np.float32(window[r1, c]) + u * (np.float32(window[r1, c1]) - np.float32(window[r1, c]))
                out[k, i, j] = upper + v * (lower - upper)


@njit(cache=True, nogil=True)
def block_means(pixels, factor, out):
    """Means of `factor` x `factor` pixels [H, W] into out [ceil(H / factor), ceil(W / factor)]; the rim has fewer."""
    height, width = pixels.shape
    for i in range(out.shape[0]):
        top, bottom = i * factor, min((i + 1) * factor, height)
        for j in range(out.shape[1]):
            left, right = j * factor, min((j + 1) * factor, width)
            total = np.float32(0)
            for r in range(top, bottom):
                for c in range(left, right):
                    total += np.float32(pixels[r, c])
            out[i, j] = total / np.float32((bottom - top) * (right - left))

"""The kernels that turn windows of sections into patches. Positions are fixed-point numbers (32 bits behind the point)
in their loops: whole part and fraction cost a shift and a mask, and no error adds up along a row."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

_ONE = float(1 << 32)
_FAST = {"contract", "reassoc", "arcp", "nsz"}  # values that are not finite keep their meaning
_RIM = 1e-4  # of a pixel, that a position may lie outside by rounding


def sample_patches(
    window: NDArray[Any], row: NDArray[np.float64], column: NDArray[np.float64], angle: NDArray[np.floating],
    step: float, image: tuple[int, int, int, int], fill: float, out: NDArray[np.float32],
    inside: NDArray[np.bool_] | None = None,
) -> None:  # fmt: skip
    """Bilinear patches around points of a window.

    Args:
        window: [H, W] pixels.
        row, column: [B] centres in window pixels.
        angle: [B] radians from the column axis towards the row axis; this direction points to the patch's first row.
        step: window pixels per patch pixel.
        image: first row, first column, rows, columns of the whole image in window pixels.
        fill: value outside the image.
        out: [B, size, size], the patches.
        inside: [B, size, size], becomes where they lie inside the image.
    """
    wanted = inside is not None
    marks = inside if inside is not None else np.empty((0, 0, 0), np.bool_)
    window = np.ascontiguousarray(window)
    _sample(window, row, column, np.cos(angle), np.sin(angle), float(step), image, np.float32(fill), out, marks, wanted)


@njit(cache=True, nogil=True, fastmath=_FAST)
def _sample(window, row, column, cosine, sine, step, image, fill, out, inside, wanted):
    height, width = window.shape
    top, left = max(image[0], 0), max(image[1], 0)
    bottom, right = min(image[0] + image[2], height), min(image[1] + image[3], width)
    size = out.shape[1]
    half = (size - 1) / 2
    part, one, flat = np.float32(1 / _ONE), np.uint64(1), window.ravel()
    for k in range(len(row)):
        # Up in the patch is the normal (cos, sin); right is a quarter turn from it, so that nothing is mirrored.
        up_x, up_y = cosine[k] * step, sine[k] * step
        first_y, first_x = row[k] + half * (up_y - up_x), column[k] + half * (up_x + up_y)
        wide = half * (abs(up_x) + abs(up_y))
        fixed_up_y, fixed_up_x = np.int64(round(up_y * _ONE)), np.int64(round(up_x * _ONE))
        if (
            row[k] - wide > top + 1
            and row[k] + wide < bottom - 2
            and column[k] - wide > left + 1
            and (column[k] + wide < right - 2)
        ):  # nothing of the patch touches the border
            if wanted:
                inside[k] = True
            for i in range(size):
                y = np.int64((first_y - i * up_y) * _ONE)
                x = np.int64((first_x - i * up_x) * _ONE)
                for j in range(size):
                    # Unsigned places: signed ones would be looked at for counting from the end.
                    place = np.uint64((y >> 32) * width + (x >> 32))
                    below = place + np.uint64(width)
                    v, u = np.float32(y & 0xFFFFFFFF) * part, np.float32(x & 0xFFFFFFFF) * part
                    left_top, right_top = np.float32(flat[place]), np.float32(flat[place + one])
                    left_low, right_low = np.float32(flat[below]), np.float32(flat[below + one])
                    upper = left_top + u * (right_top - left_top)
                    lower = left_low + u * (right_low - left_low)
                    out[k, i, j] = upper + v * (lower - upper)
                    y += fixed_up_x
                    x -= fixed_up_y
            continue
        for i in range(size):
            for j in range(size):
                y = first_y - i * up_y + j * up_x
                x = first_x - i * up_x - j * up_y
                within = (
                    y >= top - 0.5 - _RIM and y <= bottom - 0.5 + _RIM and x >= left - 0.5 - _RIM
                    and x <= right - 0.5 + _RIM
                )  # fmt: skip
                if wanted:
                    inside[k, i, j] = within
                if not within:
                    out[k, i, j] = fill
                    continue
                y = min(max(y, top), bottom - 1)
                x = min(max(x, left), right - 1)
                r, c = int(y), int(x)
                v, u = np.float32(y - r), np.float32(x - c)
                r1, c1 = min(r + 1, bottom - 1), min(c + 1, right - 1)
                upper = np.float32(window[r, c]) + u * (np.float32(window[r, c1]) - np.float32(window[r, c]))
                lower = np.float32(window[r1, c]) + u * (np.float32(window[r1, c1]) - np.float32(window[r1, c]))
                out[k, i, j] = upper + v * (lower - upper)


def corner_of(centre: float, size: int) -> tuple[int, float]:
    """Whole pixel and fraction of a lying patch's first row (or column), at the section's own resolution."""
    first = centre - (size - 1) / 2
    whole = int(np.floor(first + 1e-6))
    return whole, first - whole if first - whole > 1e-6 else 0.0


@njit(cache=True, nogil=True, fastmath=_FAST)
def cut(pixels, row, column, scale, out, top, left, rows, columns):
    """Pixels from (row, column) on, times `scale`, into rows x columns of out [H, W] from (top, left) on."""
    for i in range(rows):
        read, write = pixels[row + i][column : column + columns], out[top + i][left : left + columns]
        for j in range(len(write)):
            write[j] = np.float32(read[j]) * scale


@njit(cache=True, nogil=True)
def looked_up(pixels, row, column, table, out, top, left, rows, columns):
    """The same, each value as `table` has it."""
    for i in range(rows):
        read, write = pixels[row + i][column : column + columns], out[top + i][left : left + columns]
        for j in range(len(write)):
            write[j] = table[read[j]]


@njit(cache=True, nogil=True, fastmath=_FAST)
def shifted(window, row, column, down, across, out):
    """Pixels from (row + down, column + across) on, with fractions that are the same for all of them."""
    v, u = np.float32(down), np.float32(across)
    size = out.shape[1]
    for i in range(out.shape[0]):
        upper, lower, write = window[row + i][column:], window[row + i + 1][column:], out[i]
        for j in range(size):
            above = np.float32(upper[j]) + u * (np.float32(upper[j + 1]) - np.float32(upper[j]))
            below = np.float32(lower[j]) + u * (np.float32(lower[j + 1]) - np.float32(lower[j]))
            write[j] = above + v * (below - above)


@njit(cache=True, nogil=True, fastmath=_FAST)
def block_means(pixels, factor, out):
    """Means of `factor` x `factor` pixels [H, W] into out [ceil(H / factor), ceil(W / factor)]; the rim has fewer."""
    height, width = pixels.shape
    sums = np.empty(width, np.float32)
    full = width // factor
    for i in range(out.shape[0]):
        top, bottom = i * factor, min((i + 1) * factor, height)
        for c in range(width):
            sums[c] = np.float32(pixels[top, c])
        for r in range(top + 1, bottom):
            for c in range(width):
                sums[c] += np.float32(pixels[r, c])
        many = np.float32((bottom - top) * factor)
        if factor == 2:
            for j in range(full):
                out[i, j] = (sums[2 * j] + sums[2 * j + 1]) / many
        else:
            for j in range(full):
                total = np.float32(0)
                for c in range(j * factor, (j + 1) * factor):
                    total += sums[c]
                out[i, j] = total / many
        for j in range(full, out.shape[1]):
            total = np.float32(0)
            for c in range(j * factor, width):
                total += sums[c]
            out[i, j] = total / np.float32((bottom - top) * (width - j * factor))

"""The kernels that turn windows of sections into patches.

Positions within a patch are fixed-point numbers that start anew every `_RUN` pixels: whole part and fraction cost a
shift and a mask, and no error adds up along a row. Places, loads and interpolation are loops of their own, since a
processor does the first and the last of them for many pixels at a time.
"""

import math
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from features.fast_log import FAST, logarithms

_RUN, _BITS = 64, 24  # pixels of a run, and bits behind the point: a run goes at most 127 pixels far
_WIDEST = 2.0  # window pixels per patch pixel that a run has room for
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
    marks = inside if inside is not None else np.empty((0, 0, 0), np.bool_)
    window = np.ascontiguousarray(window)
    pairs = window.dtype.kind == "u" and window.dtype.itemsize <= 2
    within = _turned_words if pairs else _turned
    size = out.shape[1]
    half = (size - 1) / 2
    top, left = max(image[0], 0), max(image[1], 0)
    bottom, right = min(image[0] + image[2], window.shape[0]), min(image[1] + image[3], window.shape[1])
    for k in range(len(row)):
        # Up in the patch is the normal (cos, sin); right is a quarter turn from it, so that nothing is mirrored.
        y, x, up_x, up_y = (
            float(row[k]),
            float(column[k]),
            float(np.cos(angle[k])) * step,
            float(np.sin(angle[k])) * step,
        )
        wide = half * (abs(up_x) + abs(up_y))
        first = y + half * (up_y - up_x), x + half * (up_x + up_y)
        far = y - wide > top + 1 and y + wide < bottom - 2 and x - wide > left + 1 and x + wide < right - 2
        if far and step <= _WIDEST:  # nothing of the patch touches the border
            within(window.reshape(-1), window.shape[1], first[0], first[1], up_y, up_x, out[k])
            if inside is not None:
                inside[k] = True
        else:
            mark = marks[k] if inside is not None else np.empty((0, 0), np.bool_)
            _at_border(window, *first, up_y, up_x, (top, left, bottom, right), np.float32(fill), out[k], mark)


@intrinsic
def _word(typingctx, pixels, place):
    """The 32 bits from a pixel on: it and its right neighbour in one load, wherever it lies."""

    def code(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        at = builder.gep(array.data, [arguments[1]])
        return builder.load(
            builder.bitcast(at, context.get_data_type(types.uint32).as_pointer()),
            align=signature.args[0].dtype.bitwidth // 8,
        )

    return types.uint32(pixels, place), code


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _run(y, x, up_y, up_x, width, places, down, across):
    """Places of a run of pixels from (y, x) on within the window, from the first one's, and their fractions."""
    one, part, low, bits = float(1 << _BITS), np.float32(2.0**-_BITS), np.int32((1 << _BITS) - 1), np.int32(_BITS)
    top, left, wide = np.int64(np.floor(y)), np.int64(np.floor(x)), np.int32(width)
    v, u = np.int32((y - top) * one), np.int32((x - left) * one)
    dv, du = np.int32(round(up_x * one)), np.int32(round(-up_y * one))
    for j in range(_RUN):
        fixed_v, fixed_u = v + np.int32(j) * dv, u + np.int32(j) * du
        places[j] = (fixed_v >> bits) * wide + (fixed_u >> bits)
        down[j], across[j] = np.float32(fixed_v & low) * part, np.float32(fixed_u & low) * part
    return top * width + left


@njit(cache=True, nogil=True, fastmath=FAST)
def _turned_words(pixels, width, first_y, first_x, up_y, up_x, out):
    """A patch within a window of whole numbers of 8 or 16 bits."""
    shift = np.uint32(8 * pixels.itemsize)
    mask, size = np.uint32((1 << shift) - 1), out.shape[0]
    places, down, across = np.empty(_RUN, np.int32), np.empty(_RUN, np.float32), np.empty(_RUN, np.float32)
    upper, lower = np.empty(_RUN, np.uint32), np.empty(_RUN, np.uint32)
    for i in range(size):
        for first in range(0, size, _RUN):
            y, x = first_y - i * up_y + first * up_x, first_x - i * up_x - first * up_y
            base = _run(y, x, up_y, up_x, width, places, down, across)
            many = min(_RUN, size - first)
            for j in range(many):
                place = base + places[j]
                upper[j], lower[j] = _word(pixels, place), _word(pixels, place + width)  # type: ignore[call-arg]
            write = out[i, first : first + many]
            for j in range(many):
                u, v = across[j], down[j]
                left, right = np.float32(np.int32(upper[j] & mask)), np.float32(np.int32((upper[j] >> shift) & mask))
                above = left + u * (right - left)
                left, right = np.float32(np.int32(lower[j] & mask)), np.float32(np.int32((lower[j] >> shift) & mask))
                write[j] = above + v * (left + u * (right - left) - above)


@njit(cache=True, nogil=True, fastmath=FAST)
def _turned(pixels, width, first_y, first_x, up_y, up_x, out):
    """A patch within a window of any other numbers."""
    size = out.shape[0]
    places, down, across = np.empty(_RUN, np.int32), np.empty(_RUN, np.float32), np.empty(_RUN, np.float32)
    corners = np.empty((4, _RUN), np.float32)
    for i in range(size):
        for first in range(0, size, _RUN):
            y, x = first_y - i * up_y + first * up_x, first_x - i * up_x - first * up_y
            base = _run(y, x, up_y, up_x, width, places, down, across)
            many = min(_RUN, size - first)
            for j in range(many):
                place = np.uint64(base + places[j])  # a signed one would be looked at for counting from the end
                below = place + np.uint64(width)
                corners[0, j], corners[1, j] = np.float32(pixels[place]), np.float32(pixels[place + np.uint64(1)])
                corners[2, j], corners[3, j] = np.float32(pixels[below]), np.float32(pixels[below + np.uint64(1)])
            write = out[i, first : first + many]
            for j in range(many):
                u, v = across[j], down[j]
                above = corners[0, j] + u * (corners[1, j] - corners[0, j])
                write[j] = above + v * (corners[2, j] + u * (corners[3, j] - corners[2, j]) - above)


@njit(cache=True, nogil=True, fastmath=FAST, inline="always")
def _value(window, y, x, top, left, bottom, right):
    """Bilinear value at a position within half a pixel of these rows and columns."""
    y = min(max(y, top), bottom - 1)
    x = min(max(x, left), right - 1)
    r, c = int(y), int(x)
    v, u = np.float32(y - r), np.float32(x - c)
    r1, c1 = min(r + 1, bottom - 1), min(c + 1, right - 1)
    upper = np.float32(window[r, c]) + u * (np.float32(window[r, c1]) - np.float32(window[r, c]))
    lower = np.float32(window[r1, c]) + u * (np.float32(window[r1, c1]) - np.float32(window[r1, c]))
    return upper + v * (lower - upper)


@njit(cache=True, nogil=True, fastmath=FAST)
def values_at(window, row, column, image, fill, out):
    """Bilinear values at positions [N] of a window, in window pixels.

    Args:
        image: first row, first column, rows, columns of the whole image in window pixels.
        fill: value outside the image.
    """
    top, left = max(image[0], 0), max(image[1], 0)
    bottom, right = min(image[0] + image[2], window.shape[0]), min(image[1] + image[3], window.shape[1])
    for k in range(len(row)):
        y, x = row[k], column[k]
        if y >= top - 0.5 and y <= bottom - 0.5 and x >= left - 0.5 and x <= right - 0.5:
            out[k] = _value(window, y, x, top, left, bottom, right)
        else:
            out[k] = fill


@njit(cache=True, nogil=True, fastmath=FAST)
def _at_border(window, first_y, first_x, up_y, up_x, image, fill, out, inside):
    """A patch that may leave the image, whose rows and columns in the window are `image`."""
    top, left, bottom, right = image
    wanted = inside.shape[0] > 0
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            y = first_y - i * up_y + j * up_x
            x = first_x - i * up_x - j * up_y
            within = (
                y >= top - 0.5 - _RIM and y <= bottom - 0.5 + _RIM and x >= left - 0.5 - _RIM
                and x <= right - 0.5 + _RIM
            )  # fmt: skip
            if wanted:
                inside[i, j] = within
            if not within:
                out[i, j] = fill
                continue
            out[i, j] = _value(window, y, x, top, left, bottom, right)


def corner_of(centre: float, size: int) -> tuple[int, float]:
    """Whole pixel and fraction of a lying patch's first row (or column), at the section's own resolution."""
    first = centre - (size - 1) / 2
    whole = math.floor(first + 1e-6)
    return whole, first - whole if first - whole > 1e-6 else 0.0


@njit(cache=True, nogil=True, fastmath=FAST)
def cut(pixels, row, column, scale, out, top, left, rows, columns):
    """Pixels from (row, column) on, times `scale`, into rows x columns of out [H, W] from (top, left) on."""
    scale = np.float32(scale)
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


@njit(cache=True, nogil=True, fastmath=FAST)
def densities(grey, least, background, unit):
    """Optical densities of finite greys [N] in units of `unit`, none below 0, in place; greys are at least `least`."""
    scratch = np.empty(4096, np.int32)
    brightness = np.float32(np.log(background))
    scale, least = np.float32(-1 / unit), np.float32(least)
    for first in range(0, len(grey), 4096):
        part = grey[first : first + 4096]
        for j in range(len(part)):
            part[j] = max(part[j], least)
        logarithms(part, scratch)
        for j in range(len(part)):
            part[j] = max((part[j] - brightness) * scale, np.float32(0))


@njit(cache=True, nogil=True, fastmath=FAST)
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


@njit(cache=True, nogil=True, fastmath=FAST)
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

"""Changes of a patch on the CPU, compiled: the same values as `features.augment` computes with torch, row by row in
memory that stays in the processor's cache. A patch is changed by one thread, so that threads alter no value."""

from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from features.fast_log import FAST, logarithms

_SMALLEST = 1e-8  # weights of a Gaussian, as a share of the largest, that are left out


@lru_cache(maxsize=16)
def bicubic(size: int, points: int = 4) -> NDArray[np.float32]:
    """[size, points] what each point of a line contributes to each of `size` places from its first to its last point:
    cubic convolution with a = -0.75 (Keys 1981, eq. 4; torch's), points beyond the ends as the last ones."""
    weights = np.zeros((size, points))
    at = np.linspace(0, points - 1, size)
    first = np.minimum(np.floor(at).astype(int), points - 1)
    for tap in range(-1, 3):
        d = np.abs(at - first - tap)
        near = (1.25 * d - 2.25) * d * d + 1
        far = -0.75 * (((d - 5) * d + 8) * d - 4)
        np.add.at(weights, (np.arange(size), np.clip(first + tap, 0, points - 1)), np.where(d <= 1, near, far))
    return weights.astype(np.float32)


def gaussian(sd_px: float, reach: int) -> NDArray[np.float32]:
    """[n + 1] the middle weight and those of one side, at most `reach` of them; all weights sum to 1."""
    weights = np.exp(-0.5 * (np.arange(reach + 1) / max(sd_px, 1e-3)) ** 2)
    weights /= weights[0] + 2 * weights[1:].sum()
    return weights[: max(1, int((weights > _SMALLEST * weights[0]).sum()))].astype(np.float32)


def change(
    patch: NDArray[np.float32], out: NDArray[np.float32], *, matrix: NDArray[np.floating],
    bend: NDArray[np.float32] | None, share: float, sd_px: float, widest_px: float, gamma: float, factor: float,
    slope: NDArray[np.float32], least: float,
) -> None:  # fmt: skip
    """All changes of one patch.

    Args:
        patch: [S, S], S at least 2; out: [S, S], becomes the changed one.
        matrix: [2, 3] where its pixels come from, see `move`.
        bend: [2, 4, 4] displacements along x and y in pixels.
        share: of a 3 x 3 binomial blur that is mixed in.
        sd_px: of a Gaussian blur, whose kernel reaches 3 times `widest_px`; 0: none.
        gamma: exponent of values of at least `least`.
        factor: of all values, with a slope [2] along rows and columns.
    """
    size = patch.shape[0]
    none = np.empty((0, 4, 4), np.float32)
    move(patch, matrix, none if bend is None else bend, bicubic(size), out)
    if share > 0:
        soften(out, share)
    if widest_px > 0:
        blur(out, gaussian(sd_px, min(max(1, round(3 * widest_px)), size - 1)))
    stain(out, gamma, factor, slope[0], slope[1], least)


@njit(cache=True, nogil=True, fastmath=FAST)
def move(patch, matrix, bend, weights, out):
    """Bilinear values of patch [S, S] at the places that matrix [2, 3] and bend [2, 4, 4] give, into out [S, S].

    `matrix` maps places from -1 to 1 (x, y, 1) of `out` to those of `patch`; `bend`, pixels along x and y, is added as
    `weights` [S, 4] spread it; empty: none. Beyond the border the patch goes on as it ends.
    """
    size = patch.shape[0]
    flat, last = patch.ravel(), np.float32(size - 1)
    xs, ys = np.empty(size, np.float32), np.empty(size, np.float32)
    half, bent = size / 2, bend.shape[0] > 0
    right, down = np.float32(matrix[0, 0]), np.float32(matrix[1, 0])
    for i in range(size):
        x, y = (1 - size) / size, (2 * i + 1 - size) / size
        x0 = np.float32((matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] + 1) * half - 0.5)
        y0 = np.float32((matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] + 1) * half - 0.5)
        for j in range(size):
            xs[j] = x0 + np.float32(j) * right
            ys[j] = y0 + np.float32(j) * down
        if bent:
            a0, a1, a2, a3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            b0, b1, b2, b3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for k in range(4):
                w = weights[i, k]
                a0 += w * bend[0, k, 0]
                a1 += w * bend[0, k, 1]
                a2 += w * bend[0, k, 2]
                a3 += w * bend[0, k, 3]
                b0 += w * bend[1, k, 0]
                b1 += w * bend[1, k, 1]
                b2 += w * bend[1, k, 2]
                b3 += w * bend[1, k, 3]
            w0, w1, w2, w3 = weights[:, 0], weights[:, 1], weights[:, 2], weights[:, 3]
            for j in range(size):
                xs[j] += w0[j] * a0 + w1[j] * a1 + w2[j] * a2 + w3[j] * a3
                ys[j] += w0[j] * b0 + w1[j] * b1 + w2[j] * b2 + w3[j] * b3
        for j in range(size):
            xs[j] = min(max(xs[j], np.float32(0)), last)
            ys[j] = min(max(ys[j], np.float32(0)), last)
        write = out[i]
        for j in range(size):
            c, r = min(np.int32(xs[j]), np.int32(size - 2)), min(np.int32(ys[j]), np.int32(size - 2))
            u, v = xs[j] - np.float32(c), ys[j] - np.float32(r)
            place = np.uint32(r * np.int32(size) + c)  # unsigned: a signed one would be looked at for being negative
            below = place + np.uint32(size)
            upper = flat[place] + u * (flat[place + np.uint32(1)] - flat[place])
            lower = flat[below] + u * (flat[below + np.uint32(1)] - flat[below])
            write[j] = upper + v * (lower - upper)


@njit(cache=True, nogil=True, fastmath=FAST)
def soften(patch, share):
    """Mix this share of a 3 x 3 binomial blur into patch [S, S], in place."""
    size, quarter, half = patch.shape[0], np.float32(0.25), np.float32(0.5)
    share = np.float32(share)
    above, here, below = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    for i in range(-1, size):
        if i + 1 < size:
            row = patch[i + 1]
            below[0] = quarter * row[0] + half * row[0] + quarter * row[1]
            for j in range(1, size - 1):
                below[j] = quarter * row[j - 1] + half * row[j] + quarter * row[j + 1]
            below[size - 1] = quarter * row[size - 2] + half * row[size - 1] + quarter * row[size - 1]
        else:
            below[:] = here
        if i == -1:
            here[:] = below
            above[:] = below
            continue
        row = patch[i]
        for j in range(size):
            row[j] += share * (quarter * above[j] + half * here[j] + quarter * below[j] - row[j])
        above, here, below = here, below, above


@njit(cache=True, nogil=True, fastmath=FAST)
def blur(patch, kernel):
    """Blur patch [S, S] along rows and columns by a symmetric kernel [n + 1] (its middle and one side), in place."""
    size, reach = patch.shape[0], len(kernel) - 1
    ring = np.empty((2 * reach + 1, size), np.float32)  # rows blurred along themselves, at their number
    edged = np.empty(size + 2 * reach, np.float32)
    done = 0
    for i in range(size):
        while done <= min(i + reach, size - 1):
            edged[:reach], edged[reach + size :] = patch[done, 0], patch[done, size - 1]
            edged[reach : reach + size] = patch[done]
            into, middle = ring[done % len(ring)], edged[reach:]
            for j in range(size):
                into[j] = kernel[0] * middle[j]
            for k in range(1, reach + 1):
                w, before, after = kernel[k], edged[reach - k :], edged[reach + k :]
                for j in range(size):
                    into[j] += w * (before[j] + after[j])
            done += 1
        write, middle = patch[i], ring[i % len(ring)]
        for j in range(size):
            write[j] = kernel[0] * middle[j]
        for k in range(1, reach + 1):
            w = kernel[k]
            before, after = ring[max(i - k, 0) % len(ring)], ring[min(i + k, size - 1) % len(ring)]
            for j in range(size):
                write[j] += w * (before[j] + after[j])


@njit(cache=True, nogil=True, fastmath=FAST)
def stain(patch, gamma, factor, down, across, least):
    """patch [S, S], at least `least`, to the power of gamma, times a factor that grows by `down` and `across` from the
    middle to the last row and column, in place."""
    size = patch.shape[0]
    gamma, least = np.float32(gamma), np.float32(least)
    ramp = np.empty(size, np.float32)
    for j in range(size):
        ramp[j] = np.float32(factor * across * (2 * j / (size - 1) - 1))
    values, whole = np.empty(size, np.float32), np.empty(size, np.int32)
    raised = whole.view(np.float32)
    for i in range(size):
        row, level = patch[i], np.float32(factor * (1 + down * (2 * i / (size - 1) - 1)))
        for j in range(size):
            values[j] = max(row[j], least)
        logarithms(values, whole)
        for j in range(size):
            # 2 to the power of t: a shift of the exponent, and the Taylor series of what is left, at most 1/2.
            t = min(max(gamma * values[j] * np.float32(1.4426950408889634), np.float32(-126)), np.float32(127))
            nearest = np.floor(t + np.float32(0.5))
            g = (t - nearest) * np.float32(0.6931471805599453)
            q = np.float32(1 / 720)
            q = q * g + np.float32(1 / 120)
            q = q * g + np.float32(1 / 24)
            q = q * g + np.float32(1 / 6)
            q = q * g + np.float32(0.5)
            q = q * g + np.float32(1)
            values[j] = q * g + np.float32(1)
            whole[j] = (np.int32(nearest) + np.int32(127)) << np.int32(23)
        for j in range(size):  # what is not finite stays so
            row[j] = values[j] * raised[j] * (level + ramp[j]) + np.float32(0) * row[j]

"""Exact Euclidean distances on a grid.

Each call runs in one thread. The compiled code releases Python's global interpreter lock, so that several calls can run
in parallel threads.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray


def to_background(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance of every True element to the nearest False one, in elements; 0 where False.

    Separable lower envelopes of parabolas (Meijster, Roerdink & Hesselink 2000; Felzenszwalb & Huttenlocher 2012): the
    values of `scipy.ndimage.distance_transform_edt`, several times as fast.

    Args:
        mask: [X, Y, Z] or [H, W] bool. Without a False element every distance is 1e6.
    """
    if mask.ndim not in (2, 3):
        raise ValueError(f"distances need [H, W] or [X, Y, Z], got {mask.shape}")
    volume = np.ascontiguousarray(mask).reshape((1, *mask.shape) if mask.ndim == 2 else mask.shape)
    out = np.empty(volume.shape, np.float32)
    _squared(volume, out)
    return np.sqrt(out, out=out).reshape(mask.shape)


_FAR = np.float32(1e12)


@njit(cache=True, nogil=True)
def _squared(mask, out):
    nx, ny, nz = mask.shape
    longest = max(nx, ny, nz)
    line = np.empty(longest, np.float32)
    site = np.empty(longest, np.int64)
    edge = np.empty(longest + 1)
    value = np.empty(longest, np.float32)
    for x in range(nx):
        for y in range(ny):
            far = np.float32(1e6)
            for z in range(nz):
                far = far + np.float32(1) if mask[x, y, z] else np.float32(0)
                out[x, y, z] = far
            far = np.float32(1e6)
            for z in range(nz - 1, -1, -1):
                far = far + np.float32(1) if mask[x, y, z] else np.float32(0)
                least = min(out[x, y, z], far)
                out[x, y, z] = min(least * least, _FAR)
    for x in range(nx):
        for z in range(nz):
            moving = False
            for y in range(ny):
                line[y] = out[x, y, z]
                moving = moving or line[y] > 0
            if moving:
                _envelope(line, ny, site, edge, value)
                for y in range(ny):
                    out[x, y, z] = line[y]
    for y in range(ny):
        for z in range(nz):
            moving = False
            for x in range(nx):
                line[x] = out[x, y, z]
                moving = moving or line[x] > 0
            if moving:
                _envelope(line, nx, site, edge, value)
                for x in range(nx):
                    out[x, y, z] = line[x]


@njit(cache=True, nogil=True)
def _envelope(line, count, site, edge, value):
    """Replace line[i] by the least of line[j] + (i - j)^2."""
    last = -1
    for q in range(count):
        if line[q] >= _FAR:
            continue
        start = -np.inf
        while last >= 0:
            p = site[last]
            start = (np.float64(line[q]) - np.float64(line[p]) + (q * q - p * p)) / (2.0 * (q - p))
            if start > edge[last]:
                break
            last -= 1
        if last < 0:
            start = -np.inf
        last += 1
        site[last] = q
        edge[last] = start
    if last < 0:
        return
    at = 0
    for q in range(count):
        while at < last and edge[at + 1] < q:
            at += 1
        p = site[at]
        value[q] = line[p] + np.float32((q - p) * (q - p))
    for q in range(count):
        line[q] = value[q]


def to_zero_set(level: NDArray[np.float32]) -> NDArray[np.float32]:
    """Signed distance [H, W] in pixels to the zero set of a level image, negative where level <= 0.

    Pixels beside the zero set get |level| / slope along the grid; the others the distance to the nearest of these, plus
    or minus its own. The image must hold both signs.
    """
    return _to_zero_set(np.ascontiguousarray(level, np.float32))


@njit(cache=True, nogil=True)
def _to_zero_set(level):
    rows, columns = level.shape
    near = np.full((rows, columns), np.inf, np.float32)
    for r in range(rows):
        for c in range(columns):
            here = level[r, c]
            for down in range(2):
                i, j = r + down, c + 1 - down
                if i < rows and j < columns and (here <= 0) != (level[i, j] <= 0):
                    share = abs(here / (here - level[i, j]))
                    near[r, c] = min(near[r, c], share)
                    near[i, j] = min(near[i, j], 1 - share)
    beside = np.empty((rows, columns), np.int64)  # column of the nearest such pixel in the row, -1 if there is none
    for r in range(rows):
        last = -1
        for c in range(columns):
            last = c if near[r, c] < np.inf else last
            beside[r, c] = last
        last = -1
        for c in range(columns - 1, -1, -1):
            last = c if near[r, c] < np.inf else last
            if last >= 0 and (beside[r, c] < 0 or last - c < c - beside[r, c]):
                beside[r, c] = last
    out = np.empty((rows, columns), np.float32)
    site, edge = np.empty(rows, np.int64), np.empty(rows + 1)
    for c in range(columns):
        last = -1
        for q in range(rows):
            if beside[q, c] < 0:
                continue
            own = (beside[q, c] - c) ** 2
            start = -np.inf
            while last >= 0:
                p = site[last]
                start = (own - (beside[p, c] - c) ** 2 + (q * q - p * p)) / (2.0 * (q - p))
                if start > edge[last]:
                    break
                last -= 1
            if last < 0:
                start = -np.inf
            last += 1
            site[last] = q
            edge[last] = start
        at = 0
        for q in range(rows):
            while at < last and edge[at + 1] < q:
                at += 1
            i, j = site[at], beside[site[at], c]
            inside = level[q, c] <= 0
            if i == q and j == c:
                value = near[q, c]
            else:
                away = np.sqrt(np.float32((i - q) ** 2 + (j - c) ** 2))
                value = away - near[i, j] if (level[i, j] <= 0) != inside else away + near[i, j]
            out[q, c] = -value if inside else value
    return out


def signed_distance(level: NDArray[np.float32], pixel_mm: float, reach_mm: float) -> NDArray[np.float32]:
    """Signed distance in mm to the zero set of a level function [H, W] (negative inside), cut off at +-reach.

    See `to_zero_set`; an image of one sign is +-reach all over.
    """
    inside = level <= 0
    if not inside.any() or inside.all():
        return np.full(level.shape, -reach_mm if inside.all() else reach_mm, np.float32)
    return np.clip(to_zero_set(level) * np.float32(pixel_mm), -reach_mm, reach_mm)

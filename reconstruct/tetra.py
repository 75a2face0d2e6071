"""Marching tetrahedra on the Freudenthal lattice: the surface of a level set, always a closed manifold.

Six tetrahedra per cube around its main diagonal. The surface separates voxels with value > level from the others along
lattice edges only, so its topology is that of the mask `value > level` in the sense of `reconstruct.lattice`; ambiguous
cases as in marching cubes do not exist.
"""

from itertools import permutations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from reconstruct.lattice import STEPS


def _tetrahedra() -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Corner offsets [6, 4, 3] of the six tetrahedra of a cube, and whether each has positive orientation [6]."""
    corners, positive = [], []
    for order in permutations(range(3)):
        walk = np.zeros((4, 3), np.int64)
        for k, axis in enumerate(order):
            walk[k + 1 :, axis] = 1
        corners.append(walk)
        positive.append(np.linalg.det((walk[1:] - walk[0]).astype(float)) > 0)
    return np.array(corners), np.array(positive)


def surface(values: NDArray[np.float32], level: float) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Vertices [V, 3] in voxel coordinates and faces [F, 3], normals pointing to lower values.

    Args:
        values: [X, Y, Z]; the border must lie below the level for the surface to be closed.
    """
    field = np.ascontiguousarray(values, np.float32) - np.float32(level)
    corners, positive = _tetrahedra()
    strides = np.array([field.shape[1] * field.shape[2], field.shape[2], 1])
    kinds = np.full(8, -1)
    for number, step in enumerate(STEPS):
        kinds[step @ [4, 2, 1]] = number
    slots: NDArray[np.int64] = corners @ np.array([4, 2, 1])
    active = _active_cells(field)
    offsets: NDArray[np.int64] = corners @ strides
    edges, ends = _triangles(field.ravel(), active, offsets, slots, positive, kinds)
    low, high, faces = _numbered(edges, ends, field.size)
    flat = field.ravel()
    share = flat[low].astype(np.float64) / (flat[low].astype(np.float64) - flat[high])
    start = np.stack(np.unravel_index(low, field.shape), 1).astype(np.float64)
    stop = np.stack(np.unravel_index(high, field.shape), 1).astype(np.float64)
    # Kept off the very ends, so that no triangle collapses to a point.
    vertices = start + np.clip(share, 1e-3, 1 - 1e-3)[:, None] * (stop - start)
    return vertices, faces.reshape(-1, 3).astype(np.int32)


@njit(cache=True, nogil=True)
def _numbered(keys, ends, size):
    """Distinct lattice edges in ascending order of their keys: their two voxels, and the number of each key's edge."""
    place = np.full(size, -1, np.int32)
    for key in keys:
        place[key // 7] = 0
    count = 0
    for voxel in range(size):
        if place[voxel] == 0:
            place[voxel] = count
            count += 1
    slot = np.full(count * 7, -1, np.int32)
    for key in keys:
        slot[place[key // 7] * 7 + key % 7] = 0
    found = 0
    for k in range(slot.shape[0]):
        if slot[k] == 0:
            slot[k] = found
            found += 1
    low, high = np.empty(found, np.int64), np.empty(found, np.int64)
    number = np.empty(keys.shape[0], np.int32)
    for n in range(keys.shape[0]):
        at = slot[place[keys[n] // 7] * 7 + keys[n] % 7]
        number[n] = at
        low[at], high[at] = ends[n, 0], ends[n, 1]
    return low, high, number


@njit(cache=True, nogil=True)
def _active_cells(field: NDArray[np.float32]) -> NDArray[np.int64]:
    """Flat index of the lowest corner of every cube that the surface crosses."""
    nx, ny, nz = field.shape
    found = np.empty(1 << 16, np.int64)
    count = 0
    for x in range(nx - 1):
        for y in range(ny - 1):
            for z in range(nz - 1):
                inside = field[x, y, z] > 0
                if (
                    (field[x + 1, y, z] > 0) != inside or (field[x, y + 1, z] > 0) != inside
                    or (field[x, y, z + 1] > 0) != inside or (field[x + 1, y + 1, z] > 0) != inside
                    or (field[x + 1, y, z + 1] > 0) != inside or (field[x, y + 1, z + 1] > 0) != inside
                    or (field[x + 1, y + 1, z + 1] > 0) != inside
                ):  # fmt: skip
                    if count == found.shape[0]:
                        found = np.concatenate((found, np.empty(count, np.int64)))
                    found[count] = (x * ny + y) * nz + z
                    count += 1
    return found[:count]


@njit(cache=True, nogil=True)
def _triangles(
    flat: NDArray[np.float32],
    active: NDArray[np.int64],
    offsets: NDArray[np.int64],
    slots: NDArray[np.int64],
    positive: NDArray[np.bool_],
    kinds: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every triangle corner in turn: the key of its lattice edge [3F] and the edge's two voxels [3F, 2]."""
    keys = np.empty(active.shape[0] * 36, np.int64)
    ends = np.empty((active.shape[0] * 36, 2), np.int64)
    count = 0
    corner = np.empty(4, np.int64)
    quad = np.empty((4, 2), np.int64)
    for cell in active:
        for t in range(6):
            n_inside = 0
            for k in range(4):
                corner[k] = k
                if flat[cell + offsets[t, k]] > 0:
                    n_inside += 1
            if n_inside == 0 or n_inside == 4:
                continue
            # Sort corners: inside first, keeping track of the parity of the permutation.
            parity = positive[t]
            for a in range(3):
                for b in range(3 - a):
                    one = flat[cell + offsets[t, corner[b]]] > 0
                    two = flat[cell + offsets[t, corner[b + 1]]] > 0
                    if two and not one:
                        corner[b], corner[b + 1] = corner[b + 1], corner[b]
                        parity = not parity
            if n_inside == 1:
                n = 3
                for k in range(3):
                    quad[k, 0], quad[k, 1] = corner[0], corner[k + 1]
                outward = parity
            elif n_inside == 3:
                n = 3
                for k in range(3):
                    quad[k, 0], quad[k, 1] = corner[k], corner[3]
                outward = parity
            else:
                n = 4
                quad[0, 0], quad[0, 1] = corner[0], corner[2]
                quad[1, 0], quad[1, 1] = corner[0], corner[3]
                quad[2, 0], quad[2, 1] = corner[1], corner[3]
                quad[3, 0], quad[3, 1] = corner[1], corner[2]
                outward = parity
            for triangle in range(n - 2):
                for k in range(3):
                    at = 0 if k == 0 else triangle + (k if outward else 3 - k)
                    i, j = quad[at, 0], quad[at, 1]
                    low = min(slots[t, i], slots[t, j])
                    high = max(slots[t, i], slots[t, j])
                    base = cell + (offsets[t, i] if slots[t, i] == low else offsets[t, j])
                    tip = cell + (offsets[t, j] if slots[t, i] == low else offsets[t, i])
                    keys[count] = base * 7 + kinds[high - low]
                    ends[count, 0], ends[count, 1] = base, tip
                    count += 1
    return keys[:count], ends[:count]

"""Isotropic remeshing of a closed manifold mesh to a target edge length, keeping its topology.

Collapse short edges, split long ones, flip towards valence six, smooth in the tangent plane (Botsch & Kobbelt 2004),
in rounds of growing edge length. An edge is collapsed only if its ends share exactly two neighbours (link condition,
Dey et al. 1999), so genus and components stay as they are. Vertices are taken back onto the surface after every round
by a `project` function.
"""

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

Points = NDArray[np.float64]
_RING = 48  # a vertex with more faces is left alone


def remesh(
    vertices: Points,
    faces: NDArray[np.int32],
    target: float,
    project: Callable[[Points], Points] | None = None,
    polish: int = 4,
) -> tuple[Points, NDArray[np.int32]]:
    """A mesh of the same topology with edges of about `target` (in the unit of the vertices).

    Args:
        vertices, faces: [V, 3], [F, 3] of a closed manifold.
        project: takes points [V, 3] back onto the surface; identity if absent.
        polish: rounds at the final length.
    """
    points = np.ascontiguousarray(vertices, np.float64)
    triangles = np.ascontiguousarray(faces, np.int32)
    sides = points[triangles] - points[np.roll(triangles, 1, axis=1)]
    length = float(np.sqrt((sides**2).sum(-1)).mean())
    lengths = []
    while length * 1.5 < target:
        length *= 1.5
        lengths.append(length)
    for aim in [*lengths, *[target] * polish]:
        points, triangles = _round(points, triangles, aim)
        points = project(points) if project is not None else points
    return points, triangles


def _round(points: Points, triangles: NDArray[np.int32], aim: float) -> tuple[Points, NDArray[np.int32]]:
    spare = _count_long(points, triangles, aim * 4 / 3)
    count = len(points)
    points = np.concatenate([points, np.empty((spare + 8, 3))])
    triangles = np.concatenate([triangles, np.full((2 * spare + 16, 3), -1, np.int32)])
    triangles = triangles.copy()
    head, following = _lists(triangles, len(points))
    _split(points, triangles, head, following, count, len(triangles) - 2 * spare - 16, aim * 4 / 3, spare + 8)
    _collapse(points, triangles, head, following, aim * 4 / 5, aim * 4 / 3)
    head, following = _lists(triangles, len(points))
    _flip(points, triangles, head, following)
    for _ in range(2):
        _smooth(points, triangles, head, following)
    alive = triangles[triangles[:, 0] >= 0]
    used, renumbered = np.unique(alive, return_inverse=True)
    return points[used], renumbered.reshape(-1, 3).astype(np.int32)


@njit(cache=True, nogil=True)
def _count_long(points, triangles, high):
    count = 0
    for f in range(triangles.shape[0]):
        for k in range(3):
            i, j = triangles[f, k], triangles[f, (k + 1) % 3]
            if i < j and _length(points, i, j) > high:
                count += 1
    return count


@njit(cache=True, nogil=True)
def _length(points, i, j):
    x, y, z = points[i, 0] - points[j, 0], points[i, 1] - points[j, 1], points[i, 2] - points[j, 2]
    return np.sqrt(x * x + y * y + z * z)


@njit(cache=True, nogil=True)
def _lists(triangles, count):
    """Per vertex a linked list of its corners (3 * face + k)."""
    head = np.full(count, -1, np.int64)
    following = np.full(triangles.shape[0] * 3, -1, np.int64)
    for f in range(triangles.shape[0] - 1, -1, -1):
        if triangles[f, 0] >= 0:
            for k in range(3):
                v = triangles[f, k]
                following[3 * f + k] = head[v]
                head[v] = 3 * f + k
    return head, following


@njit(cache=True, nogil=True)
def _ring(triangles, head, following, v, ring):
    """Living corners of a vertex into `ring`; their number, or -1 if there are too many."""
    count = 0
    corner = head[v]
    while corner >= 0:
        f = corner // 3
        if triangles[f, 0] >= 0 and triangles[f, corner % 3] == v:
            if count == ring.shape[0]:
                return -1
            ring[count] = corner
            count += 1
        corner = following[corner]
    return count


@njit(cache=True, nogil=True)
def _normal(points, i, j, k):
    ux, uy, uz = points[j, 0] - points[i, 0], points[j, 1] - points[i, 1], points[j, 2] - points[i, 2]
    vx, vy, vz = points[k, 0] - points[i, 0], points[k, 1] - points[i, 1], points[k, 2] - points[i, 2]
    return uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx


@njit(cache=True, nogil=True)
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(cache=True, nogil=True)
def _unlink(head, following, v, corner):
    at = head[v]
    if at == corner:
        head[v] = following[corner]
        return
    while following[at] != corner:
        at = following[at]
    following[at] = following[corner]


@njit(cache=True, nogil=True)
def _beside(triangles, ring, count, v, w):
    """The two faces around v that also hold w; -1 where absent, and how many there are."""
    first, second, found = -1, -1, 0
    for r in range(count):
        f = ring[r] // 3
        if triangles[f, 0] == w or triangles[f, 1] == w or triangles[f, 2] == w:
            if found == 0:
                first = f
            else:
                second = f
            found += 1
    return first, second, found


@njit(cache=True, nogil=True)
def _third(triangles, f, a, b):
    return triangles[f, 0] + triangles[f, 1] + triangles[f, 2] - a - b


@njit(cache=True, nogil=True)
def _split(points, triangles, head, following, n_points, n_faces, high, room):
    ring = np.empty(_RING, np.int64)
    last = n_faces
    for f in range(last):
        for k in range(3):
            if room <= 0:
                return
            a, b = triangles[f, k], triangles[f, (k + 1) % 3]
            if a > b or _length(points, a, b) <= high:
                continue
            count = _ring(triangles, head, following, a, ring)
            if count < 0:
                continue
            one, two, found = _beside(triangles, ring, count, a, b)
            if found != 2:
                continue
            middle = n_points
            n_points += 1
            room -= 1
            for axis in range(3):
                points[middle, axis] = 0.5 * (points[a, axis] + points[b, axis])
            for side in range(2):
                g = one if side == 0 else two
                for c in range(3):  # g keeps a; the new face takes b
                    triangles[n_faces, c] = triangles[g, c]
                    if triangles[g, c] == b:
                        at = c
                for c in range(3):
                    if triangles[n_faces, c] == a:
                        triangles[n_faces, c] = middle
                _unlink(head, following, b, 3 * g + at)
                triangles[g, at] = middle
                following[3 * g + at] = head[middle]
                head[middle] = 3 * g + at
                for c in range(3):
                    v = triangles[n_faces, c]
                    following[3 * n_faces + c] = head[v]
                    head[v] = 3 * n_faces + c
                n_faces += 1


@njit(cache=True, nogil=True)
def _collapse(points, triangles, head, following, low, high):
    ring_a, ring_b = np.empty(_RING, np.int64), np.empty(_RING, np.int64)
    near_a = np.empty(2 * _RING, np.int64)
    old, new = np.empty(3), np.empty(3)
    for f in range(triangles.shape[0]):
        for k in range(3):
            if triangles[f, 0] < 0:
                break
            a, b = triangles[f, k], triangles[f, (k + 1) % 3]
            if _length(points, a, b) >= low:
                continue
            n_a = _ring(triangles, head, following, a, ring_a)
            n_b = _ring(triangles, head, following, b, ring_b)
            if n_a < 0 or n_b < 0 or n_a + n_b > 20:
                continue
            one, two, found = _beside(triangles, ring_a, n_a, a, b)
            if found != 2:
                continue
            # Link condition: the two apexes are the only common neighbours.
            size = 0
            for r in range(n_a):
                g = ring_a[r] // 3
                for c in range(3):
                    if triangles[g, c] != a:
                        near_a[size] = triangles[g, c]
                        size += 1
            c1, c2 = _third(triangles, one, a, b), _third(triangles, two, a, b)
            fine = c1 != c2
            for r in range(n_b):
                g = ring_b[r] // 3
                for c in range(3):
                    v = triangles[g, c]
                    if v != b and v != a and v != c1 and v != c2:
                        for s in range(size):
                            if near_a[s] == v:
                                fine = False
            # An apex of valence three would be left with two faces.
            for apex in (c1, c2):
                size = _ring(triangles, head, following, apex, near_a)
                if size >= 0 and size <= 3:
                    fine = False
            if not fine:
                continue
            for axis in range(3):
                new[axis] = 0.5 * (points[a, axis] + points[b, axis])
            for side in range(2):
                v, ring, count = (a, ring_a, n_a) if side == 0 else (b, ring_b, n_b)
                for r in range(count):
                    g = ring[r] // 3
                    if g in (one, two):
                        continue
                    before = _normal(points, triangles[g, 0], triangles[g, 1], triangles[g, 2])
                    for axis in range(3):
                        old[axis] = points[v, axis]
                        points[v, axis] = new[axis]
                    after = _normal(points, triangles[g, 0], triangles[g, 1], triangles[g, 2])
                    long = False
                    for c in range(3):
                        w = triangles[g, c]
                        if w != v and _length(points, v, w) > high:
                            long = True
                    for axis in range(3):
                        points[v, axis] = old[axis]
                    if long or _dot(before, after) <= 0.3 * np.sqrt(_dot(before, before) * _dot(after, after)):
                        fine = False
                        break
                if not fine:
                    break
            if not fine:
                continue
            for axis in range(3):
                points[a, axis] = new[axis]
            triangles[one, 0] = -1
            triangles[two, 0] = -1
            for r in range(n_b):
                corner = ring_b[r]
                if triangles[corner // 3, 0] >= 0:
                    triangles[corner // 3, corner % 3] = a
                    following[corner] = head[a]
                    head[a] = corner
            head[b] = -1


@njit(cache=True, nogil=True)
def _flip(points, triangles, head, following):
    ring = np.empty(_RING, np.int64)
    valence = np.zeros(head.shape[0], np.int64)
    for f in range(triangles.shape[0]):
        if triangles[f, 0] >= 0:
            for k in range(3):
                valence[triangles[f, k]] += 1
    for f in range(triangles.shape[0]):
        if triangles[f, 0] < 0:
            continue
        for k in range(3):
            a, b = triangles[f, k], triangles[f, (k + 1) % 3]
            count = _ring(triangles, head, following, a, ring)
            if count < 0:
                continue
            one, two, found = _beside(triangles, ring, count, a, b)
            if found != 2:
                continue
            other = two if one == f else one
            c, d = triangles[f, (k + 2) % 3], _third(triangles, other, a, b)
            if c == d or valence[a] <= 3 or valence[b] <= 3:
                continue
            now = abs(valence[a] - 6) + abs(valence[b] - 6) + abs(valence[c] - 6) + abs(valence[d] - 6)
            then = abs(valence[a] - 7) + abs(valence[b] - 7) + abs(valence[c] - 5) + abs(valence[d] - 5)
            if then >= now:
                continue
            count = _ring(triangles, head, following, c, ring)
            if count < 0 or _beside(triangles, ring, count, c, d)[2] > 0:
                continue
            n1, n2 = _normal(points, a, b, c), _normal(points, b, a, d)
            m1, m2 = _normal(points, a, d, c), _normal(points, d, b, c)
            mean = (n1[0] + n2[0], n1[1] + n2[1], n1[2] + n2[2])
            scale = np.sqrt(_dot(mean, mean))
            if _dot(m1, mean) < 0.5 * scale * np.sqrt(_dot(m1, m1)):
                continue
            if _dot(m2, mean) < 0.5 * scale * np.sqrt(_dot(m2, m2)):
                continue
            if min(_dot(m1, m1), _dot(m2, m2)) < 0.1 * min(_dot(n1, n1), _dot(n2, n2)):
                continue
            corner_b = 3 * f + (k + 1) % 3
            corner_a = 3 * other
            for s in range(3):
                if triangles[other, s] == a:
                    corner_a = 3 * other + s
            _unlink(head, following, b, corner_b)
            _unlink(head, following, a, corner_a)
            triangles[f, (k + 1) % 3] = d
            triangles[other, corner_a % 3] = c
            following[corner_b] = head[d]
            head[d] = corner_b
            following[corner_a] = head[c]
            head[c] = corner_a
            valence[a] -= 1
            valence[b] -= 1
            valence[c] += 1
            valence[d] += 1


@njit(cache=True, nogil=True)
def _smooth(points, triangles, head, following):
    ring = np.empty(_RING, np.int64)
    for v in range(head.shape[0]):
        count = _ring(triangles, head, following, v, ring) if head[v] >= 0 else 0
        if count < 3:
            continue
        cx, cy, cz, nx, ny, nz, total = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for r in range(count):
            f = ring[r] // 3
            i, j, k = triangles[f, 0], triangles[f, 1], triangles[f, 2]
            face = _normal(points, i, j, k)
            area = np.sqrt(_dot(face, face))
            nx, ny, nz = nx + face[0], ny + face[1], nz + face[2]
            cx += area * (points[i, 0] + points[j, 0] + points[k, 0]) / 3
            cy += area * (points[i, 1] + points[j, 1] + points[k, 1]) / 3
            cz += area * (points[i, 2] + points[j, 2] + points[k, 2]) / 3
            total += area
        size = np.sqrt(nx * nx + ny * ny + nz * nz)
        if total <= 1e-20 or size <= 1e-20:
            continue
        mx, my, mz = cx / total - points[v, 0], cy / total - points[v, 1], cz / total - points[v, 2]
        nx, ny, nz = nx / size, ny / size, nz / size
        along = nx * mx + ny * my + nz * mz
        points[v, 0] += 0.7 * (mx - along * nx)
        points[v, 1] += 0.7 * (my - along * ny)
        points[v, 2] += 0.7 * (mz - along * nz)

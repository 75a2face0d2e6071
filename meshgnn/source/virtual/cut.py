"""True 3D cuts: a plane through the prisms between white and pial triangles, and their drawing on a pixel grid.

Every prism is split into three tetrahedra (by node number, so that neighbours agree); the plane cuts each in a
triangle or a quadrangle, whose corners carry depth and place on the surface. Corners may be moved in the plane (the
section's warp) before they are drawn. Plane coordinates are (column, row, position) in mm, see `plane_coordinates`.
"""

from dataclasses import dataclass, field

import numba
import numpy as np
import numpy.typing as npt

from meshgnn.source.sections import AXES
from meshgnn.source.virtual.fields import Floats
from meshgnn.source.virtual.laminae import Cortex, Reals, volume_share
from meshgnn.source.virtual.prototypes import BINS

OUTSIDE, WHITE = np.uint8(255), np.uint8(254)  # label values beside the area numbers


def plane_coordinates(points_mm: Floats, plane: str) -> Floats:
    """[V, 3] mm along the columns, along the rows and along the cutting axis, of RAS points (an exact permutation)."""
    order = np.abs(AXES[plane]).argmax(1)
    return np.ascontiguousarray(points_mm[:, order] * AXES[plane].sum(1))


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """The cut through one hemisphere, T triangles and S segments.

    Args:
        corners_mm: [T, 3, 2] column and row.
        face: [T] face of the surface mesh.
        weights: [T, 3, 3] barycentric place of each corner in its face.
        depth: [T, 3] rho, 0 pial to 1 white.
        white_mm, pial_mm: [S, 2, 2] segments of the two surfaces, surface's inside on the left hand.
    """

    corners_mm: Floats
    face: npt.NDArray[np.int32]
    weights: Floats
    depth: Floats
    white_mm: Floats
    pial_mm: Floats

    def area_mm2(self) -> float:
        """Area of the ribbon in the plane."""
        a, b, c = (self.corners_mm[:, k] for k in range(3))
        u, v = b - a, c - a
        return float(np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]).sum() / 2)


@numba.njit(cache=True, nogil=True)
def _cut_prisms(white, pial, faces, chosen, position, corners, face_of, weights, depth):  # pragma: no cover
    count = 0
    node = np.zeros(4, np.int64)  # slot in the face 0..2
    deep = np.zeros(4, np.int64)  # 1 = white
    away = np.zeros(4)
    point = np.zeros((4, 3))
    corner = np.zeros((4, 2))
    weight = np.zeros((4, 3))
    rho = np.zeros(4)
    for f in chosen:
        # Slots by node number: the diagonal of a shared side is the same from both prisms.
        s0, s1, s2 = 0, 1, 2
        if faces[f, s0] > faces[f, s1]:
            s0, s1 = s1, s0
        if faces[f, s1] > faces[f, s2]:
            s1, s2 = s2, s1
        if faces[f, s0] > faces[f, s1]:
            s0, s1 = s1, s0
        slots = (s0, s1, s2)
        for tet in range(3):
            for m in range(4):
                # (w0 w1 w2 p2), (w0 w1 p1 p2), (w0 p0 p1 p2)
                is_white = m + tet < 3
                slot = slots[m] if is_white else slots[m - 1]
                node[m] = slot
                deep[m] = 1 if is_white else 0
                source = white if is_white else pial
                for axis in range(3):
                    point[m, axis] = source[faces[f, slot], axis]
                away[m] = point[m, 2] - position
            above = 0
            for m in range(4):
                above += away[m] >= 0
            if above in (0, 4):
                continue
            n = 0
            for i in range(4):
                for j in range(i + 1, 4):
                    if (away[i] >= 0) == (away[j] >= 0):
                        continue
                    t = away[i] / (away[i] - away[j])
                    for axis in range(2):
                        corner[n, axis] = point[i, axis] + t * (point[j, axis] - point[i, axis])
                    for slot in range(3):
                        weight[n, slot] = 0.0
                    weight[n, node[i]] += 1 - t
                    weight[n, node[j]] += t
                    rho[n] = (1 - t) * deep[i] + t * deep[j]
                    n += 1
            # A quadrangle's corners come as 0 1 2 3 with 0-1 and 2-3 sharing a tetrahedron's node: ring 0 1 3 2.
            for piece in range(n - 2):
                picks = (0, 1, 2) if piece == 0 else (1, 3, 2)
                for c in range(3):
                    k = picks[c]
                    corners[count, c, 0] = corner[k, 0]
                    corners[count, c, 1] = corner[k, 1]
                    depth[count, c] = rho[k]
                    for slot in range(3):
                        weights[count, c, slot] = weight[k, slot]
                face_of[count] = f
                count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _cut_faces(points, faces, chosen, position, segments):  # pragma: no cover
    count = 0
    for f in chosen:
        n_first, n_second = -1, -1
        for k in range(3):
            a, b = faces[f, k], faces[f, (k + 1) % 3]
            da, db = points[a, 2] - position, points[b, 2] - position
            if (da >= 0) == (db >= 0):
                continue
            # The same pair always gives the same bits, whichever face asks.
            i, j = (a, b) if a < b else (b, a)
            di, dj = points[i, 2] - position, points[j, 2] - position
            t = di / (di - dj)
            end = 0 if da >= 0 else 1  # from the edge that goes down to the one that goes up
            for axis in range(2):
                segments[count, end, axis] = points[i, axis] + t * (points[j, axis] - points[i, axis])
            if end == 0:
                n_first = k
            else:
                n_second = k
        if n_first >= 0 and n_second >= 0:
            count += 1
    return count


def cut(white: Floats, pial: Floats, faces: npt.NDArray[np.int32], position_mm: float) -> Slice:
    """Cut one hemisphere; `white` and `pial` [V, 3] in plane coordinates (see `plane_coordinates`)."""
    sides = []
    for points in (white, pial):
        heights = points[:, 2][faces]
        sides.append((heights.min(1), heights.max(1)))
    (white_low, white_high), (pial_low, pial_high) = sides
    low, high = np.minimum(white_low, pial_low), np.maximum(white_high, pial_high)
    chosen = np.flatnonzero((low <= position_mm) & (high >= position_mm))
    room = 6 * len(chosen)
    corners, weights = np.empty((room, 3, 2)), np.empty((room, 3, 3))
    depth, face = np.empty((room, 3)), np.empty(room, np.int32)
    count = _cut_prisms(white, pial, faces, chosen, position_mm, corners, face, weights, depth)
    lines = []
    for points in (white, pial):
        segments = np.empty((len(chosen) + 1, 2, 2))
        lines.append(segments[: _cut_faces(points, faces, chosen, position_mm, segments)].copy())
    return Slice(
        corners_mm=corners[:count].copy(),
        face=face[:count].copy(),
        weights=weights[:count].copy(),
        depth=depth[:count].copy(),
        white_mm=lines[0],
        pial_mm=lines[1],
    )


@numba.njit(cache=True, nogil=True)
def _wind(segments, steps):  # pragma: no cover
    rows, columns = steps.shape
    for s in range(segments.shape[0]):
        x0, y0, x1, y1 = segments[s, 0, 0], segments[s, 0, 1], segments[s, 1, 0], segments[s, 1, 1]
        turn = 1
        if y0 > y1:
            x0, y0, x1, y1, turn = x1, y1, x0, y0, -1
        for row in range(max(0, int(np.ceil(y0))), min(rows, int(np.ceil(y1)))):
            column = int(np.ceil(x0 + (row - y0) / (y1 - y0) * (x1 - x0)))
            if column < columns:
                steps[row, max(column, 0)] += turn


def inside(segments_px: Floats, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Pixels whose centres lie inside closed curves (winding number not 0), from segments [S, 2, 2] in column, row."""
    steps = np.zeros(shape, np.int8)
    _wind(segments_px, steps)
    return np.cumsum(steps, axis=1, dtype=np.int8) != 0


@numba.njit(cache=True, nogil=True)
def _draw(  # pragma: no cover
    corners, face, weights, depth, faces, scores, ratio, stretch, dense_f, size_f, cortex,
    shares, density, size, width, out_depth, out_density, out_size, out_label,
):  # fmt: skip
    rows, columns = out_depth.shape
    areas, bins = density.shape
    slot_score = np.zeros((3, 3))  # corner, candidate
    pick = np.zeros(3, np.int64)
    best = np.zeros(3)
    mixed = np.zeros(3)
    corner_ratio, corner_dense, corner_size, corner_cortex = np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3)
    corner_stretch = np.zeros((3, 6))
    layer = np.zeros(6)
    for t in range(corners.shape[0]):
        ax, ay = corners[t, 0, 0], corners[t, 0, 1]
        bx, by = corners[t, 1, 0], corners[t, 1, 1]
        cx, cy = corners[t, 2, 0], corners[t, 2, 1]
        r0, r1 = max(0, int(np.ceil(min(ay, by, cy) - 1e-3))), min(rows - 1, int(np.floor(max(ay, by, cy) + 1e-3)))
        c0, c1 = max(0, int(np.ceil(min(ax, bx, cx) - 1e-3))), min(columns - 1, int(np.floor(max(ax, bx, cx) + 1e-3)))
        if r1 < r0 or c1 < c0:
            continue
        twice = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(twice) < 1e-9:
            continue
        f = face[t]
        # The three areas with the highest score at any of the face's nodes can win or mix here.
        for m in range(3):
            pick[m], best[m] = -1, -1e30
        for k in range(areas):
            top = max(scores[faces[f, 0], k], scores[faces[f, 1], k], scores[faces[f, 2], k])
            if top > best[0]:
                best[2], pick[2], best[1], pick[1], best[0], pick[0] = best[1], pick[1], best[0], pick[0], top, k
            elif top > best[1]:
                best[2], pick[2], best[1], pick[1] = best[1], pick[1], top, k
            elif top > best[2]:
                best[2], pick[2] = top, k
        for c in range(3):
            corner_ratio[c] = corner_dense[c] = corner_size[c] = corner_cortex[c] = 0.0
            for m in range(6):
                corner_stretch[c, m] = 0.0
            for m in range(3):
                slot_score[c, m] = 0.0
            for slot in range(3):
                v, w = faces[f, slot], weights[t, c, slot]
                corner_ratio[c] += w * ratio[v]
                corner_dense[c] += w * dense_f[v]
                corner_size[c] += w * size_f[v]
                corner_cortex[c] += w * cortex[v]
                for m in range(6):
                    corner_stretch[c, m] += w * stretch[v, m]
                for m in range(3):
                    slot_score[c, m] += w * scores[v, pick[m]]
        for row in range(r0, r1 + 1):
            for column in range(c0, c1 + 1):
                wb = ((column - ax) * (cy - ay) - (row - ay) * (cx - ax)) / twice
                wc = ((bx - ax) * (row - ay) - (by - ay) * (column - ax)) / twice
                wa = 1 - wb - wc
                if wa < -1e-6 or wb < -1e-6 or wc < -1e-6:
                    continue
                rho = min(1.0, max(0.0, wa * depth[t, 0] + wb * depth[t, 1] + wc * depth[t, 2]))
                # Where two banks of a sulcus overlap, the deeper tissue wins.
                if rho <= out_depth[row, column]:
                    continue
                out_depth[row, column] = rho
                k = wa * corner_ratio[0] + wb * corner_ratio[1] + wc * corner_ratio[2]
                v_share = volume_share(rho, k)
                top = -1e30
                first, second = 0, 1
                for m in range(3):
                    mixed[m] = wa * slot_score[0, m] + wb * slot_score[1, m] + wc * slot_score[2, m]
                    if mixed[m] > top:
                        top, first = mixed[m], m
                runner = -1e30
                for m in range(3):
                    if m != first and mixed[m] > runner:
                        runner, second = mixed[m], m
                tau = width[pick[first], pick[second]] / 2.2
                total = 0.0
                for m in range(3):
                    mixed[m] = np.exp((mixed[m] - top) / tau) if mixed[m] - top > -30 * tau else 0.0
                    total += mixed[m]
                for m in range(3):
                    mixed[m] /= total
                whole = 0.0
                for m in range(6):
                    s = mixed[0] * shares[pick[0], m] + mixed[1] * shares[pick[1], m] + mixed[2] * shares[pick[2], m]
                    s *= wa * corner_stretch[0, m] + wb * corner_stretch[1, m] + wc * corner_stretch[2, m]
                    layer[m] = s
                    whole += s
                rest = v_share * whole
                number = 0
                while number < 5 and rest > layer[number]:
                    rest -= layer[number]
                    number += 1
                place = (number + min(1.0, rest / layer[number])) * BINS - 0.5
                place = min(max(place, 0.0), bins - 1.001)
                low = int(place)
                part = place - low
                dense, large = 0.0, 0.0
                for m in range(3):
                    if mixed[m] > 1e-4:
                        a = pick[m]
                        dense += mixed[m] * ((1 - part) * density[a, low] + part * density[a, low + 1])
                        large += mixed[m] * ((1 - part) * size[a, low] + part * size[a, low + 1])
                dense *= wa * corner_dense[0] + wb * corner_dense[1] + wc * corner_dense[2]
                large *= wa * corner_size[0] + wb * corner_size[1] + wc * corner_size[2]
                out_density[row, column] = dense
                out_size[row, column] = large
                wall = wa * corner_cortex[0] + wb * corner_cortex[1] + wc * corner_cortex[2]
                out_label[row, column] = pick[first] if wall > 0.5 else areas


@dataclass(frozen=True, kw_only=True, eq=False)
class Canvas:
    """What one section shows, [rows, columns] each.

    Args:
        depth: rho in cortex, -1 elsewhere.
        density: cells relative to layer III of ordinary cortex; 0 outside tissue.
        size_um2: mean cell area.
        label: area number; number of areas on the medial wall, WHITE in white matter, OUTSIDE beyond the tissue.
        counts: per hemisphere drawn, number of pixels [256] of every label.
    """

    depth: Reals
    density: Reals
    size_um2: Reals
    label: npt.NDArray[np.uint8]
    counts: list[npt.NDArray[np.int64]] = field(default_factory=list)

    @staticmethod
    def blank(shape: tuple[int, int]) -> "Canvas":
        return Canvas(
            depth=np.full(shape, -1, np.float32),
            density=np.zeros(shape, np.float32),
            size_um2=np.zeros(shape, np.float32),
            label=np.full(shape, OUTSIDE, np.uint8),
        )


def draw(
    canvas: Canvas,
    part: Slice,
    corners_px: Floats,
    cortex: Cortex,
    width_mm: npt.NDArray[np.float32],
    scores_mm: Reals | None = None,
) -> None:
    """Draw a slice's ribbon onto a canvas, corners [T, 3, 2] in pixels (column, row).

    Args:
        scores_mm: area scores [V, K] to draw instead of the cortex' own (a mapper's opinion).
    """
    hemi = cortex.hemisphere
    before = np.bincount(canvas.label.ravel(), minlength=256)
    _draw(
        corners_px, part.face, part.weights, part.depth, hemi.faces,
        cortex.scores_mm if scores_mm is None else scores_mm,
        cortex.ratio, cortex.stretch, cortex.density_factor, cortex.size_factor, hemi.cortex.astype(np.float32),
        cortex.profiles.share, cortex.density, cortex.size_um2, width_mm,
        canvas.depth, canvas.density, canvas.size_um2, canvas.label,
    )  # fmt: skip
    canvas.counts.append(np.maximum(np.bincount(canvas.label.ravel(), minlength=256) - before, 0))

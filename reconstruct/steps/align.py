"""Step: section-to-section alignment that does not straighten the brain.

Every section is brought to what its neighbours on both sides predict for its place, all at once, in rounds: first
rigidly, then affinely, then by a smooth displacement. Chaining pairwise transforms would turn a curved brain into a
straight one (the banana problem): what changes slowly from section to section is anatomy, what changes from one section
to the next is how it came to lie on the glass. So of the corrections only the part that varies over a few sections is
kept (Malandain et al. 2004 discuss the problem); their slow part is taken off. A stack whose sections lie about at
random at long range keeps that: images alone cannot tell it from anatomy.

The images compared are signed distances to the tissue and white-matter boundaries, cut off at a few mm: stain plays no
part, and robust weights keep tears and folds out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from meshgnn import config
from meshgnn.errors import InputError
from reconstruct.records import Alignment, TissueStack

Floats = NDArray[np.float64]
_CUBIC = 0.6  # share of cubic interpolation in the prediction: less bias by curvature, more noise


class AlignSections:
    """TissueStack -> Alignment."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            pixel_mm: of the images compared.
            reach_mm: signed distances are cut off at +- this.
            rigid_rounds, affine_rounds, warp_rounds: 0 leaves a stage out.
            glass_trust: share of its correction that a section gives back in every round: how much the place on the
                glass is believed against the neighbours.
            anatomy_mm: corrections that vary more slowly than this along the cutting axis are taken for anatomy.
            warp_grid_mm: spacing of the displacement grid.
            warp_stiffness: weight of its smoothness.
            least_quality: below this the sections do not follow on one another and the step refuses.
        """

        pixel_mm: float = 1.0
        reach_mm: float = 3.0
        rigid_rounds: int = 20
        affine_rounds: int = 3
        warp_rounds: int = 0
        glass_trust: float = 0.05
        anatomy_mm: float = 14.0
        warp_grid_mm: float = 10.0
        warp_stiffness: float = 0.3
        least_quality: float = 0.25

        def build(self) -> "AlignSections":
            return AlignSections(self)

    def __init__(self, settings: Config) -> None:
        self.settings = settings

    def __call__(self, stack: TissueStack, progress: Callable[[int, int], None] | None = None) -> Alignment:
        """Raises InputError if neighbouring sections fit no better than distant ones (shuffled, or not one brain)."""
        set_ = self.settings
        count = len(stack.outer)
        images, step = _reduced(stack, set_.pixel_mm, set_.reach_mm)
        centre = stack.origin_mm + (np.array(stack.outer.shape[1:]) - 1) / 2 * stack.pixel_mm
        start = np.zeros((count, 2, 3))
        start[:, 0, 0] = start[:, 1, 1] = 1
        start[:, :, 2] = centre
        # (row, column) of the common frame: that of the image centre is 0, 0.
        half = (np.array(images.shape[2:]) - 1) / 2
        axes = [np.arange(size) * step - (size - 1) / 2 * step for size in images.shape[2:]]
        offset = stack.origin_mm + (stack.pixel_mm * (round(step / stack.pixel_mm) - 1) / 2)
        matrices = start = _rescue(images, start, offset, step, axes)
        work = _Frames(images, offset, step, half, stack.position_mm)
        rounds = [("rigid", 1.0 if k < 6 else 0.6) for k in range(set_.rigid_rounds)]
        rounds += [("affine", 0.6)] * set_.affine_rounds
        total = len(rounds) + set_.warp_rounds
        for number, (kind, share) in enumerate(rounds):
            matrices = _pulled(_round(work, matrices, kind, share), start, set_.glass_trust)
            if progress is not None:
                progress(number + 1, total)
            if number + 1 in (set_.rigid_rounds, len(rounds)):
                matrices = _keep_fast_part(matrices, start, stack.position_mm, set_.anatomy_mm)
        warp, origin = _no_warp(axes, set_.warp_grid_mm, count)
        for number in range(set_.warp_rounds):
            warp = _warp_round(work, matrices, warp, origin, set_.warp_grid_mm, set_.warp_stiffness)
            if progress is not None:
                progress(len(rounds) + number + 1, total)
        warp = _slow_part_off(warp, stack.position_mm, set_.anatomy_mm) if set_.warp_rounds else warp[..., :0, :0]
        moved = work.sample(matrices, warp if set_.warp_rounds else None, origin, set_.warp_grid_mm)
        quality = order_quality(moved, stack.position_mm)
        if quality < set_.least_quality:
            raise InputError(
                f"the sections do not follow on one another (order quality {quality:.2f}, at least "
                f"{set_.least_quality:g} is needed): check file, index and position_mm of each in the sections file"
            )
        return Alignment(
            to_section=matrices, warp_mm=warp.astype(np.float32), warp_origin_mm=(float(origin[0]), float(origin[1])),
            warp_step_mm=set_.warp_grid_mm, overlap=_overlap(moved), quality=quality,
        )  # fmt: skip


def _reduced(stack: TissueStack, pixel_mm: float, reach_mm: float) -> tuple[NDArray[np.float32], float]:
    """[N, 2, h, w] block means of the level images and their pixel in mm."""
    block = max(1, round(pixel_mm / stack.pixel_mm))
    rows, columns = (-(-size // block) * block for size in stack.outer.shape[1:])
    result = []
    for field in (stack.outer, stack.white):
        grow = [(0, 0), (0, rows - field.shape[1]), (0, columns - field.shape[2])]
        padded = np.pad(np.clip(field, -reach_mm, reach_mm), grow, constant_values=reach_mm)
        result.append(padded.reshape(len(field), rows // block, block, columns // block, block).mean((2, 4)))
    return np.stack(result, axis=1).astype(np.float32), block * stack.pixel_mm


class _Frames:
    """The reduced images with what is needed to sample them in the common frame."""

    def __init__(
        self, images: NDArray[np.float32], offset: Floats, step: float, half: Floats, position: Floats
    ) -> None:
        self.images, self.offset, self.step, self.half, self.position = images, offset, step, half, position
        index = np.indices(images.shape[2:]).astype(np.float64)
        self.grid = np.moveaxis((index - half[:, None, None]) * step, 0, -1)  # [h, w, 2] mm

    def places(self, k: int, matrix: Floats) -> Floats:
        """[2, h, w] pixel coordinates in image k of the common frame's grid."""
        at = self.grid @ matrix[:, :2].T + matrix[:, 2]
        return np.moveaxis((at - self.offset[k]) / self.step, -1, 0)

    def sample(
        self, matrices: Floats, warp: Floats | None = None, origin: Floats | None = None, spacing: float = 1.0
    ) -> NDArray[np.float32]:
        out = np.empty_like(self.images)
        for k in range(len(self.images)):
            places = self.places(k, matrices[k])
            if warp is not None and origin is not None:
                places = places + displacement(warp[k], self.grid, origin, spacing) / self.step
            for channel in range(2):
                out[k, channel] = ndimage.map_coordinates(
                    self.images[k, channel], places, order=1, mode="nearest"
                )  # fmt: skip
        return out


def displacement(warp: Floats, grid: Floats, origin: Floats, spacing: float) -> Floats:
    """[2, ...] displacement in mm at points [..., 2] of the common frame, from its coarse grid [2, h, w]."""
    places = np.moveaxis((grid - origin) / spacing, -1, 0)
    return np.stack([ndimage.map_coordinates(warp[axis], places, order=1, mode="nearest") for axis in range(2)])


def predicted(moved: NDArray[np.float32], position: Floats, k: int, width_mm: float) -> NDArray[np.float32]:
    """What the sections around section k say it should look like [2, h, w]: a line fitted through their levels.

    Weights fall with distance; with neighbours on both sides this is interpolation, at the ends extrapolation to the
    nearest one.
    """
    away = position - position[k]
    weight = np.exp(-0.5 * (away / width_mm) ** 2)
    weight[k] = 0
    near = np.argsort(np.abs(away))[1:5]
    near = near[np.abs(away[near]) < 3.5 * width_mm] if (np.abs(away[near]) < 3.5 * width_mm).any() else near[:1]
    w, x = weight[near], away[near]
    if (x > 0).sum() == 2 and (x < 0).sum() == 2:
        full = np.array([np.prod([x[j] / (x[j] - x[i]) for j in range(4) if j != i]) for i in range(4)])
        line = w * ((w * x * x).sum() - (w * x).sum() * x)
        w = _CUBIC * full + (1 - _CUBIC) * line / line.sum()
    elif (x > 0).any() and (x < 0).any():
        s0, s1, s2 = w.sum(), (w * x).sum(), (w * x * x).sum()
        w = w * (s2 - s1 * x) / max(s0 * s2 - s1 * s1, 1e-12)
    else:
        w = (np.abs(x) == np.abs(x).min()).astype(float)
    return np.tensordot(w.astype(np.float32) / w.sum(), moved[near], axes=1)


def _round(work: _Frames, matrices: Floats, kind: str, share: float) -> Floats:
    """One round: every section towards what its neighbours predict, all from the same state."""
    moved = work.sample(matrices)
    width = 1.2 * float(np.median(np.diff(work.position)))
    result = matrices.copy()
    for k in range(len(matrices)):
        reference = predicted(moved, work.position, k, width)
        current = matrices[k]
        # The first and the last section have a neighbour on one side only: a shift is all that can be trusted.
        own = kind if 0 < k < len(matrices) - 1 else "shift"
        for _ in range(2):
            h, b = _normal_equations(
                reference, work.images[k], current, work.offset[k], work.step, work.half, 1.0
            )  # fmt: skip
            update = _solve(h, b, own)
            current = _compose(current, update)
        change = _relative(matrices[k], current)
        result[k] = _compose(matrices[k], share * change)
    return result


# An update is [6]: row shift, row per row, row per column, column shift, column per row, column per column.
_RIGID = np.array([[1, 0, 0], [0, 0, 0], [0, 0, -1], [0, 1, 0], [0, 0, 1], [0, 0, 0]], float)


def _pulled(matrices: Floats, start: Floats, share: float) -> Floats:
    """Matrices a little of the way back to where the sections lay on the glass."""
    return np.stack([_compose(a, (1 - share) * _relative(a, b)) for a, b in zip(start, matrices)])


def _solve(h: Floats, b: Floats, kind: str) -> Floats:
    basis = {"shift": _RIGID[:, :2], "rigid": _RIGID}.get(kind, np.eye(6))
    left = basis.T @ h @ basis
    return basis @ np.linalg.solve(left + 1e-6 * np.trace(left) * np.eye(len(left)), basis.T @ b)


def _compose(matrix: Floats, update: Floats) -> Floats:
    """Matrix after a small update of the common frame; near-rotations are kept rotations."""
    small = np.eye(2) + np.array([[update[1], update[2]], [update[4], update[5]]])
    if update[1] == 0 and update[5] == 0 and update[2] == -update[4]:
        c, s = np.cos(update[4]), np.sin(update[4])
        small = np.array([[c, -s], [s, c]])
    shift = np.array([update[0], update[3]])
    return np.column_stack([matrix[:, :2] @ small, matrix[:, :2] @ shift + matrix[:, 2]])


def _relative(start: Floats, end: Floats) -> Floats:
    """The update [6] that takes `start` to `end`."""
    inverse = np.linalg.inv(start[:, :2])
    small = inverse @ end[:, :2] - np.eye(2)
    shift = inverse @ (end[:, 2] - start[:, 2])
    angle = (small[1, 0] - small[0, 1]) / 2
    if np.allclose(small + np.eye(2), [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], atol=1e-4):
        return np.array([shift[0], 0, -angle, shift[1], angle, 0])
    return np.array([shift[0], small[0, 0], small[0, 1], shift[1], small[1, 0], small[1, 1]])


@njit(cache=True, nogil=True)
def _normal_equations(reference, image, matrix, offset, step, half, scale):
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


def _rescue(images: NDArray[np.float32], start: Floats, offset: Floats, step: float, axes: list[Floats]) -> Floats:
    """Sections that lie far off (shift, turn) brought near: those that fit badly on the section before.

    A section is turned in steps of 15 degrees about its tissue's centre; the turn that fits best is taken if it fits
    clearly better than none.
    """
    block = max(1, round(3.0 / step))
    matrices = start.copy()
    half = np.array([axes[0][-1], axes[1][-1]]) / step
    work = _Frames(images, offset, step, half, np.arange(len(images), dtype=float))
    work.grid = work.grid[::block, ::block]

    def tissue(k: int, matrix: Floats) -> NDArray[np.bool_]:
        return ndimage.map_coordinates(images[k, 0], work.places(k, matrix), order=0, mode="nearest") < 0

    def dice(one: NDArray[np.bool_], two: NDArray[np.bool_]) -> float:
        return float(2 * (one & two).sum() / max(1, one.sum() + two.sum()))

    middle = int(np.argmax([(image[0] < 0).sum() for image in images]))
    for order in (range(middle + 1, len(images)), range(middle - 1, -1, -1)):
        for k in order:
            before = k - 1 if order.step > 0 else k + 1
            fixed = tissue(before, matrices[before])
            carried = start[k].copy()
            base = dice(tissue(k, carried), fixed)
            if base > 0.6 or not fixed.any():
                continue
            target = work.grid[fixed].mean(0)
            own = (np.argwhere(images[k, 0] < 0).mean(0)) * step + offset[k]
            best, chosen = base + 0.15, carried
            for angle in np.radians(np.arange(0, 360, 15)):
                turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
                trial = np.column_stack([turn, own - turn @ target])
                score = dice(tissue(k, trial), fixed)
                if score > best:
                    best, chosen = score, trial
            matrices[k] = chosen
    return matrices


def _smooth_along(values: Floats, position: Floats, width_mm: float) -> Floats:
    """Gaussian average along the positions [N], of values [N, ...], by local lines (exact for lines, ends included)."""
    result = np.empty_like(values)
    for k, here in enumerate(position):
        x = position - here
        w = np.exp(-0.5 * (x / width_mm) ** 2)
        s0, s1, s2 = w.sum(), (w * x).sum(), (w * x * x).sum()
        w = w * (s2 - s1 * x) / max(s0 * s2 - s1 * s1, 1e-12)
        result[k] = np.tensordot(w / w.sum(), values, axes=1)
    return result


def _keep_fast_part(matrices: Floats, start: Floats, position: Floats, width_mm: float) -> Floats:
    """Corrections relative to the images as scanned, without their slow part (large, isolated ones excepted)."""
    changes = np.stack([_relative(a, b) for a, b in zip(start, matrices)])
    size = np.hypot(changes[:, 0], changes[:, 3]) + 50 * np.abs(changes[:, 4])
    outlier = size > 4 * np.median(size) + 3
    steady = changes.copy()
    if outlier.any() and (~outlier).sum() >= 2:
        for p in range(6):
            steady[outlier, p] = np.interp(position[outlier], position[~outlier], changes[~outlier, p])
    slow = _smooth_along(steady, position, width_mm)
    result = []
    for matrix, drift in zip(matrices, slow):
        # Undo the slow part on the side of the common frame: p -> p - drift(p).
        result.append(_compose(matrix, -drift))
    return np.stack(result)


def _no_warp(axes: list[Floats], spacing: float, count: int) -> tuple[Floats, Floats]:
    sizes = [int(np.ceil((axis[-1] - axis[0]) / spacing)) + 1 for axis in axes]
    return np.zeros((count, 2, *sizes)), np.array([axis[0] for axis in axes])


def _warp_round(
    work: _Frames, matrices: Floats, warp: Floats, origin: Floats, spacing: float, stiffness: float
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


def _slow_part_off(warp: Floats, position: Floats, width_mm: float) -> Floats:
    return warp - _smooth_along(warp, position, width_mm)


def _overlap(moved: NDArray[np.float32]) -> Floats:
    """[N] mean Dice overlap of each section's tissue with its neighbours'."""
    tissue = moved[:, 0] < 0
    size = tissue.sum((1, 2))
    pair = 2 * (tissue[1:] & tissue[:-1]).sum((1, 2)) / np.maximum(1, size[1:] + size[:-1])
    return np.array([pair[max(0, k - 1) : k + 1].mean() for k in range(len(tissue))])


def order_quality(moved: NDArray[np.float32], position: Floats) -> float:
    """1 - (mean difference of neighbours) / (mean difference of random pairs): near 0 for sections in random order."""
    count = len(moved)
    if count < 3:
        return 1.0
    small = moved[:, :, ::2, ::2]

    def difference(a: int, b: int) -> float:
        return float(np.abs(small[a] - small[b]).mean())

    beside = float(np.mean([difference(k, k + 1) for k in range(count - 1)]))
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
    chosen = pairs[:: max(1, len(pairs) // 400)]
    apart = float(np.mean([difference(a, b) for a, b in chosen]))
    return 1 - beside / max(apart, 1e-9)

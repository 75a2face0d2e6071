"""Where a volume of unknown contrast lies to the sections of the same brain.

Rotation, shift and two scales (histology shrinks, within sections otherwise than along the brain) under which the
volume's grey values say most about what the sections show as glass, grey and white matter: normalised mutual
information (Studholme et al. 1999), which asks for no relation between the two but that there is one. From several
starts on a coarse grid to a finer one.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from scipy.special import expit

from meshgnn.errors import InputError

Floats = NDArray[np.float64]
SOFT = 0.27
"""Of the sections' classes: the scale of the logistic step, as a share of the distance at which levels are cut off."""
_BINS = 32
_SAMPLES = 20_000  # points at which a pose is judged
_MARGIN = 3  # coarse steps around the tissue that count in a pose
_SIZES = (0.6, 1.6)  # of the scales, as tried
_PLAUSIBLE = (0.7, 1.5)  # and as believed: sections shrink by a third at most


@dataclass(frozen=True, kw_only=True, eq=False)
class Image:
    """A volume in grey values.

    Args:
        values: [X, Y, Z] float32 in RAS order.
        affine: [4, 4] voxel -> mm.
        path: of the file, for messages.
    """

    values: NDArray[np.float32]
    affine: Floats
    path: Path


@dataclass(frozen=True, kw_only=True, eq=False)
class Levels:
    """The sections as they lie, as one block.

    Args:
        values: [2, D, H, W] signed distances in mm (tissue, white matter; negative inside), cut off at +- reach_mm.
        to_mm: [4, 4] voxel -> mm (RAS).
        along: [3] unit vector of the cutting axis.
        reach_mm: see there.
    """

    values: NDArray[np.float32]
    to_mm: Floats
    along: Floats
    reach_mm: float


def levels_of(moved: NDArray[np.float32], position: Floats, to_mm: Floats, along: Floats, reach_mm: float) -> Levels:
    """Sections [N, 2, h, w] at `position` [N] as a block whose slices lie as far apart as its pixels."""
    step = float(np.linalg.norm(to_mm[:3, 0]))
    depth = np.arange(position[0], position[-1] + 1e-6, step)
    after = np.clip(np.searchsorted(position, depth), 1, len(position) - 1)
    way = (depth - position[after - 1]) / (position[after] - position[after - 1])
    share = np.clip(way, 0, 1).astype(np.float32)[:, None, None, None]
    values = np.asarray((1 - share) * moved[after - 1] + share * moved[after], np.float32)
    return Levels(values=np.moveaxis(values, 1, 0), to_mm=to_mm, along=np.abs(along), reach_mm=reach_mm)


class _Search:
    """Poses judged at points of the sections, in units of the grid."""

    def __init__(self, levels: Levels, image: Image, block: int) -> None:
        step = float(np.linalg.norm(levels.to_mm[:3, 0]))
        self.unit = block * step
        soft = np.clip(levels.reach_mm * SOFT, step / 2, None)
        tissue, white = (expit(-one / soft) for one in levels.values)
        # Means over blocks: at the corners of a grid so coarse, sections are what the blurred volume shows.
        kept = [ndimage.uniform_filter(one, block)[::block, ::block, ::block] for one in (tissue, tissue * white)]
        near = ndimage.binary_dilation(kept[0] > 0.5, iterations=_MARGIN)
        where = np.argwhere(near)
        if len(where) > _SAMPLES:
            where = where[np.random.default_rng(0).choice(len(where), _SAMPLES, replace=False)]
        inside, inner = (one[tuple(where.T)] for one in kept)
        self.classes = np.stack([1 - inside, inside - inner, inner]).astype(np.float64)
        self.points = (where * block) @ levels.to_mm[:3, :3].T + levels.to_mm[:3, 3]
        weight = inside / max(inside.sum(), 1e-9)
        self.middle = weight @ self.points
        self.radius = float(np.sqrt(weight @ ((self.points - self.middle) ** 2).sum(1)))
        self.along = levels.along
        sides = np.linalg.norm(image.affine[:3, :3], axis=0)
        self.blurred = ndimage.gaussian_filter(image.values, 0.4 * self.unit / sides)
        self.back = np.linalg.inv(image.affine)
        low, high = np.quantile(image.values[image.values > image.values.min()], [0.005, 0.995])
        self.low, self.width = float(low), float(max(high - low, 1e-12)) / _BINS
        bright = np.argwhere(np.abs(self.blurred - np.quantile(self.blurred, 0.05)) > 0.3 * (high - low))
        centre = bright.mean(0) if len(bright) else (np.array(image.values.shape) - 1) / 2
        self.centre = image.affine[:3, :3] @ centre + image.affine[:3, 3]

    def matrix(self, pose: Floats) -> Floats:
        """[4, 4] of a pose [8]: shift and turn in units of the grid at the brain's radius, two scales likewise."""
        sizes = np.exp(pose[6:] * self.unit / self.radius)
        linear = Rotation.from_rotvec(pose[3:6] * self.unit / self.radius).as_matrix()
        linear = linear * np.where(self.along > 0.5, sizes[0], sizes[1])
        full = np.eye(4)
        full[:3, :3] = linear
        full[:3, 3] = self.centre + pose[:3] * self.unit - linear @ self.middle
        return full

    def information(self, pose: Floats) -> float:
        """Normalised mutual information of classes and grey values."""
        sizes = np.exp(pose[6:] * self.unit / self.radius)
        if sizes.min() < _SIZES[0] or sizes.max() > _SIZES[1]:
            return 1.0
        chain = self.back @ self.matrix(pose)
        at = self.points @ chain[:3, :3].T + chain[:3, 3]
        value = ndimage.map_coordinates(self.blurred, at.T, order=1, mode="nearest")
        # Linear Parzen windows keep the measure smooth in the pose.
        place = np.clip((value - self.low) / self.width, 0, _BINS - 1.001)
        lower = place.astype(np.int64)
        share = place - lower
        joint = np.stack([
            np.bincount(lower, own * (1 - share), _BINS) + np.bincount(lower + 1, own * share, _BINS)
            for own in self.classes
        ])  # fmt: skip
        joint /= joint.sum()
        return (entropy(joint.sum(0)) + entropy(joint.sum(1))) / max(entropy(joint), 1e-12)

    def improve(self, pose: Floats, rounds: int) -> Floats:
        found = minimize(
            lambda one: -self.information(one), pose, method="Powell",
            options={"xtol": 0.02, "ftol": 1e-5, "maxiter": rounds, "direc": np.eye(8)},
        )  # fmt: skip
        return np.asarray(found.x, np.float64)


def entropy(share: Floats) -> float:
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


def placed(levels: Levels, image: Image) -> Floats:
    """[4, 4] mm of the sections -> mm of the volume under which its grey values say most about their classes.

    Raises:
        InputError: it would have to be much larger or smaller than the sections.
    """
    coarse = _Search(levels, image, 4)
    far = 0.3 * coarse.radius / coarse.unit
    turn = np.radians(12) * coarse.radius / coarse.unit
    size = np.log(1.15) * coarse.radius / coarse.unit
    starts = []
    for shift in np.stack(np.meshgrid(*[[-far, 0, far]] * 3, indexing="ij"), -1).reshape(-1, 3):
        for nod in (-turn, 0, turn):  # heads nod more than they turn or tilt
            starts += [np.array([*shift, nod, 0, 0, scale, scale]) for scale in (-size, 0, size)]
    best = sorted(starts, key=lambda pose: -coarse.information(pose))[:3]
    pose = max((coarse.improve(one, 4) for one in best), key=coarse.information)
    fine = _Search(levels, image, 2)
    pose = fine.improve(_carried(pose, coarse, fine), 4)
    found = fine.matrix(pose)
    sizes = np.linalg.norm(found[:3, :3], axis=0)
    if sizes.min() < _PLAUSIBLE[0] or sizes.max() > _PLAUSIBLE[1]:
        raise InputError(
            f"{image.path}: fits the sections best at {sizes.min():.2f} to {sizes.max():.2f} times their size: check "
            "its voxel size and theirs, and whether it shows the same brain, in the same orientation (RAS)"
        )
    return found


def _carried(pose: Floats, one: _Search, other: _Search) -> Floats:
    """A pose of one search in the units of another, whose middles and centres differ a little."""
    angle = pose * np.r_[[1] * 3, [one.unit / one.radius * other.radius / other.unit] * 5]
    angle[:3] = 0
    wanted = one.matrix(pose)[:3] @ [*other.middle, 1]
    angle[:3] = (wanted - other.centre) / other.unit
    return angle

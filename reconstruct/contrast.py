"""Grey and white matter in a volume of unknown contrast (T1, T2, a block face), told by the sections of the same brain.

The sections say where glass, grey and white matter lie, roughly; the volume says it exactly, but in grey values that
nobody has to name. First the volume is brought to the sections by a rotation, a shift and two scales under which its
grey values say most about the sections' classes: normalised mutual information (Studholme et al. 1999), from coarse to
fine. Then the classes are found in it: a mixture of a normal distribution for grey and one for white matter and any
distribution for the rest, whose spatial prior are the sections, under a smooth multiplicative bias (Van Leemput et al.
1999; Ashburner & Friston 2005). A skull needs no stripping: sections show none.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from scipy.special import expit

from meshgnn.errors import InputError
from reconstruct.probability import LARGEST_VOXELS, reading

Floats = NDArray[np.float64]
_BINS = 32
_SAMPLES = 20_000  # points at which a pose is judged
_MARGIN = 3  # coarse steps around the tissue that count in a pose
_SOFT = 0.8 / 3.0  # of the sections' prior, as a share of the distance at which levels are cut off
_ROUNDS = 12  # of expectation maximisation
_ORDER = 3  # of the polynomial of the bias
_LEAST_TOLD = 0.12  # share of the entropy of grey against white that grey values explain; see docs/benchmarks.md
_SIZES = (0.6, 1.6)  # of the scales


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


def read_image(path: Path) -> Image:
    """Read a volume.

    Raises:
        InputError: the file is missing, cut short, not one 3D volume of numbers, without affine, flat, or empty.
    """
    with reading(path):
        image: Any = nibabel.load(path)
        header = image.header
        if hasattr(header, "get_sform") and int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
            raise InputError(f"{path}: has no affine (sform and qform unset), so nobody knows where left is; set one")
        shape = tuple(image.shape[:3]) if len(image.shape) == 4 and image.shape[3] == 1 else tuple(image.shape)
        if len(shape) != 3 or min(shape) < 8:
            raise InputError(f"{path}: needs one 3D volume of at least 8 voxels each way, has shape {image.shape}")
        if image.get_data_dtype().fields is not None:
            raise InputError(f"{path}: holds colours; give one channel (of a block face, the one with most contrast)")
        if np.prod(np.array(shape, float)) > LARGEST_VOXELS:
            raise InputError(f"{path}: its header asks for {shape} voxels, more than {LARGEST_VOXELS:.0e} are not read")
        image = nibabel.as_closest_canonical(image)
        values = np.asarray(image.get_fdata(dtype=np.float32)).reshape(image.shape[:3])
    affine = np.asarray(image.affine, np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise InputError(f"{path}: its affine is singular or not finite")
    if not np.isfinite(values).all():
        raise InputError(f"{path}: {int((~np.isfinite(values)).sum())} voxels are not finite; set them to 0")
    if float(np.ptp(np.quantile(values, [0.05, 0.995]))) <= 0:
        raise InputError(f"{path}: nearly all of it has one value; it shows no brain")
    return Image(values=values, affine=affine, path=path)


def levels_of(moved: NDArray[np.float32], position: Floats, to_mm: Floats, along: Floats, reach_mm: float) -> Levels:
    """Sections [N, 2, h, w] at `position` [N] as a block whose slices lie as far apart as its pixels."""
    step = float(np.linalg.norm(to_mm[:3, 0]))
    depth = np.arange(position[0], position[-1] + 1e-6, step)
    after = np.clip(np.searchsorted(position, depth), 1, len(position) - 1)
    share = (depth - position[after - 1]) / (position[after] - position[after - 1])
    share = np.clip(share, 0, 1).astype(np.float32)[:, None, None, None]
    values = (1 - share) * moved[after - 1] + share * moved[after]
    return Levels(values=np.moveaxis(values, 1, 0), to_mm=to_mm, along=np.abs(along), reach_mm=reach_mm)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pose:
    """Where a volume lies.

    Args:
        to_volume: [4, 4] mm of the sections -> mm of the volume.
        information: normalised mutual information there, from 1 (none) to 2.
    """

    to_volume: Floats
    information: float


class _Search:
    """Poses judged at points of the sections, in units of the grid."""

    def __init__(self, levels: Levels, image: Image, block: int) -> None:
        step = float(np.linalg.norm(levels.to_mm[:3, 0]))
        self.unit = block * step
        soft = np.clip(levels.reach_mm * _SOFT, step / 2, None)
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
        return (_entropy(joint.sum(0)) + _entropy(joint.sum(1))) / max(_entropy(joint), 1e-12)

    def improve(self, pose: Floats, rounds: int) -> Floats:
        found = minimize(
            lambda one: -self.information(one), pose, method="Powell",
            options={"xtol": 0.02, "ftol": 1e-5, "maxiter": rounds, "direc": np.eye(8)},
        )  # fmt: skip
        return np.asarray(found.x, np.float64)


def _entropy(share: Floats) -> float:
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


def placed(levels: Levels, image: Image) -> Pose:
    """The pose under which the volume's grey values say most about the sections' classes, from several starts."""
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
    return Pose(to_volume=fine.matrix(pose), information=fine.information(pose))


def _carried(pose: Floats, one: _Search, other: _Search) -> Floats:
    """A pose of one search in the units of another, whose middles and centres differ a little."""
    angle = pose * np.r_[[1] * 3, [one.unit / one.radius * other.radius / other.unit] * 5]
    angle[:3] = 0
    wanted = one.matrix(pose)[:3] @ [*other.middle, 1]
    angle[:3] = (wanted - other.centre) / other.unit
    return angle


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Classes in a volume.

    Args:
        grey, white: [X, Y, Z] float32, posterior probabilities.
        affine: [4, 4] voxel -> mm of the sections; voxels are cubes.
        told: share of the entropy of grey against white matter that grey values explain, prior aside.
    """

    grey: NDArray[np.float32]
    white: NDArray[np.float32]
    affine: Floats
    told: float


def classes(levels: Levels, image: Image, pose: Pose) -> Found:
    """Grey and white matter of a volume that lies as `pose` says.

    Raises:
        InputError: its grey values do not tell grey from white matter where the sections do.
    """
    grid = np.argwhere(levels.values[0] < 0)
    mm = grid @ levels.to_mm[:3, :3].T + levels.to_mm[:3, 3]
    step = float(np.linalg.norm(levels.to_mm[:3, 0]))
    own = float(np.cbrt(abs(np.linalg.det(image.affine[:3, :3])) / abs(np.linalg.det(pose.to_volume[:3, :3]))))
    voxel = max(own, 0.7 * step)
    low = mm.min(0) - 3 * voxel
    shape = np.ceil((mm.max(0) + 3 * voxel - low) / voxel).astype(int) + 1
    affine = np.diag([voxel, voxel, voxel, 1.0])
    affine[:3, 3] = low
    value = ndimage.affine_transform(
        image.values, *_between(np.linalg.inv(image.affine) @ pose.to_volume @ affine),
        output_shape=tuple(shape), order=1, mode="nearest",
    )  # fmt: skip
    chain = np.linalg.inv(levels.to_mm) @ affine
    outer, inner = (
        ndimage.affine_transform(one, *_between(chain), output_shape=tuple(shape), order=1, cval=levels.reach_mm)
        for one in levels.values
    )
    soft = levels.reach_mm * _SOFT
    tissue, white = expit(-outer / soft), expit(-inner / soft)
    tissue[outer >= 0.99 * levels.reach_mm] = 1e-4  # well outside: what is there is no tissue
    prior = np.stack([1 - tissue, tissue * (1 - white), tissue * white]).astype(np.float32)
    posterior, told = _mixture(value, prior)
    if told < _LEAST_TOLD:
        raise InputError(
            f"{image.path}: its grey values do not tell grey from white matter where the sections do (they explain "
            f"{told:.2f} of it, at least {_LEAST_TOLD:g} is needed): it must show the same brain, in the same "
            "orientation (RAS), with contrast between the two"
        )
    return Found(grey=posterior[1], white=posterior[2], affine=affine, told=told)


def _between(chain: Floats) -> tuple[Floats, Floats]:
    return chain[:3, :3], chain[:3, 3]


def _mixture(value: NDArray[np.float32], prior: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Posterior [3, X, Y, Z] of rest, grey and white matter, and how much grey values tell of the last two."""
    shape, cloud = value.shape, prior.reshape(3, -1)
    flat = value.ravel()
    brain = cloud[1] + cloud[2]
    usual = np.median(flat[brain > 0.5])
    dark = float(flat.min())
    # Values from 0 on: what multiplies them becomes a sum of logarithms.
    log = np.log(np.maximum((flat - min(dark, 0.0)) / max(usual - min(dark, 0.0), 1e-12), 0.05)).astype(np.float32)
    axes = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij", sparse=True)
    powers = [(i, j, k) for i in range(_ORDER + 1) for j in range(_ORDER + 1 - i) for k in range(_ORDER + 1 - i - j)]
    sure = np.flatnonzero(brain > 0.5)
    chosen = sure[:: max(1, len(sure) // 50_000)]
    place = np.unravel_index(chosen, shape)
    basis = np.stack([np.prod([axes[d].ravel()[place[d]] ** p for d, p in enumerate(one)], 0) for one in powers], 1)
    field = np.zeros(len(flat), np.float32)
    posterior, edges = cloud, np.linspace(np.log(0.05) - 1e-3, 3.0, 97)
    for number in range(_ROUNDS):
        seen = log - field
        bins = np.clip(np.digitize(seen, edges) - 1, 0, len(edges) - 2)
        rest = ndimage.gaussian_filter1d(np.bincount(bins, posterior[0], len(edges) - 1), 1.0) + 1e-3
        likelihood = [(rest / rest.sum() / np.diff(edges))[bins]]
        means, spreads = [], []
        for own in posterior[1:]:
            mean = float((own @ seen) / max(own.sum(), 1e-9))
            spread = float(np.sqrt((own @ (seen - mean) ** 2) / max(own.sum(), 1e-9))) + 1e-3
            means, spreads = [*means, mean], [*spreads, spread]
            likelihood.append(np.exp(-0.5 * ((seen - mean) / spread) ** 2) / (spread * np.sqrt(2 * np.pi)))
        posterior = cloud * np.stack(likelihood).astype(np.float32)
        posterior /= np.maximum(posterior.sum(0), 1e-12)
        if number < _ROUNDS - 1:
            weight = posterior[1:, chosen] / np.square(spreads)[:, None]
            left = ((log[chosen] - np.array(means)[:, None]) * weight).sum(0)
            total = weight.sum(0)
            h = (basis * total[:, None]).T @ basis
            factor = np.linalg.solve(h + 1e-4 * np.trace(h) / len(h) * np.eye(len(h)), basis.T @ left)
            field = _field(axes, powers, factor, shape).ravel()
            field -= field[chosen].mean()
    return posterior.reshape(3, *shape), _told(log - field, cloud)


def _field(axes: list[Any], powers: list[tuple[int, ...]], factor: Floats, shape: tuple[int, ...]) -> Any:
    total = np.zeros(shape, np.float32)
    for one, size in zip(powers, factor):
        total += np.float32(size) * (axes[0] ** one[0] * axes[1] ** one[1] * axes[2] ** one[2])
    return total


def _told(seen: NDArray[np.float32], prior: NDArray[np.float32]) -> float:
    """Mutual information of grey values and the sections' grey and white matter, over the entropy of the latter."""
    inside = prior[1] + prior[2] > 0.8
    classes_, value = prior[1:, inside].astype(np.float64), seen[inside]
    edges = np.quantile(value, np.linspace(0, 1, 33))
    bins = np.clip(np.searchsorted(edges, value) - 1, 0, 31)
    joint = np.stack([np.bincount(bins, own, 32) for own in classes_])
    joint /= joint.sum()
    own = _entropy(joint.sum(1))
    return (own + _entropy(joint.sum(0)) - _entropy(joint)) / max(own, 1e-12)

"""Grey and white matter in a volume of unknown contrast (T1, T2, a block face), told by the sections of the same brain.

The sections say where glass, grey and white matter lie, roughly; the volume says it exactly, but in grey values that
nobody has named. So they are a mixture of a normal distribution for grey and one for white matter and any distribution
for the rest, whose spatial prior are the sections, under a smooth multiplicative bias, found by expectation
maximisation (Van Leemput et al. 1999; Ashburner & Friston 2005). A skull needs no stripping: sections show none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

from meshgnn.errors import InputError
from reconstruct.information import SOFT, Floats, Image, Levels, entropy
from reconstruct.probability import read_volume

_ROUNDS = 12  # of expectation maximisation
_ORDER = 3  # of the polynomial of the bias
_DARKEST = 0.05  # of the brain's median: below it, logarithms of noise mean nothing
_LEAST_TOLD = 0.12  # of the entropy of grey against white: the same brain tells 0.3, another 0.06 (docs/benchmarks.md)


def read_image(path: Path) -> Image:
    """Read a volume.

    Raises:
        InputError: see `read_volume`; its affine is singular, it is thinner than 8 voxels, or nearly all of one value.
    """
    values, affine = read_volume(path)
    if min(values.shape) < 8:
        raise InputError(f"{path}: needs a volume of at least 8 voxels each way, has shape {values.shape}")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise InputError(f"{path}: its affine is singular or not finite")
    if float(np.ptp(np.quantile(values, [0.05, 0.995]))) <= 0:
        raise InputError(f"{path}: nearly all of it has one value; it shows no brain")
    return Image(values=values, affine=affine, path=path)


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


def classes(levels: Levels, image: Image, to_volume: Floats) -> Found:
    """Grey and white matter of a volume that lies as `to_volume` [4, 4] says.

    Raises:
        InputError: its grey values do not tell grey from white matter where the sections do.
    """
    grid = np.argwhere(levels.values[0] < 0)
    mm = grid @ levels.to_mm[:3, :3].T + levels.to_mm[:3, 3]
    step = float(np.linalg.norm(levels.to_mm[:3, 0]))
    own = float(np.cbrt(abs(np.linalg.det(image.affine[:3, :3])) / abs(np.linalg.det(to_volume[:3, :3]))))
    voxel = max(own, 0.7 * step)
    low = mm.min(0) - 3 * voxel
    shape = np.ceil((mm.max(0) + 3 * voxel - low) / voxel).astype(int) + 1
    affine = np.diag([voxel, voxel, voxel, 1.0])
    affine[:3, 3] = low
    value = ndimage.affine_transform(
        image.values, *_between(np.linalg.inv(image.affine) @ to_volume @ affine),
        output_shape=tuple(shape), order=1, mode="nearest",
    )  # fmt: skip
    chain = np.linalg.inv(levels.to_mm) @ affine
    outer, inner = (
        ndimage.affine_transform(one, *_between(chain), output_shape=tuple(shape), order=1, cval=levels.reach_mm)
        for one in levels.values
    )
    soft = levels.reach_mm * SOFT
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


def _between(chain: Any) -> tuple[Floats, Floats]:
    return chain[:3, :3], chain[:3, 3]


def _mixture(value: NDArray[np.float32], prior: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Posterior [3, X, Y, Z] of rest, grey and white matter, and how much grey values tell of the last two."""
    shape, cloud = value.shape, prior.reshape(3, -1)
    flat = value.ravel()
    brain = cloud[1] + cloud[2]
    usual = np.median(flat[brain > 0.5])
    dark = float(flat.min())
    # Values from 0 on: what multiplies them becomes a sum of logarithms.
    log = np.log(np.maximum((flat - min(dark, 0.0)) / max(usual - min(dark, 0.0), 1e-12), _DARKEST)).astype(np.float32)
    axes = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij", sparse=True)
    powers = [(i, j, k) for i in range(_ORDER + 1) for j in range(_ORDER + 1 - i) for k in range(_ORDER + 1 - i - j)]
    sure = np.flatnonzero(brain > 0.5)
    chosen = sure[:: max(1, len(sure) // 50_000)]
    place = np.unravel_index(chosen, shape)
    basis = np.stack([np.prod([axes[d].ravel()[place[d]] ** p for d, p in enumerate(one)], 0) for one in powers], 1)
    field = np.zeros(len(flat), np.float32)
    posterior, edges = cloud, np.linspace(np.log(_DARKEST) - 1e-3, 3.0, 97)
    for number in range(_ROUNDS):
        seen = log - field
        bins = np.clip(np.digitize(seen, edges) - 1, 0, len(edges) - 2)
        rest = ndimage.gaussian_filter1d(np.bincount(bins, posterior[0], len(edges) - 1), 1.0) + 1e-3
        likelihood = [(rest / rest.sum() / np.diff(edges))[bins]]
        means: list[float] = []
        spreads: list[float] = []
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


def _field(axes: Sequence[Any], powers: Sequence[tuple[int, ...]], factor: Floats, shape: tuple[int, ...]) -> Any:
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
    count = np.stack([np.bincount(bins, own, 32) for own in classes_]).astype(np.float64)
    joint = count / count.sum()
    own = entropy(joint.sum(1))
    return (own + entropy(joint.sum(0)) - entropy(joint)) / max(own, 1e-12)

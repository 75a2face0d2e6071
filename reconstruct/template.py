"""Which tissue is not cerebrum, told by a template: the MNI152 average, fitted by an affine map.

The template knows its cerebellum and brain stem (`Mni152`). It is fitted twice, whole and as cerebrum alone; the one
that overlaps better says whether they are there at all, and where about. An affine map leaves errors of some
millimetres, so it only marks what is well inside either part: the cut itself is made in the brain (`parts.severed`).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from reconstruct import parts
from reconstruct.distance import to_background
from reconstruct.probability import read_probability, ribbon_of
from reconstruct.records import Ribbon
from reconstruct.sources import Mni152

Floats = NDArray[np.float64]
_STEP_MM = 2.0  # grid of the template
_EVERY = 3  # of its voxels in the fit, each way
_BLUR_MM = 4.0  # sd of the smoothing under which outlines are compared


@dataclass(frozen=True, kw_only=True, eq=False)
class Template:
    """MNI152 on a coarse grid.

    Args:
        cerebrum, other: [X, Y, Z] bool, tissue.
        affine: [4, 4] voxel -> mm.
    """

    cerebrum: NDArray[np.bool_]
    other: NDArray[np.bool_]
    affine: Floats


@cache
def mni152() -> Template:
    """The average with cerebellum and brain stem parted from the cerebrum."""
    source = Mni152.Config().volumes()
    block = []
    for path in source.files():
        data, affine = read_probability(path)
        n = round(_STEP_MM / float(np.linalg.norm(affine[:3, 0])))
        size = [side // n * n for side in data.shape]
        cube = data[: size[0], : size[1], : size[2]]
        block.append(cube.reshape(size[0] // n, n, size[1] // n, n, size[2] // n, n).mean((1, 3, 5)))
    corner = affine.copy()
    corner[:3, 3] = affine[:3, :3] @ np.full(3, (n - 1) / 2) + affine[:3, 3]
    corner[:3, :3] = affine[:3, :3] * n
    whole = ribbon_of(block[0], block[1], corner, source.space)
    places = np.reshape(np.asarray(source.other_mm), (-1, 3))
    kept = parts.severed(whole, *parts.around(whole, places, 45.0))
    cerebrum = kept.pial < 0
    return Template(cerebrum=cerebrum, other=(whole.pial < 0) & ~cerebrum, affine=whole.affine)


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """Where a template lies in a brain.

    Args:
        matrix: [3, 4], mm of the template -> mm of the brain.
        overlap: Dice overlap of the smoothed outlines.
    """

    matrix: Floats
    overlap: float


def fitted(brain: NDArray[np.bool_], to_mm: Floats, template: NDArray[np.bool_], affine: Floats) -> Fit:
    """Affine fit of one mask to another, from their moments on, by Gauss-Newton steps on smoothed masks.

    Args:
        brain, template: [X, Y, Z] bool.
        to_mm, affine: [4, 4] voxel -> mm of each.
    """
    fine = float(np.linalg.norm(to_mm[:3, 0]))
    block = max(1, round(_BLUR_MM / 2 / fine))
    soft = ndimage.gaussian_filter(ndimage.uniform_filter(brain.astype(np.float32), block)[::block, ::block, ::block],
                                   _BLUR_MM / fine / block)  # fmt: skip
    back = np.linalg.inv(to_mm)
    own = ndimage.gaussian_filter(np.pad(template, 6).astype(np.float32), _BLUR_MM / np.linalg.norm(affine[:3, 0]))
    index = np.indices(own.shape)[:, ::_EVERY, ::_EVERY, ::_EVERY].reshape(3, -1).T - 6.0
    points = index @ affine[:3, :3].T + affine[:3, 3]
    target = own[::_EVERY, ::_EVERY, ::_EVERY].ravel().astype(np.float64)
    grid = np.argwhere(brain[::block, ::block, ::block]) * block
    here = grid @ to_mm[:3, :3].T + to_mm[:3, 3]
    there = points[target > 0.5]
    spread = [np.sqrt(cloud.var(0)) for cloud in (here, there)]
    linear = np.diag(spread[0] / spread[1])
    matrix = np.column_stack([linear, here.mean(0) - linear @ there.mean(0)])
    middle = there.mean(0)
    size = np.abs(there - middle).max()
    basis = np.column_stack([(points - middle) / size, np.ones(len(points))])
    slopes = np.stack(np.gradient(soft), axis=-1)
    for _ in range(40):
        places = (points @ matrix[:, :3].T + matrix[:, 3]) @ back[:3, :3].T + back[:3, 3]
        at = ((places + (0.5 if block % 2 == 0 else 0.0)) / block).T  # where the mean of an even block lies
        value = ndimage.map_coordinates(soft, at, order=1, cval=0.0)
        slope = np.stack([ndimage.map_coordinates(slopes[..., k], at, order=1, cval=0.0) for k in range(3)], axis=1)
        slope = slope @ (back[:3, :3] / block)
        jacobian = (slope[:, :, None] * basis[:, None, :]).reshape(len(points), 12)
        keep = (np.abs(slope).sum(1) > 1e-6) | (np.abs(target - value) > 1e-3)
        h = jacobian[keep].T @ jacobian[keep]
        step = np.linalg.solve(h + 1e-3 * np.trace(h) / 12 * np.eye(12), jacobian[keep].T @ (target - value)[keep])
        change = step.reshape(3, 4)
        matrix[:, :3] += change[:, :3] / size
        matrix[:, 3] += change[:, 3] - change[:, :3] @ middle / size
        if np.abs(change).max() < 0.02:
            break
    both = np.minimum(value, target).sum()
    every = abs(np.linalg.det(affine[:3, :3])) * _EVERY**3  # mm^3 of the template per point
    outside = soft.sum() * (block * fine) ** 3 / (abs(np.linalg.det(matrix[:, :3])) * every)
    return Fit(matrix=matrix, overlap=float(2 * both / (target.sum() + outside)))


def not_cerebrum(
    ribbon: Ribbon, margin_mm: float = 8.0
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], dict[str, float]]:
    """Markers for `parts.severed`, and how well either template overlaps.

    Args:
        ribbon: of a whole brain, human in shape.
        margin_mm: markers lie at least this far inside their part, in mm of the template.

    Returns:
        [X, Y, Z] bool: tissue of cerebellum or brain stem (none where the cerebrum alone fits better), and of the
        cerebrum; the overlaps `whole` and `cerebrum`.
    """
    template, tissue = mni152(), ribbon.pial < 0
    whole = fitted(tissue, ribbon.affine, template.cerebrum | template.other, template.affine)
    alone = fitted(tissue, ribbon.affine, template.cerebrum, template.affine)
    overlaps = {"whole": round(whole.overlap, 4), "cerebrum": round(alone.overlap, 4)}
    nothing = np.zeros(tissue.shape, bool)
    if whole.overlap <= alone.overlap:
        return nothing, tissue, overlaps
    step = float(np.linalg.norm(template.affine[:3, 0]))
    # Signed distance to the border between the two parts, wherever there is tissue or not: nearer to which?
    to_own, to_other = (to_background(~part) * step for part in (template.cerebrum, template.other))
    lean = to_own - to_other  # above 0 nearer to the other part
    full = np.vstack([whole.matrix, [0, 0, 0, 1.0]])
    chain = np.linalg.inv(template.affine) @ np.linalg.inv(full) @ ribbon.affine
    where = np.argwhere(tissue)
    at = where @ chain[:3, :3].T + chain[:3, 3]
    value = ndimage.map_coordinates(lean.astype(np.float32), at.T, order=1, mode="nearest")
    other, own = nothing.copy(), nothing.copy()
    other[tuple(where[value > margin_mm].T)] = True
    own[tuple(where[value < -margin_mm].T)] = True
    return other, own, overlaps

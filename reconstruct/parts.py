"""Parts of a brain that are not cortex's own: what lies inside (ventricles, deep grey), and what is not cerebrum."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from meshgnn.errors import SettingError
from reconstruct.distance import to_background
from reconstruct.records import Ribbon

Mask = NDArray[np.bool_]


def filled(ribbon: Ribbon, passage_mm: float, ventricle_mm3: float, deep_mm: float) -> Ribbon:
    """The ribbon with its inside as white matter: background that only a narrow passage joins to the outside, and grey
    matter deeper than any cortex.

    Args:
        passage_mm: background behind passages narrower than this is inside (ventricles).
        ventricle_mm3: smaller pieces of such background are pockets of sulci and stay outside.
        deep_mm: grey matter further than this from the outside is no cortex.
    """
    voxel = ribbon.voxel_mm
    hidden = enclosed(ribbon.pial > 0, passage_mm / 2 / voxel, ventricle_mm3 / voxel**3)
    depth = to_background((ribbon.pial < 0) | hidden) * voxel
    deep = (depth > deep_mm) & (ribbon.white >= 0) & (ribbon.pial < 0)
    pial = np.where(hidden, -voxel, ribbon.pial).astype(np.float32)
    white = np.where(deep | hidden, -voxel, ribbon.white).astype(np.float32)
    return replace(ribbon, pial=pial, white=np.maximum(white, pial))


def enclosed(background: Mask, radius: float, least: float) -> Mask:
    """Wide background (a ball of this radius, in voxels, fits in) that such a ball cannot reach from outside.

    Sulci are narrow all along: they stay outside. Pieces of less than `least` voxels too.
    """
    room = to_background(background) > radius
    room[[0, -1]], room[:, [0, -1]], room[:, :, [0, -1]] = True, True, True
    numbers, _ = ndimage.label(room)
    hidden = room & (numbers != numbers[0, 0, 0])
    if not hidden.any():
        return hidden
    pieces, _ = ndimage.label(background & (to_background(~hidden) <= radius + 1.0))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return (sizes >= least)[pieces]


def around(ribbon: Ribbon, places_mm: NDArray[np.float64], apart_mm: float) -> tuple[Mask, Mask]:
    """Markers [X, Y, Z] for `severed`: white matter nearest to places [P, 3], and all at least `apart_mm` from them.

    Raises:
        SettingError: a place is not in tissue.
    """
    other, own = np.zeros(ribbon.white.shape, bool), np.zeros(ribbon.white.shape, bool)
    seeds = np.argwhere(ribbon.white < 0)
    if not len(seeds):
        return other, own
    away, _ = cKDTree(places_mm).query(ribbon.to_mm(seeds.astype(np.float64)))
    own[tuple(seeds[away > apart_mm].T)] = True
    near = cKDTree(seeds)
    for place in places_mm:
        distance, nearest = near.query(ribbon.to_voxels(place))
        if distance * ribbon.voxel_mm > apart_mm / 7:
            raise SettingError(f"<other_mm>: there is no white matter within {apart_mm / 7:.2g} mm of {place.tolist()}")
        other[tuple(seeds[nearest])] = True
    return other, own


def severed(ribbon: Ribbon, other: Mask, own: Mask) -> Ribbon:
    """The ribbon less the tissue around `other`, cut off from that around `own` where the white matter between the two
    is narrowest: a watershed on depth.

    Args:
        other, own: [X, Y, Z] markers; where both are set, `other` counts.
    """
    from skimage.segmentation import watershed

    if not other.any():
        return ribbon
    tissue = ribbon.pial < 0
    where = [np.flatnonzero((tissue & ~own).any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    box = tuple(slice(max(0, int(w[0]) - 3), int(w[-1]) + 4) for w in where)
    white = ribbon.white[box] < 0
    markers = np.where(other[box], 2, np.where(own[box], 1, 0)).astype(np.int32)
    height = to_background(~white) - to_background(white)
    gone = np.zeros(tissue.shape, bool)
    gone[box] = watershed(height, markers, mask=tissue[box]) == 2
    return less(ribbon, gone)


def less(ribbon: Ribbon, gone: Mask) -> Ribbon:
    """The ribbon with some voxels [X, Y, Z] made background."""
    out = np.where(gone, ribbon.voxel_mm / 2, -np.inf).astype(np.float32)
    return replace(ribbon, pial=np.maximum(ribbon.pial, out), white=np.maximum(ribbon.white, out))

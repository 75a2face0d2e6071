"""Step: from grey and white matter probability maps to the ribbon.

Tissue is where grey and white together pass 0.5, white matter where white exceeds grey. Ventricles and deep nuclei
count as white matter: background that only a narrow passage joins to the outside, and grey matter deeper than any
cortex.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from meshgnn import config
from meshgnn.errors import InputError, SettingError
from reconstruct.distance import to_background
from reconstruct.records import Ribbon

LARGEST_VOXELS = 1e9
"""A map with more voxels is refused before memory is taken."""


class RibbonFromVolume:
    """Two probability maps -> Ribbon of both hemispheres."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            voxel_mm: the maps are resampled to cubes of this side; None = their own smallest side.
            passage_mm: background behind passages narrower than this is inside (ventricles).
            ventricle_mm3: smaller pieces of such background are pockets of sulci and stay outside.
            deep_mm: grey matter further than this from the outside is no cortex.
        """

        voxel_mm: float | None = None
        passage_mm: float = 4.0
        ventricle_mm3: float = 2000.0
        deep_mm: float = 14.0

        def build(self) -> "RibbonFromVolume":
            return RibbonFromVolume(self)

    def __init__(self, settings: Config) -> None:
        self.settings = settings

    def __call__(self, grey_path: Path, white_path: Path, space: str, other_mm: Sequence[float] = ()) -> Ribbon:
        """`other_mm`: places in tissue that is not cerebrum, see `VolumePair.Config`.

        Raises InputError for a file that is missing, cut short, not 3D, without affine, not finite, or empty."""
        grey, affine = read_probability(grey_path)
        white, other = read_probability(white_path)
        if grey.shape != white.shape or not np.allclose(affine, other, atol=1e-3):
            raise InputError(f"{white_path}: not on the grid of {grey_path.name} ({white.shape}, {grey.shape})")
        sides = np.linalg.norm(affine[:3, :3], axis=0)
        voxel = self.settings.voxel_mm or float(sides.min())
        if not np.allclose(sides, voxel, rtol=1e-3):
            zoom = sides / voxel
            grey, white = (ndimage.zoom(field, zoom, order=1, grid_mode=False) for field in (grey, white))
            real = (np.array(grey.shape) - 1) / np.maximum(1, np.round((np.array(grey.shape)) / zoom) - 1)
            affine = affine.copy()
            affine[:3, :3] = affine[:3, :3] / real
        tissue = grey + white
        if not (white > 0.5).any() or not (tissue > 0.5).any():
            raise InputError(f"{white_path}: white matter nowhere reaches probability 0.5; give maps from 0 to 1")
        pad = 4
        tissue, white, grey = (np.pad(field, pad) for field in (tissue, white, grey))
        affine = affine.copy()
        affine[:3, 3] -= affine[:3, :3] @ np.full(3, pad)
        pial = (0.5 - tissue).astype(np.float32)
        hidden = _enclosed(pial > 0, self.settings.passage_mm / 2 / voxel, self.settings.ventricle_mm3 / voxel**3)
        depth = to_background((pial < 0) | hidden) * voxel
        inner, outer = (depth[(pial < 0) & mask] for mask in (white > grey, grey >= white))
        if len(outer) == 0 or inner.mean() < outer.mean():
            raise InputError(
                f"{white_path}: its tissue lies outside that of {grey_path.name}; are the two maps exchanged?"
            )
        level = np.where(pial < 0, grey - white, 0.5).astype(np.float32)
        deep = (depth > self.settings.deep_mm) & (level >= 0)
        pial = np.where(hidden, -0.5, pial).astype(np.float32)
        level = np.where(deep | hidden, -0.5, level).astype(np.float32)
        # In mm, roughly: probability falls from 1 to 0 over about two voxels.
        scale = np.float32(2 * voxel)
        ribbon = Ribbon(
            pial=(pial * scale).astype(np.float32), white=(np.maximum(level, pial) * scale).astype(np.float32),
            affine=affine, space=space,
        )  # fmt: skip
        return without(ribbon, np.reshape(np.asarray(other_mm, np.float64), (-1, 3))) if len(other_mm) else ribbon


def without(ribbon: Ribbon, places_mm: NDArray[np.float64], apart_mm: float = 45.0) -> Ribbon:
    """The ribbon less the tissue around places [P, 3]: cut off where the white matter that leads to it is narrowest.

    A watershed on depth from white matter at the places and from white matter at least `apart_mm` away from them.

    Raises:
        InputError: a place is not in tissue.
    """
    from skimage.segmentation import watershed

    white = ribbon.white < 0
    markers = np.zeros(white.shape, np.int32)
    seeds = np.argwhere(white)
    tree = cKDTree(places_mm)
    away, _ = tree.query(ribbon.to_mm(seeds.astype(np.float64)))
    markers[tuple(seeds[away > apart_mm].T)] = 1
    near = cKDTree(seeds)
    for place in places_mm:
        distance, nearest = near.query(ribbon.to_voxels(place))
        if distance * ribbon.voxel_mm > 6:
            raise SettingError(f"<source.other_mm>: there is no white matter within 6 mm of {place.tolist()}")
        markers[tuple(seeds[nearest])] = 2
    height = to_background(~white) - to_background(white)
    grown = watershed(height, markers, mask=ribbon.pial < 0)
    out = np.where(grown == 2, ribbon.voxel_mm / 2, -np.inf).astype(np.float32)
    return replace(ribbon, pial=np.maximum(ribbon.pial, out), white=np.maximum(ribbon.white, out))


def read_probability(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """A probability map [X, Y, Z] in RAS order and its affine; values above 1 are taken as percent or 8-bit."""
    import nibabel

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        image: Any = nibabel.load(path)
        header = image.header
        if hasattr(header, "get_sform") and int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
            raise InputError(f"{path}: has no affine (sform and qform unset), so nobody knows where left is; set one")
        if np.prod([float(size) for size in image.shape]) > LARGEST_VOXELS:
            raise InputError(
                f"{path}: its header asks for {image.shape} voxels, more than {LARGEST_VOXELS:.0e} are not read"
            )
        image = nibabel.as_closest_canonical(image)
        data = np.asarray(image.get_fdata(dtype=np.float32))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: cannot be read as a volume ({error}); export it again as NIfTI") from None
    data = data[..., 0] if data.ndim == 4 and data.shape[3] == 1 else data
    if data.ndim != 3:
        raise InputError(f"{path}: needs a 3D volume, has shape {data.shape}")
    if not np.isfinite(data).all():
        raise InputError(f"{path}: {int((~np.isfinite(data)).sum())} voxels are not finite; set them to 0")
    top = float(data.max(initial=0))
    if data.min(initial=0) < -1e-3 or top <= 0:
        raise InputError(f"{path}: probabilities from 0 to 1 are expected, values run up to {top:g}")
    scale = 1.0 if top <= 1.001 else 100.0 if top <= 100 else 255.0
    return (data / np.float32(scale)).astype(np.float32), np.asarray(image.affine, np.float64)


def _enclosed(background: NDArray[np.bool_], radius: float, least: float) -> NDArray[np.bool_]:
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

"""Step: from grey and white matter probability maps to the ribbon.

Tissue is where grey and white together pass 0.5, white matter where white exceeds grey. What lies inside the ribbon and
what is not cerebrum is left to the next step.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from meshgnn import config
from meshgnn.errors import InputError
from reconstruct.distance import to_background
from reconstruct.records import Ribbon

LARGEST_VOXELS = 1e9
"""A map with more voxels is refused before memory is taken."""


class RibbonFromVolume:
    """Two probability maps -> Ribbon of all tissue."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            voxel_mm: the maps are resampled to cubes of this side; None = their own smallest side.
        """

        voxel_mm: float | None = None

        def build(self) -> "RibbonFromVolume":
            return RibbonFromVolume(self)

    def __init__(self, settings: Config) -> None:
        self.settings = settings

    def __call__(self, grey_path: Path, white_path: Path, space: str) -> Ribbon:
        """Raises InputError for a file that is missing, cut short, not 3D, without affine, not finite, or empty."""
        grey, affine = read_probability(grey_path)
        white, other = read_probability(white_path)
        if grey.shape != white.shape or not np.allclose(affine, other, atol=1e-3):
            raise InputError(f"{white_path}: not on the grid of {grey_path.name} ({white.shape}, {grey.shape})")
        sides = np.linalg.norm(affine[:3, :3], axis=0)
        voxel = self.settings.voxel_mm or float(sides.min())
        if not np.allclose(sides, voxel, rtol=1e-3):
            zoom = sides / voxel
            if np.prod(zoom * grey.shape) > LARGEST_VOXELS:
                raise InputError(
                    f"{grey_path}: voxels of {sides[0]:.3g} x {sides[1]:.3g} x {sides[2]:.3g} mm become too many cubes "
                    f"of {voxel:.3g} mm; check its affine or set volume.voxel_mm"
                )
            grey, white = (ndimage.zoom(field, zoom, order=1, grid_mode=False) for field in (grey, white))
            real = (np.array(grey.shape) - 1) / np.maximum(1, np.round((np.array(grey.shape)) / zoom) - 1)
            affine = affine.copy()
            affine[:3, :3] = affine[:3, :3] / real
        if not (white > 0.5).any() or not (grey + white > 0.5).any():
            raise InputError(f"{white_path}: white matter nowhere reaches probability 0.5; give maps from 0 to 1")
        result = self.ribbon(grey, white, affine, space)
        depth = to_background(result.pial < 0)
        inside = result.white < 0
        inner, outer = (depth[(result.pial < 0) & mask] for mask in (inside, ~inside))
        if len(outer) == 0 or inner.mean() < outer.mean():
            raise InputError(
                f"{white_path}: its tissue lies outside that of {grey_path.name}; are the two maps exchanged?"
            )
        return result

    def ribbon(
        self, grey: NDArray[np.float32], white: NDArray[np.float32], affine: NDArray[np.float64], space: str
    ) -> Ribbon:
        """The ribbon of maps [X, Y, Z] with cubes for voxels."""
        pad = 4
        white, grey = (np.pad(field, pad) for field in (white, grey))
        affine = affine.copy()
        affine[:3, 3] -= affine[:3, :3] @ np.full(3, pad)
        pial = (0.5 - grey - white).astype(np.float32)
        level = np.where(pial < 0, grey - white, 0.5).astype(np.float32)
        # In mm, roughly: probability falls from 1 to 0 over about two voxels.
        scale = np.float32(2 * np.linalg.norm(affine[:3, 0]))
        return Ribbon(
            pial=(pial * scale).astype(np.float32), white=(np.maximum(level, pial) * scale).astype(np.float32),
            affine=affine, space=space,
        )  # fmt: skip


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

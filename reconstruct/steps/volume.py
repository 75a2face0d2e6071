"""Step: from grey and white matter probability maps to the ribbon.

Tissue is where grey and white together pass 0.5, white matter where white exceeds grey. What lies inside the ribbon and
what is not cerebrum is left to the next step.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from meshgnn import config
from meshgnn.errors import InputError
from reconstruct.distance import to_background
from reconstruct.probability import LARGEST_VOXELS, read_pair, ribbon_of
from reconstruct.records import Ribbon


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
        grey, white, affine = read_pair(grey_path, white_path)
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
        result = ribbon_of(grey, white, affine, space)
        depth = to_background(result.pial < 0)
        inside = result.white < 0
        inner, outer = (depth[(result.pial < 0) & mask] for mask in (inside, ~inside))
        if len(outer) == 0 or inner.mean() < outer.mean():
            raise InputError(
                f"{white_path}: its tissue lies outside that of {grey_path.name}; are the two maps exchanged?"
            )
        return result

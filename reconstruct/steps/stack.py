"""Step: from aligned sections to a volume, by interpolation of shape.

Not grey values but signed distances to the boundaries are interpolated between sections (Raya & Udupa 1990; Herman,
Zheng & Bucholtz 1992 for higher order), with a cubic spline through the true positions: missing sections are merely
wider steps. Before the first and after the last section the tissue closes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import CubicSpline

from meshgnn import config
from meshgnn.errors import SettingError
from meshgnn.source.sections import AXES
from reconstruct.records import Alignment, Ribbon, TissueStack
from reconstruct.species import AS_SPECIES, BySpecies, settled

_LARGEST_VOXELS = 1e9


class StackSections:
    """TissueStack + Alignment -> Ribbon of both hemispheres."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            voxel_mm: of the volume.
            reach_mm: signed distances are cut off at +- this before interpolation.
            largest_gap_mm: a wider gap between neighbouring sections is refused.
        """

        voxel_mm: BySpecies = AS_SPECIES
        reach_mm: BySpecies = AS_SPECIES
        largest_gap_mm: BySpecies = AS_SPECIES

        def __post_init__(self) -> None:
            if self.voxel_mm is not None and not 0.01 <= self.voxel_mm <= 5:
                raise SettingError(f"<voxel_mm> must lie between 0.01 and 5 mm, got {self.voxel_mm}")

        def build(self) -> "StackSections":
            return StackSections(self)

    def __init__(self, settings: Config) -> None:
        self.settings = settled(settings, "stack")

    def __call__(self, stack: TissueStack, alignment: Alignment, plane: str, space: str) -> Ribbon:
        """Raises InputError where a gap is wider than allowed."""
        set_ = self.settings
        gaps = np.diff(stack.position_mm)
        if gaps.max() > set_.largest_gap_mm:
            worst = int(np.argmax(gaps))
            raise SettingError(
                f"sections {stack.index[worst]} and {stack.index[worst + 1]} lie {gaps[worst]:.1f} mm apart, more than "
                f"<stack.largest_gap_mm> = {set_.largest_gap_mm:g}; add sections or allow the gap"
            )
        size = np.array(stack.outer.shape[1:]) * stack.pixel_mm
        ends = alignment.frame_mm if len(alignment.frame_mm) else np.array([-size / 2, size / 2])
        axes = [np.arange(low - 2, high + 2, set_.voxel_mm) for low, high in ends.T]
        along = np.arange(stack.position_mm[0] - 3, stack.position_mm[-1] + 3, set_.voxel_mm)
        voxels = float(len(axes[0])) * len(axes[1]) * len(along)
        if voxels > _LARGEST_VOXELS:
            raise SettingError(f"{voxels:.1e} voxels of {set_.voxel_mm:g} mm are too many; raise <stack.voxel_mm>")
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        levels = np.empty((2, len(stack.outer), *grid.shape[:2]), np.float32)
        for k in range(len(stack.outer)):
            places = np.moveaxis((alignment.map(k, grid) - stack.origin_mm[k]) / stack.pixel_mm, -1, 0)
            for channel, field in enumerate((stack.outer, stack.white)):
                levels[channel, k] = ndimage.map_coordinates(
                    field[k], places, order=1, mode="constant", cval=set_.reach_mm
                )  # fmt: skip
        pial = interpolate_shape(levels[0], stack.position_mm, along, set_.reach_mm)
        white = interpolate_shape(levels[1], stack.position_mm, along, set_.reach_mm)
        affine = np.eye(4)
        column, row, axis = AXES[plane]
        affine[:3, 0], affine[:3, 1], affine[:3, 2] = (
            axis * set_.voxel_mm, row * set_.voxel_mm, column * set_.voxel_mm,
        )  # fmt: skip
        affine[:3, 3] = axis * along[0] + row * axes[0][0] + column * axes[1][0]
        return Ribbon(pial=pial, white=np.maximum(white, pial), affine=affine, space=space)


def interpolate_shape(
    levels: NDArray[np.float32], position: NDArray[np.float64], wanted: NDArray[np.float64], reach: float
) -> NDArray[np.float32]:
    """Signed distances [Z, H, W] at positions [Z] from those of sections [N, H, W] at ascending positions [N].

    Between sections a cubic spline (a line if there are two sections); beyond the ends the level of the last section
    rises by the distance from it.
    """
    clipped = np.clip(levels, -reach, reach)
    inside = (wanted >= position[0]) & (wanted <= position[-1])
    result = np.empty((len(wanted), *levels.shape[1:]), np.float32)
    slabs = np.array_split(np.arange(levels.shape[1]), max(1, levels[:, :, 0].size * levels.shape[2] // 2_000_000))
    for rows in slabs:
        part = clipped[:, rows]
        if len(position) > 2:
            result[inside, rows[0] : rows[-1] + 1] = CubicSpline(position, part, axis=0)(wanted[inside])
        else:
            share = ((wanted[inside] - position[0]) / (position[1] - position[0]))[:, None, None]
            result[inside, rows[0] : rows[-1] + 1] = part[0] * (1 - share) + part[1] * share
    for place in np.flatnonzero(~inside):
        end = 0 if wanted[place] < position[0] else -1
        result[place] = clipped[end] + abs(wanted[place] - position[end])
    return np.clip(result, -reach, reach)

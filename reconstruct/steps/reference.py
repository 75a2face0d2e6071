"""A reference volume (an MRI of the same brain, a block face) that says how the brain is shaped.

Sections say well how neighbours lie to each other and badly how the brain is bent. The volume says the second. They
are brought together in turns: the volume is fitted to the sections as they lie, by a rotation, a shift and two scales
(histology shrinks, within sections otherwise than along the brain); then every section is moved towards its own cut
through the volume as well as towards its neighbours (`reconstruct.joint`).
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from meshgnn.errors import InputError, SettingError
from meshgnn.source.sections import AXES
from reconstruct import contrast, information
from reconstruct.distance import signed_distance
from reconstruct.frames import Frames
from reconstruct.probability import read_pair, ribbon_of
from reconstruct.records import Ribbon
from reconstruct.sources import VolumePair
from reconstruct.steps.volume import RibbonFromVolume
from reconstruct.template import fitted

Floats = NDArray[np.float64]
_LEAST_OVERLAP = 0.8  # Dice of smoothed outlines: below this it is another brain, or lies otherwise


class ReferenceVolume:
    """A volume of the brain that the sections were cut from: maps of its tissue, or an image of any contrast."""

    @dataclass(frozen=True, kw_only=True)
    class Config(VolumePair.Config):
        """
        Args:
            image: NIfTI in grey values (T1, T2, a channel of a block face) instead of `grey` and `white`; the sections
                tell what is grey and what is white matter in it (`reconstruct.contrast`).
        """

        image: Path | None = None

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.image is not None and super().named:
                raise SettingError("give <image>, or <grey> and <white>, not both")

        @property
        def named(self) -> tuple[Path, ...]:
            return super().named if self.image is None else (self.image,)

        def check(self) -> None:
            """The files can be read. Raises InputError."""
            if self.image is not None:
                contrast.read_image(self.image)
            else:
                read_pair(*self.files())


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """The volume and where it lies.

    Args:
        ribbon: of the volume, or an image in which the ribbon is found with the sections (`told_by`).
        plane: of the sections.
        reach_mm: signed distances are cut off at +- this.
    """

    ribbon: Ribbon | information.Image
    plane: str
    reach_mm: float

    def told_by(self, work: Frames, moved: NDArray[np.float32]) -> "Reference":
        """The same with a ribbon; in an image it is found with the help of the sections as they lie now.

        Args:
            work: the sections.
            moved: [N, 2, h, w] as they lie now.

        Raises:
            InputError: the image does not show what they show.
        """
        if isinstance(self.ribbon, Ribbon):
            return self
        _, to_mm = self._block(work)
        levels = information.levels_of(moved, work.position, to_mm, AXES[self.plane][2], self.reach_mm)
        found = contrast.classes(levels, self.ribbon, information.placed(levels, self.ribbon))
        return replace(self, ribbon=ribbon_of(found.grey, found.white, found.affine, self.ribbon.path.name))

    def _block(self, work: Frames) -> tuple[Floats, Floats]:
        """Places along the cutting axis, one pixel apart, and voxel (depth, row, column) -> mm [4, 4]."""
        column, row, along = AXES[self.plane]
        depth = np.arange(work.position[0], work.position[-1] + 1e-6, work.step)
        to_mm = np.eye(4)
        to_mm[:3, 0], to_mm[:3, 1], to_mm[:3, 2] = (axis * work.step for axis in (along, row, column))
        corner = -work.half * work.step
        to_mm[:3, 3] = along * depth[0] + row * corner[0] + column * corner[1]
        return depth, to_mm

    def cuts(self, work: Frames, moved: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
        """Level images [N, 2, h, w] of the volume's cuts where the sections lie, and how well it fits them (Dice).

        Args:
            work: the sections.
            moved: [N, 2, h, w] as they lie now.

        Raises:
            InputError: it fits them badly.
        """
        assert isinstance(self.ribbon, Ribbon)  # told_by comes first
        column, row, along = AXES[self.plane]
        depth, to_mm = self._block(work)
        place = np.clip(np.searchsorted(work.position, depth), 1, len(work.position) - 1)
        before = depth - work.position[place - 1] < work.position[place] - depth
        tissue = moved[place - before, 0] < 0
        block = max(1, round(2.0 / self.ribbon.voxel_mm))
        coarse = (self.ribbon.pial < 0)[::block, ::block, ::block]
        affine = self.ribbon.affine.copy()
        affine[:3, :3] *= block
        fit = fitted(tissue, to_mm, coarse, affine)
        if fit.overlap < _LEAST_OVERLAP:
            raise InputError(
                f"the reference volume does not fit the sections (overlap {fit.overlap:.2f}, at least "
                f"{_LEAST_OVERLAP:g} is needed): it must show the same tissue, in the same orientation (RAS)"
            )
        matrix = _unsheared(fit.matrix, np.argwhere(coarse) @ affine[:3, :3].T + affine[:3, 3], np.abs(along))
        back = np.linalg.inv(np.vstack([matrix, [0, 0, 0, 1.0]]))
        chain = np.linalg.inv(self.ribbon.affine) @ back
        flat = work.grid[..., :1] * row + work.grid[..., 1:] * column
        result = np.empty_like(moved)
        for k, position in enumerate(work.position):
            at = (flat + along * position) @ chain[:3, :3].T + chain[:3, 3]
            for channel, field in enumerate((self.ribbon.pial, self.ribbon.white)):
                level = ndimage.map_coordinates(field, np.moveaxis(at, -1, 0), order=1, cval=float(self.reach_mm))
                result[k, channel] = signed_distance(level.astype(np.float32), work.step, self.reach_mm)
        return result, fit.overlap


def _unsheared(matrix: Floats, points: Floats, along: Floats) -> Floats:
    """The nearest map [3, 4] without shear: a rotation, then one scale along the cutting axis and one across it.

    Args:
        matrix: [3, 4] affine.
        points: [N, 3] whose middle stays where the affine map has it.
        along: [3] unit vector, 1 at the cutting axis.
    """
    left, size, right = np.linalg.svd(matrix[:, :3])
    stretch = np.diag(left @ np.diag(size) @ left.T)
    across = float(stretch @ (1 - along)) / 2
    linear = np.diag(np.where(along > 0.5, stretch, across)) @ left @ right
    middle = points.mean(0)
    return np.column_stack([linear, matrix[:, :3] @ middle + matrix[:, 3] - linear @ middle])


def read_reference(source: ReferenceVolume.Config, plane: str, reach_mm: float) -> Reference:
    """Read a reference. Raises InputError as `RibbonFromVolume` and `contrast.read_image` do."""
    ribbon: Ribbon | information.Image
    if source.image is not None:
        ribbon = contrast.read_image(source.image)
    else:
        ribbon = RibbonFromVolume.Config().build()(*source.files(), source.space)
    return Reference(ribbon=ribbon, plane=plane, reach_mm=reach_mm)

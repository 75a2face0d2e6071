"""Records of histological sections and of a stack of them; `source.sections` reads them from disk.

Pixel (row, column) counts centres from 0. Before any alignment the centre of every image lies on the cutting axis;
stack space is RAS in mm:

    plane        column grows to   row grows to    position grows to
    coronal      right   (+x)      inferior (-z)   anterior (+y)
    sagittal     anterior (+y)     inferior (-z)   right    (+x)
    horizontal   right   (+x)      posterior (-y)  superior (+z)
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from meshgnn.errors import InputError
from meshgnn.mesh.record import frozen
from meshgnn.source.bend import Bend
from meshgnn.source.stains import DEFAULT

__all__ = ["AXES", "TABLE", "Plane", "Section", "SectionStack", "nominal_transform"]

Plane = Literal["coronal", "sagittal", "horizontal"]
TABLE = "sections.csv"

_LONGEST_MM = 1000.0  # from the first section to the last
_WIDEST_PIXEL_UM = 1e4

# Unit vectors (column, row, position) of each plane, RAS.
AXES: dict[str, npt.NDArray[np.float64]] = {
    "coronal": np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]),
    "sagittal": np.array([[0, 1.0, 0], [0, 0, -1.0], [1.0, 0, 0]]),
    "horizontal": np.array([[1.0, 0, 0], [0, -1.0, 0], [0, 0, 1.0]]),
}


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Section:
    """One section.

    Args:
        path: of the image.
        index: running number; gaps are lost sections.
        position_mm: along the cutting axis.
        pixel_um: width of a pixel.
        thickness_um: of the cut.
        shape: rows and columns of the image.
        plane: of the cut.
        usable: False for a section that is damaged beyond use.
        mirrored: mounted upside down; `open_section` turns its columns round.
        stain: which channel colour becomes when it is read, one of `meshgnn.source.stains.STAINS`.
        colour: the image is stored as colour.
        flags: quality remarks.
        to_space: [3, 3] float64, maps (column_px, row_px, 1) to RAS mm; from plane, position and image centre if
            absent. Alignment replaces it.
        bend: what the tissue did on the glass beside that, a map of the plane (row, column in mm along the plane's
            axes) that comes before `to_space` is undone: a point p of space lies where `to_space` puts p + bend(p).
    """

    path: Path
    index: int
    position_mm: float
    pixel_um: float
    thickness_um: float
    shape: tuple[int, int]
    plane: Plane = "coronal"
    usable: bool = True
    mirrored: bool = False
    stain: str = DEFAULT
    colour: bool = False
    flags: tuple[str, ...] = ()
    to_space: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    bend: Bend | None = None

    def __post_init__(self) -> None:
        where = f"section {self.index} ({self.path.name})"
        if not 0 <= self.index < 2**31:
            raise InputError(f"{where}: index must lie between 0 and {2**31 - 1}")
        if not (np.isfinite(self.pixel_um) and self.pixel_um > 0):
            raise InputError(f"{where}: pixel_um must be above 0, got {self.pixel_um}")
        if self.pixel_um > _WIDEST_PIXEL_UM:
            raise InputError(f"{where}: pixel_um is {self.pixel_um:g}, at most {_WIDEST_PIXEL_UM:g} make sense")
        if not (np.isfinite(self.thickness_um) and self.thickness_um > 0):
            raise InputError(f"{where}: thickness_um must be above 0, got {self.thickness_um}")
        if not np.isfinite(self.position_mm):
            raise InputError(f"{where}: position_mm must be a number, got {self.position_mm}")
        if self.plane not in AXES:
            raise InputError(f"{where}: plane must be one of {', '.join(AXES)}, got {self.plane!r}")
        if min(self.shape) < 1:
            raise InputError(f"{where}: the image is empty ({self.shape[0]} x {self.shape[1]})")
        matrix = np.asarray(self.to_space, dtype=np.float64)
        if matrix.size == 0:
            matrix = nominal_transform(self.plane, self.position_mm, self.pixel_um, self.shape)
        if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
            raise InputError(f"{where}: the 2D to 3D transform must be a finite 3 x 3 matrix")
        object.__setattr__(self, "to_space", frozen(matrix, np.float64))

    @property
    def normal(self) -> npt.NDArray[np.float64]:
        """Unit vector [3] along the cutting axis."""
        return AXES[self.plane][2]

    def pixel_to_mm(self, row_px: npt.ArrayLike, column_px: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """RAS mm [..., 3] of pixel centres."""
        row, column = np.broadcast_arrays(np.asarray(row_px, np.float64), np.asarray(column_px, np.float64))
        m = self.to_space
        points = column[..., None] * m[:, 0] + row[..., None] * m[:, 1] + m[:, 2]
        if self.bend is None:
            return points
        axes = AXES[self.plane][[1, 0]]
        flat = points @ axes.T
        return np.asarray(points + (self.bend.back(flat) - flat) @ axes, np.float64)

    def mm_to_pixel(
        self, points_mm: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Row, column (float px) and signed distance to the section plane (mm) of points [..., 3]."""
        m = self.to_space
        normal = np.cross(m[:, 0], m[:, 1])
        normal = normal / np.linalg.norm(normal) * np.sign(normal @ self.normal or 1.0)
        inverse = np.linalg.inv(np.column_stack([m[:, 0], m[:, 1], normal]))
        points = np.asarray(points_mm, np.float64)
        if self.bend is not None:
            axes = AXES[self.plane][[1, 0]]
            points = points + self.bend.at(points @ axes.T) @ axes
        local = (points - m[:, 2]) @ inverse.T
        return local[..., 1], local[..., 0], local[..., 2]


def nominal_transform(
    plane: str, position_mm: float, pixel_um: float, shape: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """[3, 3] matrix from (column_px, row_px, 1) to RAS mm with the image centre on the cutting axis."""
    column, row, along = AXES[plane]
    step = pixel_um / 1000
    corner = along * position_mm - column * step * (shape[1] - 1) / 2 - row * step * (shape[0] - 1) / 2
    return np.column_stack([column * step, row * step, corner])


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class SectionStack:
    """The sections of one brain in cutting order, checked: indices distinct, positions increasing, one plane.

    Args:
        sections: N sections.
        space: name of the coordinate space.
        folder: where they came from.
    """

    sections: tuple[Section, ...]
    space: str
    folder: Path | None = None

    def __post_init__(self) -> None:
        sections = tuple(sorted(self.sections, key=lambda section: section.index))
        where = str(self.folder / TABLE) if self.folder else "stack"
        if not sections:
            raise InputError(f"{where}: no sections; list at least one image")
        for before, after in pairwise(sections):
            if before.index == after.index:
                raise InputError(
                    f"{where}: index {after.index} stands twice ({before.path.name}, {after.path.name}); "
                    "number each section once"
                )
            if after.position_mm <= before.position_mm:
                raise InputError(
                    f"{where}: position_mm does not increase from section {before.index} ({before.position_mm:g}) to "
                    f"{after.index} ({after.position_mm:g}); put the true positions along the cutting axis"
                )
        span = sections[-1].position_mm - sections[0].position_mm
        if span > _LONGEST_MM:
            raise InputError(
                f"{where}: position_mm runs from {sections[0].position_mm:g} to {sections[-1].position_mm:g}, more "
                f"than {_LONGEST_MM:g} mm; give millimetres (micrometres divided by 1000)"
            )
        planes = sorted({section.plane for section in sections})
        if len(planes) > 1:
            raise InputError(f"{where}: sections cut in different planes ({', '.join(planes)}); split the stack")
        if not self.space:
            raise InputError(f"{where}: a stack must name its coordinate space")
        object.__setattr__(self, "sections", sections)

    def __len__(self) -> int:
        return len(self.sections)

    def __iter__(self) -> Iterator[Section]:
        return iter(self.sections)

    @property
    def positions_mm(self) -> npt.NDArray[np.float64]:
        """[N] positions along the cutting axis."""
        return np.array([section.position_mm for section in self.sections])

    @property
    def plane(self) -> Plane:
        return self.sections[0].plane

    @property
    def pixel_um(self) -> float:
        """The finest pixel size in the stack; single sections may differ."""
        return min(section.pixel_um for section in self.sections)

    @property
    def coarsest_um(self) -> float:
        """The coarsest pixel size among usable sections (among all, where none is usable)."""
        usable = [section for section in self.sections if section.usable]
        return max(section.pixel_um for section in usable or self.sections)

    @property
    def spacing_mm(self) -> float:
        """Median distance between neighbours."""
        if len(self) < 2:
            raise InputError(f"{self.folder or 'stack'}: one section has no spacing; at least two are needed")
        return float(np.median(np.diff(self.positions_mm)))

    def usable(self) -> "SectionStack":
        """The stack without the sections marked unusable."""
        kept = tuple(section for section in self.sections if section.usable)
        if not kept:
            raise InputError(f"{self.folder or 'stack'}: no section is usable; check the column `usable` of {TABLE}")
        return replace(self, sections=kept)

    def at(self, index: int) -> Section:
        """The section numbered `index`."""
        for section in self.sections:
            if section.index == index:
                return section
        raise InputError(f"{self.folder or 'stack'}: there is no section {index}")

    def nearest(self, position_mm: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """For positions [...] along the cutting axis, the place [...] (0..N-1) of the nearest section."""
        wanted = np.asarray(position_mm, np.float64)
        middle = (self.positions_mm[1:] + self.positions_mm[:-1]) / 2
        return np.searchsorted(middle, wanted).astype(np.int64)

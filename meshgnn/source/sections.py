"""Histological sections on disk: the records of a stack; their images are read through `source.images`.

A stack is a folder with the images and `sections.csv`, which has one row per section:

    file,index,position_mm,pixel_um,thickness_um,usable[,plane][,mirrored][,stain][,affine][,flags]

`file` is relative to the folder. `position_mm` is measured along the cutting axis and grows with `index` (never
index x thickness: sections get lost). `pixel_um` may be empty where the image tells it. `plane` is coronal (default),
sagittal or horizontal; `mirrored` marks sections mounted upside down; `stain` says which channel colour becomes
(`source.stains`); `affine` is where a registration put the section (`source.poses`); `flags` holds quality remarks
parted by `;`. Other columns are ignored.

Pixel (row, column) counts centres from 0. Before any alignment the centre of every image lies on the cutting axis;
stack space is RAS in mm:

    plane        column grows to   row grows to    position grows to
    coronal      right   (+x)      inferior (-z)   anterior (+y)
    sagittal     anterior (+y)     inferior (-z)   right    (+x)
    horizontal   right   (+x)      posterior (-y)  superior (+z)
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from meshgnn.errors import InputError
from meshgnn.mesh.record import frozen
from meshgnn.source.bend import Bend
from meshgnn.source.images import is_image, open_image
from meshgnn.source.section_image import SectionImage
from meshgnn.source.stains import DEFAULT, check_stain
from meshgnn.source.text_table import read_text_table
from meshgnn.source.tiff import write_tiff

__all__ = [
    "AXES",
    "Plane",
    "Section",
    "SectionImage",
    "SectionStack",
    "files_of",
    "nominal_transform",
    "open_image",
    "open_section",
    "read_stack",
    "write_tiff",
]

Plane = Literal["coronal", "sagittal", "horizontal"]
TABLE = "sections.csv"
NEEDED = ("file", "index", "position_mm", "pixel_um", "thickness_um", "usable")

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


def read_stack(
    folder: Path,
    *,
    space: str = "",
    minimum: int = 2,
    mirrored: Literal["refuse", "turn"] = "turn",
    stain: str = "",
) -> SectionStack:
    """Read a stack folder: `sections.csv` and the header of every image (no pixels).

    Args:
        folder: with `sections.csv` and images.
        space: name of the stack's coordinate space; the folder's name if empty.
        minimum: fewer sections than this are an error (a volume needs two; a single image can be read with 1).
        mirrored: what to do with sections marked as mirrored: turn their columns round when read, or refuse them.
        stain: which channel colour becomes; as the table says, or else the mean optical density, if empty.

    Raises:
        InputError: no folder or table, a missing or repeated column, a value that is not a number, images that are
            missing, truncated or of a format that is not read, a pixel size that neither table nor image tells,
            repeated indices, positions that do not increase.
    """
    folder = Path(folder)
    table = folder / TABLE
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if not table.is_file():
        raise InputError(f"{folder}: no {TABLE} here; a stack needs one with columns {','.join(NEEDED)}")
    _, rows = read_text_table(table, NEEDED)
    if not rows:
        raise InputError(f"{table}: no sections; add one line per image")
    if len(rows) < minimum:
        raise InputError(f"{table}: {len(rows)} section, at least {minimum} are needed to build a volume")
    if stain:
        check_stain(stain, "the setting of the stack")
    _check_files(folder, table, rows)
    sections = tuple(_section(folder, table, line, row, stain) for line, row in rows)
    turned = [section.index for section in sections if section.mirrored]
    if turned and mirrored == "refuse":
        raise InputError(
            f"{table}: sections {', '.join(map(str, turned))} are marked as mirrored; flip these images and clear the "
            "mark"
        )
    return SectionStack(sections=sections, space=space or folder.resolve().name, folder=folder)


def files_of(table: Path, needed: Sequence[str] = NEEDED) -> dict[str, Path]:
    """A table and every file that a cell of it names, wherever that lies, by its path relative to the table's folder.

    What a stack depends on: a run may keep what it made of it as long as these are unchanged.

    Args:
        needed: columns that the table has, by which its delimiter is told.
    """
    found = {table.name: table}
    for _, row in read_text_table(table, needed)[1]:
        for cell in filter(None, row.values()):
            path = table.parent / cell
            if _is_there(table.parent, cell):
                found[os.path.relpath(path, table.parent)] = path
    return found


def _check_files(folder: Path, table: Path, rows: list[tuple[int, dict[str, str]]]) -> None:
    """That every file of the table is there; names the first that is not and counts the others."""
    lost = [(line, row["file"]) for line, row in rows if not _is_there(folder, row["file"])]
    if lost:
        line, file = lost[0]
        more = f" ({len(lost)} of {len(rows)} files are missing)" if len(lost) > 1 else ""
        raise InputError(
            f"{table}, line {line}: the file {file!r} does not exist{more}; correct the name or drop the line"
        )


def _is_there(folder: Path, file: str) -> bool:
    return bool(file) and len(file) < 1024 and ((folder / file).is_file() or is_image(folder / file))


def _pixel_um(table: Path, line: int, file: str, image: SectionImage) -> float:
    """The pixel size that an image tells, where the table leaves it open."""
    if image.pixel_um is None:
        raise InputError(
            f"{table}, line {line}: pixel_um is empty and {file} does not tell it; write the width of a pixel in "
            "micrometres there"
        )
    rows, columns = image.pixel_um
    if abs(rows / columns - 1) > 0.01:
        raise InputError(
            f"{table}, line {line}: the pixels of {file} are {rows:.4g} um high and {columns:.4g} um wide; resample it "
            "to square ones"
        )
    return (rows + columns) / 2


def _section(folder: Path, table: Path, line: int, row: dict[str, Any], stain: str) -> Section:
    def number(name: str, kind: type) -> Any:
        text = str(row.get(name) or "").strip()
        try:
            return kind(text.replace(",", ".") if kind is float else text)  # spreadsheets write -42,5
        except ValueError:
            raise InputError(f"{table}, line {line}: {name} is {text!r}, not a number") from None

    def mark(name: str, absent: bool) -> bool:
        text = str(row.get(name) or "").strip().lower()
        if text in ("", "1", "true", "yes", "0", "false", "no"):
            return absent if text == "" else text in ("1", "true", "yes")
        raise InputError(f"{table}, line {line}: {name} is {text!r}; write 1 or 0")

    file = str(row["file"])
    path = folder / file
    stain = check_stain(stain or str(row.get("stain") or DEFAULT), f"{table}, line {line}")
    with open_image(path) as image:
        shape, colour = image.shape, image.colour
        pixel_um = number("pixel_um", float) if row.get("pixel_um") else _pixel_um(table, line, file, image)
    plane = str(row.get("plane") or "coronal").strip().lower()
    if plane not in AXES:
        raise InputError(f"{table}, line {line}: plane is {plane!r}; write one of {', '.join(AXES)}")
    return Section(
        path=path,
        index=number("index", int),
        position_mm=number("position_mm", float),
        pixel_um=pixel_um,
        thickness_um=number("thickness_um", float),
        shape=shape,
        plane=plane,  # type: ignore[arg-type]  # checked above
        usable=mark("usable", True),
        mirrored=mark("mirrored", False),
        stain=stain,
        colour=colour,
        flags=tuple(flag.strip() for flag in str(row.get("flags") or "").split(";") if flag.strip()),
    )


def open_section(section: Section) -> SectionImage:
    """The section's image, as its stain; a mirrored section is read with its columns turned round."""
    return open_image(section.path, mirrored=section.mirrored, stain=section.stain)

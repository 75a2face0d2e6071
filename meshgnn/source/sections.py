"""Histological sections on disk, read as the records of `source.section_stack`; images through `source.images`.

A stack is a folder with the images and `sections.csv`, which has one row per section:

    file,index,position_mm,pixel_um,thickness_um,usable[,plane][,mirrored][,stain][,affine][,flags]

`file` is relative to the folder. `position_mm` is measured along the cutting axis and grows with `index` (never
index x thickness: sections get lost). `pixel_um` may be empty where the image tells it. `plane` is coronal (default),
sagittal or horizontal; `mirrored` marks sections mounted upside down; `stain` says which channel colour becomes
(`source.stains`); `affine` is where a registration put the section (`source.poses`); `flags` holds quality remarks
parted by `;`. Other columns are ignored.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from meshgnn.errors import InputError
from meshgnn.source.images import is_image, open_image
from meshgnn.source.section_image import SectionImage
from meshgnn.source.section_stack import AXES, TABLE, Plane, Section, SectionStack, nominal_transform
from meshgnn.source.stains import DEFAULT, check_stain
from meshgnn.source.text_table import read_text_table
from meshgnn.source.tiff import write_tiff

__all__ = [
    "AXES",
    "TABLE",
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

NEEDED = ("file", "index", "position_mm", "pixel_um", "thickness_um", "usable")


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
        raise InputError(
            f"{folder}: no {TABLE} here; a stack needs one with columns {','.join(NEEDED)}, "
            f"as `python -m reconstruct.sections {folder} --set spacing_mm=MM` writes it from images"
        )
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

"""The rows of a `sections.csv`, from a folder of images: numbers, sizes, positions, and what may not be used."""

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn import config
from meshgnn.errors import InputError, SettingError
from meshgnn.progress import Progress, silent
from meshgnn.source.background import background_grey, brighter_than_glass, frame_of
from meshgnn.source.images import is_image, open_image
from meshgnn.source.sections import NEEDED, Plane
from meshgnn.source.stains import DEFAULT, check_stain
from reconstruct.sections.numbers import gaps, natural, section_numbers
from reconstruct.stain_levels import STAINED

_LOOK_PX = 512  # longest side of the picture by which a section is judged
_BLANK = 0.005  # share of the image that a section's tissue covers at least
_PALE = 0.35  # of the usual density of dark tissue
_FRAGMENT = 0.4  # of the smaller of the neighbours' areas


@dataclass(frozen=True, kw_only=True, eq=False)
class Listed:
    """One image of the folder.

    Args:
        path: of the image.
        number: of the section, in the order of positions.
        shape: rows and columns; (0, 0) where it cannot be read.
        pixel_um: width of a pixel, 0 where it is not known.
        told: where that comes from: "image" or "setting".
        position_mm: along the cutting axis.
        usable: False for blank ones and fragments.
        flags: what was noticed.
        picture: [h, w] uint8 grey, small; empty where the image cannot be read.
        area_mm2: of its tissue.
        dark: optical density of its darkest tenth of tissue.
        error: why it cannot be read.
    """

    path: Path
    number: int
    shape: tuple[int, int] = (0, 0)
    pixel_um: float = 0.0
    told: str = ""
    position_mm: float = 0.0
    usable: bool = True
    flags: tuple[str, ...] = ()
    picture: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    area_mm2: float = 0.0
    dark: float = 0.0
    error: str = ""


class ListSections:
    """A folder of images -> rows of a table, with remarks on the series."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            spacing_mm: distance between sections whose numbers differ by one; must be given.
            pixel_um: width of a pixel, for images that do not tell it.
            trust: believe the pixel size that images tell; if false, `pixel_um` holds for all.
            thickness_um: of the cut.
            start_mm: position of the first section.
            backwards: numbers grow against the cutting axis (to posterior, left, inferior); they are turned round.
            files: which files are sections, as a shell pattern.
            number: regular expression whose first group is the section's number; found out if empty.
            plane: coronal, sagittal or horizontal.
            mirrored: all sections were mounted upside down.
            stain: which channel colour becomes, see meshgnn/source/stains.py.
            workers: threads reading images.
        """

        spacing_mm: float = 0.0
        pixel_um: float = 0.0
        trust: bool = True
        thickness_um: float = 20.0
        start_mm: float = 0.0
        backwards: bool = False
        files: str = "*"
        number: str = ""
        plane: Plane = "coronal"
        mirrored: bool = False
        stain: str = DEFAULT
        workers: int = 2

        def __post_init__(self) -> None:
            if not (np.isfinite(self.spacing_mm) and self.spacing_mm >= 0):
                raise SettingError(f"<spacing_mm> must be above 0, got {self.spacing_mm:g}")
            if not (np.isfinite(self.pixel_um) and self.pixel_um >= 0 and self.thickness_um > 0):
                raise SettingError("<pixel_um> must not be negative, and <thickness_um> must be above 0")
            check_stain(self.stain, "--set stain")

        def build(self) -> "ListSections":
            return ListSections(self)

    def __init__(self, settings: Config) -> None:
        self.settings = settings

    def __call__(self, folder: Path, progress: Progress = silent) -> tuple[list[Listed], list[str]]:
        """All images of `folder` in the order of their numbers, and remarks on the series.

        Raises:
            InputError: no images, numbers missing or repeated, the spacing or a pixel size not known, or no image that
                can be read.
        """
        set_ = self.settings
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
        paths = sorted((path for path in folder.glob(set_.files) if is_image(path)), key=lambda p: natural(p.name))
        if not paths:
            raise InputError(f"{folder}: no images match files={set_.files!r}; name the folder that holds them")
        numbers = section_numbers([path.name for path in paths], set_.number)
        if not set_.spacing_mm:
            raise InputError(
                f"{folder}: {len(paths)} images found, but not how far apart they were cut; add --set spacing_mm=MM, "
                "the distance between sections whose numbers differ by one"
            )
        if set_.backwards:
            numbers = [max(numbers) + min(numbers) - number for number in numbers]
        first = min(numbers)
        found = []
        with ThreadPoolExecutor(max(1, set_.workers)) as pool:
            for item in pool.map(self._look, *zip(*sorted(zip(numbers, paths)))):
                found.append(
                    replace(item, position_mm=round(set_.start_mm + (item.number - first) * set_.spacing_mm, 4))
                )
                progress("sections", len(found), len(paths))
        readable = [item for item in found if not item.error]
        if not readable:
            raise InputError(f"{found[0].error} (none of {len(found)} images can be read)")
        unknown = [item for item in readable if not item.pixel_um]
        if unknown:
            raise InputError(
                f"{unknown[0].path}: does not tell the size of its pixels ({len(unknown)} of {len(found)} images do "
                "not); add --set pixel_um=UM, the width of a pixel in micrometres"
            )
        judged = iter(_judged(readable))
        rows = [item if item.error else next(judged) for item in found]
        return rows, _remarks(rows)

    def _look(self, number: int, path: Path) -> Listed:
        set_ = self.settings
        item = Listed(path=path, number=number)
        try:
            with open_image(path, mirrored=set_.mirrored, stain=set_.stain) as image:
                flags = []
                told, pixel = "setting", set_.pixel_um
                if image.pixel_um is not None and (set_.trust or not pixel):
                    told, pixel = "image", sum(image.pixel_um) / 2
                    if abs(image.pixel_um[0] / image.pixel_um[1] - 1) > 0.01:
                        flags.append("pixels are not square")
                item = replace(item, shape=image.shape, pixel_um=float(f"{pixel:.7g}"), told=told)
                grey = image.thumbnail(_LOOK_PX).astype(np.float32)
        except InputError as error:
            return replace(item, usable=False, flags=("unreadable",), error=str(error))
        step = max(item.shape) / max(grey.shape)
        lost = ~np.isfinite(grey)
        if lost.any():
            flags.append("values that are not finite")
            grey = np.where(lost, np.nanmedian(grey) if not lost.all() else 0, grey)
        glass = max(background_grey(frame_of(grey)), 1e-6)
        if brighter_than_glass(grey, glass):
            flags.append("bright tissue on dark ground")
        density = -np.log(np.maximum(grey, glass / 250) / glass)
        tissue = density[density > STAINED]
        low, high = np.percentile(grey, [0.1, 99.9])
        if "bright tissue on dark ground" not in flags:
            low, high = 0.0, max(1.05 * glass, high)  # alike for all, so that a pale section looks pale
        shown = np.clip((grey - low) / max(high - low, 1e-9), 0, 1) * 255
        return replace(
            item, flags=tuple(flags), picture=shown.astype(np.uint8),
            area_mm2=float(len(tissue)) * (step * pixel / 1000) ** 2,
            dark=float(np.percentile(tissue, 90)) if len(tissue) > _BLANK * density.size else 0.0,
        )  # fmt: skip


def _judged(items: Sequence[Listed]) -> list[Listed]:
    """The readable sections with blank ones and fragments marked as not usable."""
    usual = float(np.median([item.dark for item in items]))
    blank = [item.dark < max(_PALE * usual, 1e-9) for item in items]
    result = []
    for k, item in enumerate(items):
        flags = list(item.flags)
        if blank[k]:
            flags.append("blank")
        else:
            before = next((items[n].area_mm2 for n in range(k - 1, -1, -1) if not blank[n]), None)
            after = next((items[n].area_mm2 for n in range(k + 1, len(items)) if not blank[n]), None)
            # Towards its ends a brain gets smaller by itself: only what lies between two sections is judged.
            if before is not None and after is not None and item.area_mm2 < _FRAGMENT * min(before, after):
                flags.append("fragment")
        bad = {"blank", "fragment", "values that are not finite", "bright tissue on dark ground"} & set(flags)
        result.append(replace(item, flags=tuple(flags), usable=not bad))
    return result


def _remarks(rows: Sequence[Listed]) -> list[str]:
    """What stands out in the series as a whole."""
    found = []
    _, missing = gaps([row.number for row in rows])
    if missing:
        found.append(f"numbers missing: {len(missing)} ({_few(missing)})")
    sizes = Counter(f"{row.pixel_um:.4g}" for row in rows if row.pixel_um)
    if len(sizes) > 1:
        usual = sizes.most_common(1)[0][0]
        others = [row.number for row in rows if row.pixel_um and f"{row.pixel_um:.4g}" != usual]
        found.append(f"{len(sizes)} pixel sizes: {usual} um in most, another in {_count(others)}")
    for flag in dict.fromkeys(flag for row in rows for flag in row.flags):
        numbers = [row.number for row in rows if flag in row.flags]
        remedy = "; invert these images" if flag == "bright tissue on dark ground" else ""
        found.append(f"{flag}: {_count(numbers)}{remedy}")
    found += [row.error for row in rows if row.error][:5]
    return found


def _count(numbers: Sequence[int]) -> str:
    return f"{len(numbers)} section{'s' if len(numbers) > 1 else ''} ({_few(numbers)})"


def _few(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:10])) + (f", ... {numbers[-1]}" if len(numbers) > 10 else "")


def table_text(rows: Sequence[Listed], table: Path, settings: ListSections.Config) -> str:
    """The text of `sections.csv` at `table`; images that cannot be read are left out."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    extra = ["plane", "mirrored", *(["stain"] if settings.stain != DEFAULT else []), "flags"]
    writer.writerow([*NEEDED, *extra])
    for row in rows:
        if row.error:
            continue
        more: list[Any] = [settings.plane, int(settings.mirrored)]
        more += [settings.stain] if settings.stain != DEFAULT else []
        file = Path(os.path.relpath(row.path.resolve(), table.parent.resolve())).as_posix()
        writer.writerow(
            [file, row.number, f"{row.position_mm:g}", f"{row.pixel_um:g}", f"{settings.thickness_um:g}",
             int(row.usable), *more, ";".join(row.flags)]
        )  # fmt: skip
    return out.getvalue()

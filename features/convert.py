"""Images of sections made into tiled pyramids, for patches to be read from any place of them.

    python -m features.convert --set stack=STACK --set format=tiff --out TILED
    python -m features.convert --set images=A.png,B.jp2 --set pixel_um=1 --set format=zarr --out TILED
    python -m features.convert --set verify=true --out TILED        whether every file is what was written

TILED holds one BigTIFF (or sharded OME-Zarr 0.5 folder) for every image, checksums in manifest.json, and for a stack
its sections.csv with the new names: a stack folder again. Colour becomes the stain that the stack names. A killed
conversion goes on: with the next image of TIFF, with the next shard of OME-Zarr.
"""

import csv
import io
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np

from features.command import Bar, run
from features.image_writers import write_tiff_pyramid, write_zarr_pyramid
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.progress import Progress, silent
from meshgnn.source.images import image_hash, open_image
from meshgnn.source.sections import NEEDED, TABLE, SectionImage, read_stack
from meshgnn.source.stains import DEFAULT
from meshgnn.source.text_table import read_text_table
from meshgnn.store import content_hash, read_json, write_json, write_text

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class ConvertJob(BaseConfig):
    """
    Args:
        stack: folder with sections.csv.
        images: or single files, of any format that sections are read from.
        pixel_um: width of a pixel, of single files that do not tell it.
        format: tiff (BigTIFF with a pyramid) or zarr (sharded OME-Zarr 0.5).
        tile: side of a tile.
        verify: convert nothing, compare the files with the checksums of their manifest.
    """

    stack: Path | None = None
    images: tuple[Path, ...] = ()
    pixel_um: float = 0.0
    format: Literal["tiff", "zarr"] = "tiff"
    tile: int = 256
    verify: bool = False

    def __post_init__(self) -> None:
        if self.tile < 16 or self.tile % 16:
            raise SettingError(f"<tile>={self.tile} must be a multiple of 16")
        if self.pixel_um < 0:
            raise SettingError("<pixel_um> must not be negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    path: Path
    stain: str
    pixel_um: float
    name: str


def convert(job: ConvertJob, out: Path, progress: Progress = silent) -> dict[str, Any]:
    """The manifest of all images; those that stand in it already, of the same source and settings, are not done again.

    Raises:
        InputError: nothing to convert, an image that cannot be read or tells no pixel size, two of one name.
    """
    sources = _sources(job)
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"two images would be written as {twice}; rename one of them")
    manifest: dict[str, Any] = _manifest(out) if (out / MANIFEST).is_file() else {}
    for number, source in enumerate(sources):
        key = content_hash(1, image_hash(source.path), source.stain, source.pixel_um, job.format, job.tile)
        target = out / source.name
        if manifest.get(source.name, {}).get("key") != key or _wrong(out, source.name, manifest[source.name], False):
            with open_image(source.path, stain=source.stain) as image:
                _write(job, image, source.pixel_um, target, key, partial(progress, source.name))
            files = sorted(target.rglob("*")) if target.is_dir() else [target]
            manifest[source.name] = {
                "source": source.path.name, "key": key,
                "files": {
                    path.relative_to(out).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
                    for path in files if path.is_file() and path.name != _KEY
                },
            }  # fmt: skip
            write_json(out / MANIFEST, manifest)
        progress("images", number + 1, len(sources))
    if job.stack is not None:
        _, rows = read_text_table(job.stack / TABLE, NEEDED)
        text = io.StringIO()
        columns = list(dict.fromkeys([*NEEDED, *(name for _, row in rows for name in row)]))
        table = csv.DictWriter(text, columns, lineterminator="\n", restval="")
        table.writeheader()
        for (_, row), source in zip(rows, sources):
            table.writerow({**row, "file": source.name, "pixel_um": repr(source.pixel_um)})
        write_text(out / TABLE, text.getvalue())
    return manifest


_KEY = ".key"


def _write(job: ConvertJob, image: SectionImage, pixel_um: float, target: Path, key: str, progress: Any) -> None:
    rows, columns = image.shape

    def strip(first: int, last: int) -> np.ndarray:
        return image.window(first, 0, last - first, columns)

    def told(done: int) -> None:
        progress(done, rows)

    if image.dtype.kind not in "uf":
        raise InputError(f"{image.path}: values of kind {image.dtype} are not converted; save it as 8 or 16 bit")
    if job.format == "tiff":
        write_tiff_pyramid(target, strip, image.shape, image.dtype, pixel_um, job.tile, told)
        return
    begun = target / _KEY
    if target.exists() and not (begun.is_file() and begun.read_text(encoding="utf-8") == key):
        shutil.rmtree(target)  # of another image, or damaged
    write_text(begun, key)
    write_zarr_pyramid(target, strip, image.shape, image.dtype, pixel_um, job.tile, told)
    begun.unlink()


def _sources(job: ConvertJob) -> list[_Source]:
    if (job.stack is None) == (not job.images):
        raise InputError("name either a stack or images; use --set stack=DIR, or --set images=FILE,...")
    ending = ".tif" if job.format == "tiff" else ".ome.zarr"
    if job.stack is not None:
        # In the order of the table, whose rows are written again.
        stack = {section.path: section for section in read_stack(job.stack, minimum=1)}
        rows = read_text_table(job.stack / TABLE, NEEDED)[1]
        sections = [stack[job.stack / row["file"]] for _, row in rows]
        return [
            _Source(path=one.path, stain=one.stain, pixel_um=one.pixel_um, name=_stem(one.path) + ending)
            for one in sections
        ]
    found = []
    for path in job.images:
        with open_image(path) as image:
            told = image.pixel_um
        pixel_um = job.pixel_um or (sum(told) / 2 if told is not None else 0.0)
        if not pixel_um:
            raise InputError(f"{path}: does not tell the width of its pixels; use --set pixel_um=...")
        if told is not None and not job.pixel_um and abs(told[0] / told[1] - 1) > 0.01:
            raise InputError(f"{path}: its pixels are not square ({told[0]:g} x {told[1]:g} um); resample it")
        found.append(_Source(path=path, stain=DEFAULT, pixel_um=pixel_um, name=_stem(path) + ending))
    return found


def _stem(path: Path) -> str:
    return path.name.split(".")[0]


def _sha256(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _manifest(out: Path) -> dict[str, Any]:
    """Raises InputError for one that is missing or damaged."""
    manifest = read_json(out / MANIFEST)
    try:
        if all(isinstance(one["key"], str) and dict(one["files"]) for one in manifest.values()):
            return dict(manifest)
    except (AttributeError, KeyError, TypeError, ValueError):
        pass
    raise InputError(f"{out / MANIFEST}: not a manifest of converted images; convert them again")


def _wrong(out: Path, name: str, about: dict[str, Any], whole: bool) -> str:
    """What is wrong with an image's files, "" if nothing is; `whole` compares checksums, not only sizes."""
    for file, told in about["files"].items():
        path = out / file
        if not path.is_file():
            return f"{file} is not there"
        if path.stat().st_size != told["bytes"] or (whole and _sha256(path) != told["sha256"]):
            return f"{file} is not what was written"
    return ""


def verify(out: Path, progress: Progress = silent) -> int:
    """How many images are as they were written.

    Raises:
        InputError: some are not; names the first and counts them.
    """
    manifest = _manifest(out)
    wrong: list[str] = []
    for number, (name, about) in enumerate(manifest.items()):
        wrong += filter(None, [_wrong(out, name, about, True)])
        progress("verify", number + 1, len(manifest))
    if wrong:
        raise InputError(
            f"{out}: {wrong[0]} ({len(wrong)} of {len(manifest)} images are damaged); delete what is damaged and "
            "convert again"
        )
    return len(manifest)


def _convert(job: ConvertJob, out: Path) -> str:
    with Bar("row") as bar:
        if job.verify:
            return f"{verify(out, bar)} images in {out} are what was written"
        manifest = convert(job, out, bar)
    size = sum(file["bytes"] for one in manifest.values() for file in one["files"].values())
    return f"{len(manifest)} images, {size / 2**20:.1f} MiB, in {out}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see `features.command.run` for exit codes."""
    return run("features.convert", ConvertJob(), _convert, arguments)


if __name__ == "__main__":
    sys.exit(main())

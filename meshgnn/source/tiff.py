"""TIFF images of sections: windows by decoding only the tiles they touch, and a writer whose bytes repeat."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from meshgnn.errors import InputError
from meshgnn.source.plain_tiles import of_tiff
from meshgnn.source.section_image import LARGEST, Level, SectionImage, level_of
from meshgnn.source.stains import DEFAULT, LUMINANCE

_ORIENTATIONS = ("mirrored", "turned by 180 degrees", "upside down", "turned and mirrored", "turned by 90 degrees",
                 "turned and mirrored", "turned by 270 degrees")  # fmt: skip
_MOST_LEVELS = 32
_PER_UM = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "pm": 1e-6}
_EDITOR_DPI = (72.0, 96.0)  # what editors write when nobody told them
_RAW_BYTES = 1 << 24  # uncompressed strips are read in pieces of this size


class TiffImage(SectionImage):
    """An open TIFF or BigTIFF, plain or OME, whose windows are read by decoding only the tiles (or strips) they touch.

    Levels are the first page, its SubIFDs (as OME-TIFF 6 has them), and the pages behind it that show the same picture
    ever smaller. Reads go through `os.pread`: several threads may share one image. Where white is 0 (MinIsWhite) values
    are turned round, palettes become luminance (Rec. 601), RGB the stain.

    Args and errors: see `SectionImage`. With `stored`, a palette or MinIsWhite only says how to show the numbers.
    """

    def __init__(self, path: Path, *, mirrored: bool = False, stored: bool = False, stain: str = DEFAULT) -> None:
        import tifffile

        super().__init__(path, mirrored=mirrored, stored=stored, stain=stain)
        self._grey: npt.NDArray[np.uint8] | None = None  # luminance of every palette entry
        try:
            self._file = tifffile.TiffFile(self.path, _multifile=False)
        except Exception as error:
            raise InputError(f"{self.path}: cannot be read as a TIFF ({error}); export it again") from None
        try:
            page: Any = self._file.pages[0]
            self._check(page, str(self.path))
            self._check_meaning(page)
            self._pages = [page, *self._smaller(page)]
            full = int(page.imagelength), int(page.imagewidth)
            self.levels = tuple(_level(full, each) for each in self._pages)
            self._lies = [(tuple(each.dataoffsets), tuple(each.databytecounts)) for each in self._pages]
            self._plain = [of_tiff(each, self._file.byteorder) for each in self._pages]
            self._turned = [int(each.photometric) == 0 and not stored for each in self._pages]  # MinIsWhite
            self._raw = [_is_raw(each) for each in self._pages]
        except InputError:
            self._file.close()
            raise
        except Exception as error:
            self._file.close()
            raise InputError(f"{self.path}: holds no readable image ({error}); export it again") from None
        self.dtype = np.dtype(page.dtype if self._grey is None else np.uint8)
        self.colour = int(page.samplesperpixel) > 1
        self.pixel_um = _pixel_um(page)
        self._handle = os.open(self.path, os.O_RDONLY)

    def _smaller(self, first: Any) -> list[Any]:
        """Pages that hold the same picture in a smaller size, the largest first; each of them checked."""
        found: list[Any] = []
        hung = list(first.pages or ())[:_MOST_LEVELS] if first.subifds else []
        behind = [self._file.pages[k] for k in range(1, min(len(self._file.pages), _MOST_LEVELS))]
        for number, page in enumerate([*hung, *behind]):
            page = page.aspage() if hasattr(page, "aspage") else page
            rows, columns = int(page.imagelength), int(page.imagewidth)
            reduced = number < len(hung) or bool(int(page.subfiletype or 0) & 1)
            if min(rows, columns) < 1:
                if not reduced:
                    continue
                raise InputError(
                    f"{self.path}: level {len(found) + 1} of its pyramid is empty ({rows} x {columns} px); "
                    "write the pyramid again"
                )
            before = found[-1] if found else first
            alike = page.samplesperpixel == first.samplesperpixel and page.dtype == first.dtype
            if not alike or rows >= before.imagelength or columns >= before.imagewidth:
                continue
            down, across = first.imagelength / rows, first.imagewidth / columns
            if abs(down / across - 1) > 1.5 / min(rows, columns) + 1e-3:
                continue  # the slide's label, or something else
            self._check(page, f"{self.path}, level {len(found) + 1}")
            found.append(page)
        return found

    def _check(self, page: Any, name: str) -> None:
        """That all bytes are there, in tiles that can be held."""
        samples = int(page.samplesperpixel)
        if page.dtype is None or page.bitspersample not in (8, 10, 12, 14, 16, 32, 64) or page.imagedepth != 1:
            raise InputError(f"{name}: {page.bitspersample} bit per sample, {page.shape}; save it as 8 or 16 bit grey")
        if min(page.imagelength, page.imagewidth) < 1:
            raise InputError(f"{name}: the image is empty ({page.imagelength} x {page.imagewidth}); export it again")
        tall, wide = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
        tall = tall if page.is_tiled else min(tall, page.imagelength)
        pixel = samples * page.dtype.itemsize
        held = 0 if _is_raw(page) else tall * wide * pixel
        if page.imagelength * page.imagewidth * pixel > LARGEST or held > LARGEST // 16:
            raise InputError(
                f"{name}: its header asks for {page.imagelength} x {page.imagewidth} px in tiles of {tall} x {wide}; "
                f"at most {LARGEST >> 30} GiB are read ({LARGEST >> 34} GiB a tile): save it smaller, in smaller tiles"
            )
        planes = samples if page.planarconfig == 2 else 1
        expected = -(-page.imagelength // max(tall, 1)) * -(-page.imagewidth // max(wide, 1)) * planes
        listed = min(len(page.dataoffsets), len(page.databytecounts))
        if listed < expected:
            raise InputError(f"{name}: lists {listed} of its {expected} tiles; the header is damaged, copy it again")
        size = self.path.stat().st_size
        needed = max((o + n for o, n in zip(page.dataoffsets, page.databytecounts)), default=0)
        if needed > size:
            raise InputError(f"{name}: truncated, {size} bytes where {needed} are needed; copy the file again")
        if planes > 1:
            raise InputError(f"{name}: colour planes stored apart are not read; save it with interleaved RGB")

    def _check_meaning(self, page: Any) -> None:
        """That the numbers mean grey or colour in a way that is known here, and lie upright."""
        name, samples = self.path, int(page.samplesperpixel)
        turned = page.tags.get(274)
        check_upright(name, int(turned.value) if turned is not None else 1)
        meaning = str(getattr(page.photometric, "name", page.photometric))
        if samples == 1 and (self.stored or meaning == "MINISBLACK"):
            return
        if samples == 1 and meaning == "MINISWHITE" and page.dtype.kind == "u":
            return
        if samples == 1 and meaning == "PALETTE" and page.colormap is not None:
            self._grey = np.round(LUMINANCE @ page.colormap / 257).astype(np.uint8)
            return
        decoded_as_rgb = meaning == "RGB" or (meaning == "YCBCR" and page.compression in (6, 7, 33003, 33005))
        if samples in (3, 4) and decoded_as_rgb and not self.stored:
            return
        wanted = "labels need one whole number per pixel" if self.stored else "save it as grey or RGB"
        raise InputError(f"{name}: {samples} samples per pixel that mean {meaning} are not read; {wanted}")

    def blocks(
        self, level: int, top: int, bottom: int, left: int, right: int
    ) -> Iterator[tuple[int, int, npt.NDArray[Any]]]:
        """See `SectionImage.blocks`."""
        page, (tall, wide) = self._pages[level], self.levels[level].tile_shape
        if self._raw[level]:
            for first in range(top, bottom, tall):
                yield first, 0, self._rows(page, first, min(first + tall, bottom))
            return
        across = -(-self.levels[level].shape[1] // wide)
        for row in range(top // tall, -(-bottom // tall)):
            for column in range(left // wide, -(-right // wide)):
                yield row * tall, column * wide, self.tile(row * across + column, level)

    def _rows(self, page: Any, top: int, bottom: int) -> npt.NDArray[Any]:
        """Rows of an uncompressed page in strips, read where they lie."""
        samples, tall = int(page.samplesperpixel), min(int(page.rowsperstrip), int(page.imagelength))
        wide = int(page.imagewidth) * samples * page.dtype.itemsize
        parts = []
        row = top
        while row < bottom:
            strip = row // tall
            many = min(bottom, (strip + 1) * tall) - row
            data = os.pread(self._handle, many * wide, page.dataoffsets[strip] + (row - strip * tall) * wide)
            if len(data) < many * wide:
                raise InputError(f"{self.path}: strip {strip} is cut short; copy the file again")
            parts.append(data)
            row += many
        kind = page.dtype.newbyteorder(self._file.byteorder)
        pixels = np.frombuffer(b"".join(parts), kind).reshape(bottom - top, -1, samples)
        return self._meant(page, pixels.astype(page.dtype, copy=False))

    def tile(self, number: int, level: int = 0) -> npt.NDArray[Any]:
        """Decoded tile or strip `number` (row-major), cropped to the image, as stored (never turned round)."""
        page, plain, (offsets, counts) = self._pages[level], self._plain[level], self._lies[level]
        data = os.pread(self._handle, counts[number], offsets[number]) if counts[number] else None
        try:
            if data is not None and plain is not None:
                size, (tall, wide) = self.levels[level].shape, plain.shape
                row, column = divmod(number, -(-size[1] // wide))
                rows, columns = min(tall, size[0] - row * tall), min(wide, size[1] - column * wide)
                tile = plain.decode(data, rows, columns)
                return tile if self._grey is None and not self._turned[level] else self._meant(page, tile[..., None])
            decoded, _, shape = page.decode(data, number, jpegtables=page.jpegtables)
        except Exception as error:
            where = f"tile {number} of level {level}" if level else f"tile {number}"
            raise InputError(f"{self.path}: {where} cannot be decoded ({error}); copy the file again") from None
        if decoded is None:
            decoded = np.zeros((1, shape[1], shape[2], 1), page.dtype)
        return self._meant(page, decoded[0, : shape[1], : shape[2]])

    def _meant(self, page: Any, tile: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Grey [H, W] of decoded pixels [H, W, samples]."""
        if tile.shape[-1] > 1:
            return self.grey(tile)
        tile = tile[..., 0]
        if self._grey is not None:
            return self._grey[tile]
        if page.photometric == 0 and not self.stored:  # MinIsWhite
            return ((1 << page.bitspersample) - 1 - tile.astype(np.int64)).astype(self.dtype)
        return tile

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        self._file.close()


def check_upright(path: Path, orientation: int) -> None:
    """Raise InputError unless TIFF's (and EXIF's) tag 274 says that an image lies as it is stored."""
    if orientation not in (0, 1):
        how = _ORIENTATIONS[min(max(orientation, 2) - 2, 6)]
        raise InputError(f"{path}: is to be shown {how} (orientation {orientation}); save it upright")


def _level(full: tuple[int, int], page: Any) -> Level:
    shape = int(page.imagelength), int(page.imagewidth)
    if page.is_tiled:
        return level_of(full, shape, (int(page.tilelength), int(page.tilewidth)))
    tall = min(int(page.rowsperstrip), shape[0])
    if _is_raw(page):
        tall = min(tall, max(1, _RAW_BYTES // (shape[1] * page.samplesperpixel * page.dtype.itemsize)))
    return level_of(full, shape, (tall, shape[1]))


def _is_raw(page: Any) -> bool:
    """Rows lie in the file as they are: no compression, no tiles, whole bytes."""
    return bool(
        not page.is_tiled and page.compression == 1 and page.predictor == 1 and page.fillorder == 1
        and page.planarconfig == 1 and page.bitspersample in (8, 16, 32, 64)
    )  # fmt: skip


def _pixel_um(page: Any) -> tuple[float, float] | None:
    """Height and width of a pixel: of OME-XML, of Aperio's description, or of the resolution tags."""
    text = str(page.description or "")
    if "<OME" in text[:2000]:
        sizes = []
        for axis in "YX":
            size = re.search(rf'\bPhysicalSize{axis}="([^"]+)"', text)
            unit = re.search(rf'\bPhysicalSize{axis}Unit="([^"]+)"', text)
            scale = _PER_UM.get(unit.group(1) if unit else "µm")
            sizes.append(_number(size.group(1)) * scale if size and scale else 0.0)
        if min(sizes) > 0:
            return sizes[0], sizes[1]
    aperio = re.search(r"\|\s*MPP\s*=\s*([0-9.]+)", text)
    if aperio and _number(aperio.group(1)) > 0:
        return (_number(aperio.group(1)),) * 2
    unit = page.tags.get(296)
    unit_um = {2: 25400.0, 3: 1e4}.get(int(unit.value) if unit is not None else 2, 0.0)
    values = [page.tags.get(code) for code in (283, 282)]
    if unit_um == 0 or None in values:
        return None
    per_unit = [tag.value[0] / max(tag.value[1], 1) for tag in values if tag is not None]
    return from_resolution(per_unit[0], per_unit[1], unit_um)


def from_resolution(rows: float, columns: float, unit_um: float) -> tuple[float, float] | None:
    """Height and width of a pixel in um from pixels per unit; None for values that only say that nobody set them."""
    if min(rows, columns) <= 0 or rows == columns == 1:
        return None
    if unit_um == 25400.0 and rows == columns and rows in _EDITOR_DPI:
        return None
    return unit_um / rows, unit_um / columns


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if np.isfinite(value) else 0.0


def write_tiff(
    path: Path, image: npt.NDArray[Any], pixel_um: float, *, tile: int = 256, compressed: bool = True
) -> None:
    """Write a grey image [rows, columns] as a tiled TIFF (zstd or raw), with its resolution; same image, same bytes."""
    import tifffile

    tifffile.imwrite(
        path,
        image,
        tile=(tile, tile),
        compression="zstd" if compressed else None,
        compressionargs={"level": 3} if compressed else None,
        photometric="minisblack",
        resolution=(1e4 / pixel_um, 1e4 / pixel_um),
        resolutionunit="CENTIMETER",
        metadata=None,
        software="meshgnn",
    )

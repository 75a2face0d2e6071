"""TIFF images of sections: windows by decoding only the tiles they touch, and a writer whose bytes repeat."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from meshgnn.errors import InputError

LARGEST = 1 << 34
"""Bytes that an image may hold once decoded (16 GiB), and 1/16 of that in a single tile: larger ones are refused."""
_ORIENTATIONS = ("mirrored", "turned by 180 degrees", "upside down", "turned and mirrored", "turned by 90 degrees",
                 "turned and mirrored", "turned by 270 degrees")  # fmt: skip


class SectionImage:
    """An open TIFF whose windows are read by decoding only the tiles (or strips) they touch.

    Reads go through `os.pread`: several threads may share one image. Grey images of 8 or 16 bit (or float) keep their
    type; where white is 0 (MinIsWhite) values are turned round, palettes and RGB become luminance (Rec. 601).

    Args:
        path: of the file.
        mirrored: read with its columns turned round.
        stored: the numbers as they are stored, for label images: a palette or MinIsWhite only says how to show them.

    Raises:
        InputError: no TIFF, cut short, larger than `LARGEST`, or of a kind that is not read.
    """

    def __init__(self, path: Path, *, mirrored: bool = False, stored: bool = False) -> None:
        import tifffile

        self.path = Path(path)
        self.mirrored, self.stored = mirrored, stored
        self._grey: npt.NDArray[np.uint8] | None = None  # luminance of every palette entry
        try:
            self._file = tifffile.TiffFile(self.path)
        except Exception as error:
            raise InputError(f"{self.path}: cannot be read as a TIFF ({error}); export it again") from None
        try:
            self._page: Any = self._file.pages[0]
            self._check()
        except InputError:
            self._file.close()
            raise
        except Exception as error:
            self._file.close()
            raise InputError(f"{self.path}: holds no readable image ({error}); export it again") from None
        self._handle = os.open(self.path, os.O_RDONLY)

    def _check(self) -> None:
        """That all bytes are there, and that the numbers mean grey or colour in a way that is known here."""
        page, name = self._page, self.path
        samples = int(page.samplesperpixel)
        if page.dtype is None or page.bitspersample not in (8, 10, 12, 14, 16, 32, 64) or page.imagedepth != 1:
            raise InputError(f"{name}: {page.bitspersample} bit per sample, {page.shape}; save it as 8 or 16 bit grey")
        tall, wide = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
        tall = tall if page.is_tiled else min(tall, page.imagelength)
        pixel = samples * page.dtype.itemsize
        if page.imagelength * page.imagewidth * pixel > LARGEST or tall * wide * pixel > LARGEST // 16:
            raise InputError(
                f"{name}: its header asks for {page.imagelength} x {page.imagewidth} px in tiles of {tall} x {wide}; "
                f"at most {LARGEST >> 30} GiB are read ({LARGEST >> 34} GiB a tile): save it smaller, in smaller tiles"
            )
        planes = samples if page.planarconfig == 2 else 1
        expected = -(-page.imagelength // max(tall, 1)) * -(-page.imagewidth // max(wide, 1)) * planes
        listed = min(len(page.dataoffsets), len(page.databytecounts))
        if listed < expected:
            raise InputError(f"{name}: lists {listed} of its {expected} tiles; the header is damaged, copy it again")
        size = name.stat().st_size
        needed = max((o + n for o, n in zip(page.dataoffsets, page.databytecounts)), default=0)
        if needed > size:
            raise InputError(f"{name}: truncated, {size} bytes where {needed} are needed; copy the file again")
        if planes > 1:
            raise InputError(f"{name}: colour planes stored apart are not read; save it with interleaved RGB")
        turned = page.tags.get(274)
        if turned is not None and int(turned.value) not in (0, 1):
            how = _ORIENTATIONS[min(int(turned.value) - 2, 6)]
            raise InputError(f"{name}: is to be shown {how} (orientation {int(turned.value)}); save it upright")
        self._check_colours(samples)

    def _check_colours(self, samples: int) -> None:
        page, name = self._page, self.path
        meaning = str(getattr(page.photometric, "name", page.photometric))
        if samples == 1 and (self.stored or meaning == "MINISBLACK"):
            return
        if samples == 1 and meaning == "MINISWHITE" and page.dtype.kind == "u":
            return
        if samples == 1 and meaning == "PALETTE" and page.colormap is not None:
            self._grey = np.round(np.array([0.299, 0.587, 0.114]) @ page.colormap / 257).astype(np.uint8)
            return
        decoded_as_rgb = meaning == "RGB" or (meaning == "YCBCR" and page.compression in (6, 7, 33003, 33005))
        if samples in (3, 4) and decoded_as_rgb and not self.stored:
            return
        wanted = "labels need one whole number per pixel" if self.stored else "save it as grey or RGB"
        raise InputError(f"{name}: {samples} samples per pixel that mean {meaning} are not read; {wanted}")

    @property
    def shape(self) -> tuple[int, int]:
        return int(self._page.imagelength), int(self._page.imagewidth)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self._page.dtype if self._grey is None else np.uint8)

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Rows and columns of a tile, or of a strip."""
        if self._page.is_tiled:
            return int(self._page.tilelength), int(self._page.tilewidth)
        return min(int(self._page.rowsperstrip), self.shape[0]), self.shape[1]

    def window(self, row: int, column: int, height: int, width: int, fill: float = 0) -> npt.NDArray[Any]:
        """Pixels [height, width] from (row, column) on; `fill` where the window leaves the image."""
        out = np.full((height, width), fill, self.dtype)
        rows, columns = self.shape
        start = columns - column - width if self.mirrored else column
        tall, wide = self.tile_shape
        across = -(-columns // wide)
        top, bottom = max(row, 0), min(row + height, rows)
        left, right = max(start, 0), min(start + width, columns)
        for tile_row in range(top // tall, -(-bottom // tall) if bottom > top else 0):
            for tile_column in range(left // wide, -(-right // wide) if right > left else 0):
                tile = self.tile(tile_row * across + tile_column)
                y, x = tile_row * tall, tile_column * wide
                r0, r1 = max(top, y), min(bottom, y + tile.shape[0])
                c0, c1 = max(left, x), min(right, x + tile.shape[1])
                if r1 > r0 and c1 > c0:
                    out[r0 - row : r1 - row, c0 - start : c1 - start] = tile[r0 - y : r1 - y, c0 - x : c1 - x]
        return np.ascontiguousarray(out[:, ::-1]) if self.mirrored else out

    def tile(self, number: int) -> npt.NDArray[Any]:
        """Decoded tile or strip `number` (row-major), cropped to the image, as stored (never turned round)."""
        page = self._page
        count = page.databytecounts[number]
        data = os.pread(self._handle, count, page.dataoffsets[number]) if count else None
        try:
            decoded, _, shape = page.decode(data, number, jpegtables=page.jpegtables)
        except Exception as error:
            raise InputError(f"{self.path}: tile {number} cannot be decoded ({error}); copy the file again") from None
        if decoded is None:
            decoded = np.zeros((1, shape[1], shape[2], 1), page.dtype)
        tile = decoded[0, : shape[1], : shape[2]]
        if tile.shape[-1] == 1:
            tile = tile[..., 0]
            if self._grey is not None:
                return self._grey[tile]
            if page.photometric == 0 and not self.stored:  # MinIsWhite
                return ((1 << page.bitspersample) - 1 - tile.astype(np.int64)).astype(self.dtype)
            return tile
        grey = tile[..., :3] @ np.array([0.299, 0.587, 0.114])
        return np.round(grey).astype(self.dtype) if self.dtype.kind == "u" else grey.astype(self.dtype)

    def read(self) -> npt.NDArray[Any]:
        """The whole image [rows, columns]."""
        return self.window(0, 0, *self.shape)

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        self._file.close()

    def __enter__(self) -> "SectionImage":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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

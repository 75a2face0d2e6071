"""TIFF images of sections: windows by decoding only the tiles they touch, and a writer whose bytes repeat."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from meshgnn.errors import InputError


class SectionImage:
    """An open TIFF whose windows are read by decoding only the tiles (or strips) they touch.

    Reads go through `os.pread`: several threads may share one image. Grey images of 8 or 16 bit (or float) keep their
    type; RGB becomes luminance (Rec. 601).

    Raises:
        InputError: no TIFF, or cut short.
    """

    def __init__(self, path: Path, *, mirrored: bool = False) -> None:
        import tifffile

        self.path = Path(path)
        self.mirrored = mirrored
        try:
            self._file = tifffile.TiffFile(self.path)
        except (tifffile.TiffFileError, ValueError, OSError) as error:
            raise InputError(f"{self.path}: cannot be read as a TIFF ({error}); export it again") from None
        try:
            self._page: Any = self._file.pages[0]
            self._check()
        except InputError:
            self._file.close()
            raise
        except (IndexError, tifffile.TiffFileError, ValueError, KeyError, AttributeError) as error:
            self._file.close()
            raise InputError(f"{self.path}: holds no readable image ({error}); export it again") from None
        self._handle = os.open(self.path, os.O_RDONLY)

    def _check(self) -> None:
        page = self._page
        size = self.path.stat().st_size
        needed = max((o + n for o, n in zip(page.dataoffsets, page.databytecounts)), default=0)
        if not page.dataoffsets or needed > size:
            raise InputError(f"{self.path}: truncated, {size} bytes where {needed} are needed; copy the file again")
        if page.samplesperpixel not in (1, 3, 4) or page.imagedepth != 1:
            raise InputError(f"{self.path}: {page.shape} is neither a grey nor an RGB image")
        if page.samplesperpixel > 1 and page.planarconfig != 1:
            raise InputError(f"{self.path}: colour planes stored apart are not read; save it with interleaved RGB")

    @property
    def shape(self) -> tuple[int, int]:
        return int(self._page.imagelength), int(self._page.imagewidth)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self._page.dtype)

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
            return np.zeros((shape[1], shape[2]), self.dtype)
        tile = decoded[0, : shape[1], : shape[2]]
        if tile.shape[-1] == 1:
            return tile[..., 0]
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

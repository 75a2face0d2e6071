"""A pyramid beside an image that has none: a tiled TIFF of JPEG tiles, written in one stream.

It holds 8 bit grey as it is shown. The full resolution stays in the image itself, if that can be read in small parts.
Each pixel is the mean of 2 x 2 of the level before; at the rim of those that there are.
"""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.source.section_image import SectionImage
from meshgnn.store import written_aside

TILE = 256
QUALITY = 88
_HELD = 1 << 29  # bytes of one level that are held in memory
_BAND = 1 << 28  # bytes of the image that are read at a time
_SMALLEST = 512  # no level is made whose predecessor has no longer side


@dataclass(frozen=True, kw_only=True)
class Window:
    """Grey values shown as black and as white."""

    low: float
    high: float

    def shown(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        """8 bit of pixels [H, W] of any type; what is no number is black."""
        if pixels.dtype == np.uint8 and (self.low, self.high) == (0, 255):
            return pixels
        if pixels.dtype in (np.uint8, np.uint16):
            values = np.arange(1 << 8 * pixels.dtype.itemsize, dtype=np.float32)
            return self._scaled(values)[pixels]
        return self._scaled(np.nan_to_num(pixels.astype(np.float32), nan=self.low))

    def _scaled(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        scale = 255 / max(self.high - self.low, 1e-9)
        return np.clip((values - self.low) * np.float32(scale) + 0.5, 0, 255).astype(np.uint8)


def window_of(image: SectionImage) -> Window:
    """All of 8 bit; of other types the middle 99.6 % of a sample from all over the image."""
    if image.dtype == np.uint8:
        return Window(low=0, high=255)
    level = next((k for k, one in enumerate(image.levels) if max(one.shape) <= 4096), len(image.levels) - 1)
    rows, columns = image.levels[level].shape
    wide = min(columns, 1 << 14)
    places = np.unique(np.linspace(0, max(rows - 16, 0), 24).astype(int))
    strips = [image.window(int(row), (columns - wide) // 2, min(16, rows), wide, level=level) for row in places]
    values = np.concatenate([strip.ravel() for strip in strips]).astype(np.float32)
    values = values[np.isfinite(values)]
    if not values.size:
        return Window(low=0, high=1)
    low, high = (float(v) for v in np.quantile(values, [0.002, 0.998]))
    return Window(low=low, high=high if high > low else low + 1)


def shapes_below(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Shapes of all levels, level 0 first, each half of the one before, rounded up."""
    found = [shape]
    while max(found[-1]) > _SMALLEST:
        found.append((-(-found[-1][0] // 2), -(-found[-1][1] // 2)))
    return found


def halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Means over 2 x 2 pixels [ceil(H / 2), ceil(W / 2)], of those that there are."""
    rows, columns = pixels.shape
    out = np.empty((-(-rows // 2), -(-columns // 2)), np.uint8)
    for top in range(0, rows, 1024):
        part = pixels[top : top + 1024]
        if part.shape[0] % 2 or columns % 2:
            part = np.pad(part, ((0, part.shape[0] % 2), (0, columns % 2)), mode="edge")
        total = part[0::2, 0::2].astype(np.uint16)
        for row, column in ((0, 1), (1, 0), (1, 1)):
            total += part[row::2, column::2]
        out[top // 2 : top // 2 + total.shape[0]] = (total + 2) >> 2
    return out


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    """One tile as JPEG."""
    return bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels), level=QUALITY))


def write_pyramid(
    path: Path,
    image: SectionImage,
    window: Window,
    first: int,
    about: dict[str, Any],
    *,
    told: Callable[[int, int], None] = lambda done, total: None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Write levels `first`, `first` + 1, ... of an image.

    Holds one band of the image and at most 512 MiB of a level: levels of more are made from the image itself.

    Args:
        path: of the file, written aside and renamed.
        image: as stored, not mirrored.
        window: of its grey values.
        first: the largest level to write.
        about: what the file is kept for, JSON-ready, plain ASCII.
        told: called with bands done and their number.
        stopped: asked after each band; InterruptedError if true.

    Raises:
        InputError: the image is damaged, or the file cannot be written.
    """
    import tifffile

    shapes = shapes_below(image.shape)
    streamed = next((k for k in range(first, len(shapes) - 1) if _area(shapes[k + 1]) <= _HELD), len(shapes) - 1)
    total = sum(_bands(image, shapes, level)[1] for level in range(first, streamed + 1))
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        told(done, total)
        if stopped():
            raise InterruptedError

    with written_aside(path) as aside, ThreadPoolExecutor(2) as pool, tifffile.TiffWriter(aside, bigtiff=True) as out:

        def write(level: int, tiles: Iterator[bytes]) -> None:
            out.write(
                tiles, shape=shapes[level], dtype=np.uint8, tile=(TILE, TILE), compression="jpeg",
                photometric="minisblack", metadata=None, software="meshgnn", subfiletype=1 if level > first else 0,
                description=json.dumps(about) if level == first else None,
            )  # fmt: skip

        held: NDArray[np.uint8] | None = None
        for level in range(first, streamed + 1):
            keep = level == streamed and level + 1 < len(shapes)
            held = np.empty(shapes[level + 1], np.uint8) if keep else None
            write(level, _streamed(image, window, shapes, level, held, pool, step))
        for level in range(streamed + 1, len(shapes)):
            assert held is not None
            write(level, _tiles(held, pool))
            held = halved(held)


def _area(shape: tuple[int, int]) -> int:
    return shape[0] * shape[1]


def _bands(image: SectionImage, shapes: list[tuple[int, int]], level: int) -> tuple[int, int]:
    """Rows of the image that are read at a time, and how often."""
    rows, columns = image.shape
    unit = TILE << level
    wanted = -(-image.tile_shape[0] // unit) * unit  # no tile of the image is decoded twice
    tall = wanted if wanted * columns * image.dtype.itemsize <= _BAND else unit
    return tall, -(-rows // tall)


def _streamed(
    image: SectionImage,
    window: Window,
    shapes: list[tuple[int, int]],
    level: int,
    held: NDArray[np.uint8] | None,
    pool: ThreadPoolExecutor,
    step: Callable[[], None],
) -> Iterator[bytes]:
    """Tiles of a level, made from the image band by band; fills the level below into `held`."""
    rows, columns = image.shape
    tall, _ = _bands(image, shapes, level)
    for top in range(0, rows, tall):
        bottom, parts = min(top + tall, rows), []
        # In pieces of whole pixels of this level, so that only a small part is held in the image's own type.
        piece = max(1 << level, (64 << 20) // max(columns * image.dtype.itemsize, 1) >> level << level)
        for row in range(top, bottom, piece):
            pixels = window.shown(image.window(row, 0, min(piece, bottom - row), columns))
            for _ in range(level):
                pixels = halved(pixels)
            parts.append(pixels)
        band = parts[0] if len(parts) == 1 else np.concatenate(parts)
        del parts
        if held is not None:
            below = halved(band)
            at = (top >> level) // 2
            held[at : at + len(below)] = below
        yield from _tiles(band, pool)
        step()


def _tiles(pixels: NDArray[np.uint8], pool: ThreadPoolExecutor) -> Iterator[bytes]:
    """JPEG tiles, row by row; those at the rim are filled up with its last pixels."""
    for row in range(0, pixels.shape[0], TILE):
        strip = pixels[row : row + TILE]
        cut = (strip[:, column : column + TILE] for column in range(0, strip.shape[1], TILE))
        yield from pool.map(_padded, cut)


def _padded(tile: NDArray[np.uint8]) -> bytes:
    missing = [(0, TILE - size) for size in tile.shape]
    return encoded(np.pad(tile, missing, mode="edge") if any(after for _, after in missing) else tile)


class PyramidFile:
    """A pyramid on disk, whose tiles are handed out as they are stored. Several threads may use it.

    Raises:
        InputError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        import tifffile

        self.path = path
        try:
            with tifffile.TiffFile(path) as file:
                pages: list[Any] = list(file.pages)
                self.about: dict[str, Any] = json.loads(pages[0].description)
                self.shapes = [(int(page.imagelength), int(page.imagewidth)) for page in pages]
                self._places = [
                    (np.array(page.dataoffsets, np.int64), np.array(page.databytecounts, np.int64)) for page in pages
                ]
            end = max(int((offsets + counts).max()) for offsets, counts in self._places)
            if end > path.stat().st_size:
                raise ValueError("it is cut short")
            self._handle = os.open(path, os.O_RDONLY)
        except Exception as error:  # tifffile raises whatever a broken file leads to
            raise InputError(f"{path}: not a pyramid of ours ({error})") from None

    def tile(self, level: int, row: int, column: int) -> bytes:
        """JPEG of a tile of a level of this file (0 is its largest), cropped to the image."""
        rows, columns = self.shapes[level]
        offsets, counts = self._places[level]
        number = row * -(-columns // TILE) + column
        data = os.pread(self._handle, int(counts[number]), int(offsets[number]))
        tall, wide = min(TILE, rows - row * TILE), min(TILE, columns - column * TILE)
        if (tall, wide) == (TILE, TILE):
            return data
        return encoded(np.asarray(imagecodecs.jpeg8_decode(data))[:tall, :wide])

    def read(self, level: int) -> NDArray[np.uint8]:
        """A whole level [rows, columns]."""
        rows, columns = self.shapes[level]
        out = np.empty((rows, columns), np.uint8)
        for row in range(0, rows, TILE):
            for column in range(0, columns, TILE):
                tile = np.asarray(imagecodecs.jpeg8_decode(self.tile(level, row // TILE, column // TILE)))
                out[row : row + TILE, column : column + TILE] = tile
        return out

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""Tiles and thumbnails of the sections of a stack, from the images' own levels, from memory, or from pyramids."""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.mapping.pictures.pyramid import (
    TILE,
    PyramidFile,
    Window,
    encoded,
    halved,
    shapes_below,
    window_of,
    write_pyramid,
)
from meshgnn.progress import Progress, silent
from meshgnn.source.images import image_hash, open_image
from meshgnn.source.images.decoded import DecodedImage
from meshgnn.source.section_image import Level, SectionImage, level_of
from meshgnn.source.sections import Section, SectionStack

SMALL = 1 << 24
"""Pixels of an image that is held in memory as it is, with its levels (16 million)."""
THUMBNAIL = 160
_DEAR = 1 << 24  # pixels that are decoded together: from there on a tile of the image itself takes too long
_STEEP = 4.5  # from one level to the next
T = TypeVar("T")
_OPEN, _HELD, _TILES = 32, 6, 64 << 20  # images kept open, images kept decoded, bytes of tiles kept


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """How a section is shown.

    Args:
        section: it.
        levels: of the picture; 0 is the full resolution.
        made: levels of the image itself (own), of the whole image in memory (held), or of a pyramid beside it (made).
        first: level from which on a pyramid holds the tiles; those before come from the image.
        etag: changes when the image does.
    """

    section: Section
    levels: tuple[Level, ...]
    made: Literal["own", "held", "made"]
    first: int
    etag: str

    def tiles(self, level: int) -> tuple[int, int]:
        """Rows and columns of tiles."""
        rows, columns = self.levels[level].shape
        return -(-rows // TILE), -(-columns // TILE)


class NotReady(Exception):
    """The pyramid of this section is still being made."""


class Pictures:
    """Pictures of a stack. Several threads may use it.

    Args:
        stack: its images are read as stored, never mirrored.
        folder: for pyramids.
        spare: where those go that are missing, and only those that are looked at; `folder` is then left as it is.

    Raises:
        InputError: an image that cannot be read.
    """

    def __init__(self, stack: SectionStack, folder: Path, spare: Path | None = None) -> None:
        self.folder, self.spare = folder, spare
        self.shown = {section.index: _shown(section) for section in stack}
        self._images: _Kept[SectionImage] = _Kept(_OPEN, lambda image: image.close())
        self._pyramids: _Kept[PyramidFile] = _Kept(_OPEN, lambda file: file.close())
        self._held: _Kept[list[NDArray[np.uint8]]] = _Kept(_HELD, lambda levels: None)
        self._windows: dict[int, Window] = {}
        self._tiles: OrderedDict[tuple[int, int, int, int], bytes] = OrderedDict()
        self._tile_bytes = 0
        self._lock = threading.Lock()
        self._wanted: list[int] = []
        self._ready: set[int] = {index for index, one in self.shown.items() if one.made != "made"}
        self._failed: dict[int, str] = {}
        self._ending = False

    # -- pyramids ----------------------------------------------------------------------------------------------------

    def missing(self) -> list[int]:
        """Sections whose pyramids are not there yet; tells those that are."""
        for index, one in self.shown.items():
            if index not in self._ready and self._fits(one):
                self._ready.add(index)
        return [index for index in self.shown if index not in self._ready]

    def prepare(self, progress: Progress = silent) -> None:
        """Make the pyramids that are missing, those first that somebody waits for. Ends early after `close`."""
        waiting = self.missing()
        total = len(waiting)
        while waiting and not self._ending:
            with self._lock:
                looked_at = (index for index in self._wanted if index in waiting)
                first = next(looked_at, waiting[0] if self.spare is None else None)
                self._wanted = [index for index in self._wanted if index != first]
            if first is None:
                time.sleep(0.05)
                continue
            waiting.remove(first)
            try:
                if self.spare is None or not self._fits(self.shown[first]):  # a server that draws may have made it
                    self._make(self.shown[first])
            except InterruptedError:
                return
            except (InputError, OSError) as error:
                self._failed[first] = str(error)
            else:
                self._ready.add(first)
            if self.spare is None:
                progress("pictures of sections", total - len(waiting), total)

    def ready(self, index: int) -> bool:
        return index in self._ready

    def _path(self, one: Shown) -> Path:
        name = f"section_{one.section.index:05d}.tif"
        return self.spare / name if self.spare is not None and (self.spare / name).is_file() else self.folder / name

    def _fits(self, one: Shown) -> bool:
        """A pyramid is there, and of this image."""
        path = self._path(one)
        if not path.is_file():
            return False
        try:
            with PyramidFile(path) as file:
                about, shapes = file.about, file.shapes
        except InputError:
            return False
        if about.get("stain") != one.section.stain or about.get("first") != one.first:
            return False
        if shapes != [level.shape for level in one.levels[one.first :]]:
            return False
        return about.get("etag") == one.etag or about.get("image") == image_hash(one.section.path)

    def _make(self, one: Shown) -> None:
        about = {
            "etag": one.etag, "image": image_hash(one.section.path), "stain": one.section.stain, "first": one.first,
        }  # fmt: skip
        folder = self.spare or self.folder
        folder.mkdir(parents=True, exist_ok=True)
        with open_image(one.section.path, stain=one.section.stain) as image:
            window = window_of(image)
            write_pyramid(folder / self._path(one).name, image, window, one.first, about, stopped=lambda: self._ending)

    def _await(self, index: int) -> None:
        """Raises NotReady, or InputError if the pyramid cannot be made."""
        if index in self._ready:
            return
        if index in self._failed:
            raise InputError(self._failed[index])
        with self._lock:
            if index not in self._wanted:
                self._wanted.insert(0, index)
        raise NotReady

    # -- what the page asks for --------------------------------------------------------------------------------------

    def tile(self, index: int, level: int, row: int, column: int) -> bytes:
        """JPEG of 256 x 256 px, less at the rim.

        Raises:
            KeyError: there is no such tile.
            NotReady: the pyramid is being made.
            InputError: the image is damaged.
        """
        one = self.shown[index]
        if not 0 <= level < len(one.levels):
            raise KeyError(level)
        rows, columns = one.tiles(level)
        if not (0 <= row < rows and 0 <= column < columns):
            raise KeyError((row, column))
        key = (index, level, row, column)
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
                return self._tiles[key]
        data = self._tile(one, level, row, column)
        with self._lock:
            if key not in self._tiles:
                self._tiles[key] = data
                self._tile_bytes += len(data)
            while self._tile_bytes > _TILES:
                self._tile_bytes -= len(self._tiles.popitem(last=False)[1])
        return data

    def _tile(self, one: Shown, level: int, row: int, column: int) -> bytes:
        if one.made == "made" and level >= one.first:
            self._await(one.section.index)
            with self._pyramid(one) as file:
                return file.tile(level - one.first, row, column)
        if one.made == "held":
            with self._held.taken(one.section.index, lambda: self._whole(one)) as levels:
                pixels = levels[level][row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
                return encoded(pixels)
        tall, wide = (min(TILE, size - at * TILE) for size, at in zip(one.levels[level].shape, (row, column)))
        with self._image(one) as image:
            pixels = image.window(row * TILE, column * TILE, tall, wide, level=level)
            return encoded(self._window(one, image).shown(pixels))

    def grey(self, index: int, most: int) -> tuple[NDArray[np.uint8], float]:
        """The picture in 8 bit [rows, columns], from its finest level with at most `most` pixels a side, and how many
        pixels of the full resolution one of its pixels is wide.

        Raises:
            NotReady, InputError: see `tile`.
        """
        one = self.shown[index]
        level = next((k for k, each in enumerate(one.levels) if max(each.shape) <= most), len(one.levels) - 1)
        if one.made == "made" and level >= one.first:
            self._await(index)
            with self._pyramid(one) as file:
                pixels = file.read(level - one.first)
        elif one.made == "held":
            with self._held.taken(index, lambda: self._whole(one)) as levels:
                pixels = levels[level]
        else:
            with self._image(one) as image:
                pixels = self._window(one, image).shown(image.read(level))
        factor = max(one.levels[level].factor)
        while max(pixels.shape) > most:
            pixels, factor = halved(pixels), factor * 2
        return pixels, factor

    def thumbnail(self, index: int) -> bytes:
        """JPEG of at most 160 pixels a side. Raises as `tile` does."""
        key = (index, -1, 0, 0)
        with self._lock:
            if key in self._tiles:
                return self._tiles[key]
        from PIL import Image

        pixels, _ = self.grey(index, 4 * THUMBNAIL)
        small = Image.fromarray(pixels)
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        data = encoded(np.asarray(small))
        with self._lock:
            if key not in self._tiles:
                self._tiles[key] = data
                self._tile_bytes += len(data)
        return data

    def close(self) -> None:
        """End the making of pyramids, close all files."""
        self._ending = True
        for kept in (self._images, self._pyramids, self._held):
            kept.close()

    # -- what is open ------------------------------------------------------------------------------------------------

    def _image(self, one: Shown) -> Any:
        return self._images.taken(one.section.index, lambda: open_image(one.section.path, stain=one.section.stain))

    def _pyramid(self, one: Shown) -> Any:
        return self._pyramids.taken(one.section.index, lambda: PyramidFile(self._path(one)))

    def _window(self, one: Shown, image: SectionImage) -> Window:
        index = one.section.index
        if index not in self._windows:
            self._windows[index] = window_of(image)
        return self._windows[index]

    def _whole(self, one: Shown) -> list[NDArray[np.uint8]]:
        with open_image(one.section.path, stain=one.section.stain) as image:
            levels = [window_of(image).shown(image.read())]
        while len(levels) < len(one.levels):
            levels.append(halved(levels[-1]))
        return levels


def _shown(section: Section) -> Shown:
    with open_image(section.path, stain=section.stain) as image:
        dear = isinstance(image, DecodedImage)
        etag = _etag(section)
        if not dear and _steps_well(image.levels):
            return Shown(section=section, levels=image.levels, made="own", first=0, etag=etag)
        levels = tuple(level_of(image.shape, shape, (TILE, TILE)) for shape in shapes_below(image.shape))
        if image.shape[0] * image.shape[1] <= SMALL:
            return Shown(section=section, levels=levels, made="held", first=0, etag=etag)
        tall, wide = image.tile_shape
        first = 0 if dear or tall * wide > _DEAR else 1
        return Shown(section=section, levels=levels, made="made", first=first, etag=etag)


def _steps_well(levels: tuple[Level, ...]) -> bool:
    """From every level the next is near, the last is small, and all are stored in small tiles."""
    factors = [max(level.factor) for level in levels]
    near = all(after / before <= _STEEP for before, after in pairwise(factors))
    small = all(level.tile_shape[0] * level.tile_shape[1] <= 1 << 22 for level in levels)
    return near and small and max(levels[-1].shape) <= 2 * TILE * _STEEP


def _etag(section: Section) -> str:
    about = os.stat(section.path)
    text = f"{section.path}\0{about.st_size}\0{about.st_mtime_ns}\0{section.stain}\0{TILE}"
    return sha256(text.encode()).hexdigest()[:16]


class _Kept(Generic[T]):
    """Things that are dear to open, the last used of them kept; one that is in use is not closed."""

    def __init__(self, most: int, close: Callable[[T], None]) -> None:
        self._most, self._close = most, close
        self._lock = threading.Lock()
        self._there: OrderedDict[int, tuple[T, list[int]]] = OrderedDict()
        self._opening: dict[int, threading.Lock] = {}

    @contextmanager
    def taken(self, key: int, make: Callable[[], T]) -> Iterator[T]:
        with self._lock:
            opening = self._opening.setdefault(key, threading.Lock())
        with opening:  # by one thread
            with self._lock:
                found = self._there.get(key)
                if found is not None:
                    found[1][0] += 1
            if found is None:
                found = (make(), [1])
                with self._lock:
                    self._there[key] = found
        try:
            yield found[0]
        finally:
            with self._lock:
                found[1][0] -= 1
                if key in self._there:
                    self._there.move_to_end(key)
                idle = [one for one, (_, users) in self._there.items() if users[0] == 0]
                for one in idle[: max(0, len(self._there) - self._most)]:
                    self._close(self._there.pop(one)[0])

    def close(self) -> None:
        with self._lock:
            for one in [one for one, (_, users) in self._there.items() if users[0] == 0]:
                with suppress(OSError):
                    self._close(self._there.pop(one)[0])

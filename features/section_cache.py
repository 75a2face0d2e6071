"""Sections averaged down once and kept in cells of whole tiles within a budget, with each section's background and
tissue level.

A cell of a section is a rectangle of averaged pixels whose borders are borders of the file's tiles, so that no tile is
decoded for two cells; sections that are small once averaged are one cell.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.open_sections import OpenSections
from features.resample import block_means
from meshgnn.errors import InputError
from meshgnn.source.background import brightest_hump
from meshgnn.source.sections import Section, SectionImage, SectionStack

BLOCK_PX = 2048
"""Sections up to this size, once averaged, are one cell."""
_CELL_PX = 256  # a cell's least side, of tiles that are smaller
_NEAR_PX = 512  # side of the squares within which small patches share a window
_PROBES = 64

Place = tuple[int, int, int, int]
"""First and last row, first and last column of a cell; the last ones do not belong to it."""


class SectionCache:
    """Cells of the sections of a stack, decoded when asked for; the least recently used go first.

    Several threads may read; a cell that one of them decodes is not decoded by another.

    Args:
        stack: of sections.
        pixel_um: wanted resolution; sections are averaged over the whole number of pixels nearest to it.
        budget: bytes of cells kept at most (one is always kept).
        skip: give cells with unreadable tiles all the same, as float, NaN where there is nothing to read; the error of
            the first is kept in `damaged`.
    """

    def __init__(self, stack: SectionStack, pixel_um: float, budget: int, skip: bool = False) -> None:
        self.pixel_um, self.budget, self.skip = pixel_um, budget, skip
        self.damaged: dict[int, str] = {}
        self.decoded_bytes = 0
        self.images = OpenSections()
        self._sections = {section.index: section for section in stack}
        self._reduced: dict[int, ReducedSection] = {}
        self._cells: OrderedDict[tuple[int, int, int], NDArray[Any]] = OrderedDict()
        self._making: dict[tuple[int, int, int], Lock] = {}
        self._bytes = 0
        self._lock = Lock()

    def section(self, index: int) -> "ReducedSection":
        """The averaged section `index`; its grey levels are measured on first use."""
        if index not in self._reduced:
            section = self._sections[index]
            factor = max(1, round(self.pixel_um / section.pixel_um))
            self._reduced.setdefault(index, ReducedSection(section=section, factor=factor, cache=self))
        return self._reduced[index]

    def cell(self, reduced: "ReducedSection", down: int, across: int) -> NDArray[Any]:
        """Averaged pixels of one cell, decoded if it is not at hand."""
        return self.cells(reduced, [(down, across)])[0]

    def cells(self, reduced: "ReducedSection", places: Sequence[tuple[int, int]]) -> list[NDArray[Any]]:
        """Averaged pixels of cells (down, across), decoded if they are not at hand."""
        found: dict[tuple[int, int], NDArray[Any]] = {}
        index, wanted = reduced.section.index, list(places)
        while wanted:
            mine: list[tuple[int, int]] = []
            others: Lock | None = None
            gate = Lock()
            with self._lock:
                for place in wanted:
                    key = (index, *place)
                    if (kept := self._cells.get(key)) is not None:
                        self._cells.move_to_end(key)
                        found[place] = kept
                    elif (making := self._making.get(key)) is not None:
                        others = making
                    else:
                        self._making[key] = gate
                        mine.append(place)
                if mine:
                    gate.acquire()
            if mine:
                self._decode(reduced, mine, found, gate)
            elif others is not None:
                with others:  # until the thread that decodes one of them is done, well or not
                    pass
            wanted = [] if len(found) == len(places) else [place for place in wanted if place not in found]
        return [found[place] for place in places]

    def _decode(
        self, reduced: "ReducedSection", mine: list[tuple[int, int]], found: dict[tuple[int, int], NDArray[Any]],
        gate: Lock,
    ) -> None:  # fmt: skip
        """Decode cells into `found` and keep them; `gate` is what others wait at."""
        index, decoded = reduced.section.index, 0
        try:
            with self.images.image(reduced.section) as image:
                if reduced.tiles and mine[-1] == (mine[0][0], mine[0][1] + len(mine) - 1):
                    self._row(image, reduced, mine, found)
                for place in mine:
                    if place not in found:
                        found[place] = self._decoded(image, reduced, *place)
        finally:
            with self._lock:
                for place in mine:
                    del self._making[(index, *place)]
                    if (pixels := found.get(place)) is not None:
                        self._cells[(index, *place)] = pixels
                        decoded += pixels.size
                        self._bytes += pixels.nbytes
                self.decoded_bytes += decoded * reduced.factor**2 * reduced.item_bytes
                while self._bytes > self.budget and len(self._cells) > 1:
                    self._bytes -= self._cells.popitem(last=False)[1].nbytes
            gate.release()

    def _row(
        self, image: SectionImage, reduced: "ReducedSection", mine: list[tuple[int, int]],
        found: dict[tuple[int, int], NDArray[Any]],
    ) -> None:  # fmt: skip
        """Decode tiles side by side, each of which is a cell; stops at the first that cannot be read."""
        (tall, wide), (down, first) = reduced.cell, mine[0]
        top, left = down * tall, first * wide
        right = min(left + len(mine) * wide, reduced.shape[1])
        try:
            for place, (_, west, pixels) in zip(mine, image.blocks(reduced.level, top, top + 1, left, right)):
                if west != place[1] * wide or pixels.shape[1] > wide:
                    return  # decoded several at a time
                found[place] = pixels
        except InputError:
            return  # told when it is decoded alone

    def _decoded(self, image: SectionImage, reduced: "ReducedSection", down: int, across: int) -> NDArray[Any]:
        top, bottom, left, right = reduced.place(down, across)
        try:
            return _averaged(image, reduced, top, bottom, left, right)
        except InputError as error:
            if not self.skip:
                raise
            self.damaged.setdefault(reduced.section.index, str(error))
        out = np.full((bottom - top, right - left), np.nan, np.float32)
        tall, wide = image.levels[reduced.level].tile_shape
        many = max(1, tall // reduced.step), max(1, wide // reduced.step)
        for y in range(top, bottom, many[0]):
            for x in range(left, right, many[1]):
                low, end = min(y + many[0], bottom), min(x + many[1], right)
                try:
                    out[y - top : low - top, x - left : end - left] = _averaged(image, reduced, y, low, x, end)
                except InputError:
                    continue  # the first one is told
        return out


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class ReducedSection:
    """One section averaged over `factor` x `factor` pixels.

    `background` is the grey of glass, `tissue_density` the optical density of dark tissue (`grey_levels`);
    `full_scale` is the largest value the file's type holds, `floor` the smallest grey that is given a density.
    It is read from `level` of the image's pyramid, `step` x `step` pixels of which are averaged. Cells have `cell` rows
    and columns, the first ones `shift` columns fewer (in mirrored images the tiles end at the right border); `tiles` if
    each is a tile as it is.
    """

    section: Section
    factor: int
    cache: SectionCache
    shape: tuple[int, int] = field(init=False)
    background: float = field(init=False)
    tissue_density: float = field(init=False)
    full_scale: float = field(init=False)
    floor: float = field(init=False)
    item_bytes: int = field(init=False)
    whole_numbers: bool = field(init=False)
    level: int = field(init=False)
    step: int = field(init=False)
    cell: tuple[int, int] = field(init=False)
    tiles: bool = field(init=False)
    shift: int = field(init=False)

    def __post_init__(self) -> None:
        with self.cache.images.image(self.section) as image:
            rows, columns = image.shape
            background, density = grey_levels(image, self.cache.skip)
            kind = image.dtype
            shape = -(-rows // self.factor), -(-columns // self.factor)
            level, step = _level(image, self.factor, shape)
            tall, wide = image.levels[level].tile_shape
            whole = max(shape) <= BLOCK_PX
            cell = shape if whole else (-(-_CELL_PX // tall) * tall, -(-_CELL_PX // wide) * wide)
            tiles = cell == (tall, wide) and step == 1 and not image.mirrored
            aligned = image.mirrored and step == 1 and not whole and image.levels[level].shape[1] == shape[1]
        found = {
            "shape": shape, "background": background, "tissue_density": density, "level": level, "step": step,
            "full_scale": float(np.iinfo(kind).max) if kind.kind == "u" else 1.0, "item_bytes": kind.itemsize,
            "whole_numbers": kind.kind == "u", "floor": max(background / 256, 1e-6), "cell": cell,
            "tiles": tiles,
            "shift": -shape[1] % cell[1] if aligned else 0,
        }  # fmt: skip
        for name, value in found.items():
            object.__setattr__(self, name, value)

    def place(self, down: int, across: int) -> Place:
        """First and last row, first and last column of a cell; the last ones do not belong to it."""
        tall, wide = self.cell
        left = across * wide - self.shift
        right = min(left + wide, self.shape[1])
        return down * tall, min((down + 1) * tall, self.shape[0]), max(left, 0), right

    def groups(self, y: NDArray[np.float64], x: NDArray[np.float64], reach: int) -> Iterator[NDArray[np.int64]]:
        """Places of points that one window serves, in order of cells."""
        if self.cell == self.shape:
            yield np.arange(len(y))
            return
        if len(y) == 1:
            yield np.zeros(1, np.int64)
            return
        if 2 * reach > _NEAR_PX:
            tall, wide = self.cell
            yield from np.lexsort((x // wide, y // tall))[:, None]
            return
        square = np.clip(y // _NEAR_PX, 0, None) * 1_000_000 + np.clip(x // _NEAR_PX, 0, None)
        for one in np.unique(square):
            here = np.flatnonzero(square == one)
            area = (np.ptp(y[here]) + 2 * reach) * (np.ptp(x[here]) + 2 * reach)
            if area <= 2 * len(here) * (2 * reach) ** 2:
                yield here
            else:  # far apart
                yield from here[:, None]

    def window(
        self, y: NDArray[np.float64], x: NDArray[np.float64], reach: int, turned: tuple[float, float] | None = None
    ) -> tuple[NDArray[Any], int, int]:
        """Averaged pixels around these points with their first row and column; nothing outside the image.

        With `turned`, half the side of a square around the one point and its angle (radians), cells that the square
        does not touch are not decoded, and mean nothing.
        """
        if self.cell == self.shape:
            return self.cache.cell(self, 0, 0), 0, 0
        rows, columns = self.shape
        top, bottom = (int(np.clip(v, 0, rows)) for v in (y.min() - reach, y.max() + reach + 1))
        left, right = (int(np.clip(v, 0, columns)) for v in (x.min() - reach, x.max() + reach + 1))
        if top >= bottom or left >= right:  # the points lie outside the image
            return np.zeros((1, 1), np.float32), -(10**6), -(10**6)
        touched = None if turned is None else partial(_touches, float(y[0]), float(x[0]), *turned)
        cells = list(self.pieces(top, bottom, left, right, touched))
        if len(cells) == 1:
            return cells[0][1], cells[0][0][0], cells[0][0][2]
        out = np.empty((bottom - top, right - left), np.result_type(*{pixels.dtype for _, pixels in cells}))
        for (first, last, west, east), pixels in cells:
            r0, r1, c0, c1 = max(first, top), min(last, bottom), max(west, left), min(east, right)
            out[r0 - top : r1 - top, c0 - left : c1 - left] = pixels[r0 - first : r1 - first, c0 - west : c1 - west]
        return out, top, left

    def pieces(
        self, top: int, bottom: int, left: int, right: int, wanted: Callable[[Place], bool] | None = None
    ) -> Iterator[tuple[Place, NDArray[Any]]]:
        """The cells that hold these rows and columns of the image (of these those that are wanted), each with its
        place."""
        (tall, wide), shift = self.cell, self.shift
        for down in range(top // tall, -(-bottom // tall)):  # a row at a time, so that its pixels are still at hand
            row, places = [], []
            for across in range((left + shift) // wide, -(-(right + shift) // wide)):
                place = self.place(down, across)
                if wanted is None or wanted(place):
                    row.append((down, across))
                    places.append(place)
            yield from zip(places, self.cache.cells(self, row))


def _touches(y: float, x: float, half: float, angle: float, place: Place) -> bool:
    """Whether a turned square of this half side around (y, x) touches a cell (separating axes of the square)."""
    cosine, sine = math.cos(angle), math.sin(angle)
    down, across = (place[0] + place[1] - 1) / 2 - y, (place[2] + place[3] - 1) / 2 - x
    tall, wide = (place[1] - place[0]) / 2, (place[3] - place[2]) / 2
    reach = half + 1  # a pixel is wanted on either side of a position
    along, aside = abs(down * sine + across * cosine), abs(down * cosine - across * sine)
    cosine, sine = abs(cosine), abs(sine)
    return along <= reach + tall * sine + wide * cosine and aside <= reach + tall * cosine + wide * sine


def _averaged(
    image: SectionImage, reduced: ReducedSection, top: int, bottom: int, left: int, right: int
) -> NDArray[Any]:
    factor, full = reduced.step, image.levels[reduced.level].shape
    rows, columns = bottom - top, right - left
    y, x = top * factor, left * factor
    height, width = min(rows * factor, full[0] - y), min(columns * factor, full[1] - x)
    if factor == 1:
        tile = image.levels[reduced.level].tile_shape
        if not image.mirrored and y % tile[0] == x % tile[1] == 0 and height <= tile[0] and width <= tile[1]:
            # One tile, as it is.
            first, west, pixels = next(iter(image.blocks(reduced.level, y, y + height, x, x + width)))
            return pixels[y - first : y - first + height, x - west : x - west + width]
        return image.window(y, x, height, width, level=reduced.level)
    out = np.empty((rows, columns), np.float32)
    # Rows at a time, to keep full resolution out of memory; whole tiles, so that none is decoded twice.
    whole = math.lcm(image.levels[reduced.level].tile_shape[0], factor)
    strip = max(1, (whole * max(1, 1024 // whole) if whole <= 8192 else 1024) // factor)
    for first in range(0, rows, strip):
        many = min(strip, rows - first)
        tall = min(many * factor, height - first * factor)
        pixels = image.window(y + first * factor, x, tall, width, level=reduced.level)
        block_means(pixels, factor, out[first : first + many])
    return out


def _level(image: SectionImage, factor: int, shape: tuple[int, int]) -> tuple[int, int]:
    """A level of the image's pyramid whose pixels make up exactly those wanted, and how many of them in a row.

    The coarsest such level; it must be of means, and a mirrored image must not be cut elsewhere by it.
    """
    for number in range(len(image.levels) - 1, 0, -1):
        level = image.levels[number]
        step = int(level.factor[0])
        fits = level.factor == (step, step) and level.origin == ((step - 1) / 2, (step - 1) / 2) and factor % step == 0
        whole = not image.mirrored or level.shape[1] * step == image.shape[1]
        covers = all(-(-have // (factor // step)) >= want for have, want in zip(level.shape, shape)) if fits else False
        if fits and whole and covers:
            return number, factor // step
    return 0, factor


def grey_levels(image: SectionImage, skip: bool = False) -> tuple[float, float]:
    """Grey of bare glass and optical density of dark tissue, from up to 64 tiles spread over the image.

    Glass is the brightest hump of the histogram; the density is the 80th percentile of what is at least a quarter as
    dense as the 99th: grey matter, whatever its share. An image of one grey gets that as glass, and density 1.

    Args:
        image: of the section.
        skip: leave out tiles that cannot be read, as long as there is one that can.

    Raises:
        InputError: a tile that cannot be read.
    """
    (rows, columns), (tall, wide) = image.shape, image.tile_shape
    across = -(-columns // wide)
    count = -(-rows // tall) * across
    chosen = np.unique(np.linspace(0, count - 1, min(count, _PROBES)).astype(int))
    corners = [(int(k) // across * tall, int(k) % across * wide) for k in chosen]
    tiles = []
    for number, (y, x) in enumerate(corners):
        try:
            tiles.append(image.window(y, x, min(tall, rows - y), min(wide, columns - x)))
        except InputError:
            if not skip or (number == len(corners) - 1 and not tiles):
                raise
    every = max(1, min(tall, wide) // 32)
    pixels = np.concatenate([tile[::every, ::every].ravel() for tile in tiles]).astype(np.float64)
    pixels = pixels[np.isfinite(pixels)]
    if not len(pixels) or pixels.min() == pixels.max():
        return (float(pixels[0]) if len(pixels) and pixels[0] > 0 else 1.0), 1.0
    background = brightest_hump(pixels)
    density = -np.log(np.maximum(pixels, background / 256) / background)
    tissue = density[density > 0.25 * np.percentile(density, 99)]
    unit = float(np.percentile(tissue, 80)) if len(tissue) else 1.0
    return background, max(unit, 1e-3)

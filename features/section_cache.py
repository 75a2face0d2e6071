"""Sections averaged down once and kept as blocks within a budget, with each section's background and tissue level."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.resample import block_means
from meshgnn.source.background import brightest_hump
from meshgnn.source.sections import Section, SectionImage, SectionStack, open_section

BLOCK_PX = 2048
_PROBES = 64


class SectionCache:
    """Levels of the sections of a stack, decoded when asked for; the least recently used blocks go first.

    Args:
        stack: of sections.
        pixel_um: wanted resolution; sections are averaged over the whole number of pixels nearest to it.
        budget: bytes of blocks kept at most (one block is always kept).
    """

    def __init__(self, stack: SectionStack, pixel_um: float, budget: int) -> None:
        self.pixel_um, self.budget = pixel_um, budget
        self._sections = {section.index: section for section in stack}
        self._reduced: dict[int, ReducedSection] = {}
        self._blocks: OrderedDict[tuple[int, int, int], NDArray[Any]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def section(self, index: int) -> "ReducedSection":
        """The averaged section `index`; its grey levels are measured on first use."""
        with self._lock:
            if index not in self._reduced:
                section = self._sections[index]
                factor = max(1, round(self.pixel_um / section.pixel_um))
                self._reduced[index] = ReducedSection(section=section, factor=factor, cache=self)
            return self._reduced[index]

    def block(self, reduced: "ReducedSection", down: int, across: int) -> NDArray[Any]:
        """Averaged pixels of one block, decoded if it is not at hand."""
        key = (reduced.section.index, down, across)
        with self._lock:
            if key in self._blocks:
                self._blocks.move_to_end(key)
                return self._blocks[key]
        with open_section(reduced.section) as image:
            block = _averaged(image, reduced.factor, reduced.shape, down, across)
        with self._lock:
            if key not in self._blocks:
                self._blocks[key] = block
                self._bytes += block.nbytes
            while self._bytes > self.budget and len(self._blocks) > 1:
                self._bytes -= self._blocks.popitem(last=False)[1].nbytes
        return block


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class ReducedSection:
    """One section averaged over `factor` x `factor` pixels.

    `background` is the grey of glass, `tissue_density` the optical density of dark tissue (`grey_levels`);
    `full_scale` is the largest value the file's type holds, `floor` the smallest grey that is given a density.
    """

    section: Section
    factor: int
    cache: SectionCache
    shape: tuple[int, int] = field(init=False)
    background: float = field(init=False)
    tissue_density: float = field(init=False)
    full_scale: float = field(init=False)
    floor: float = field(init=False)

    def __post_init__(self) -> None:
        with open_section(self.section) as image:
            rows, columns = image.shape
            background, density = grey_levels(image)
            kind = image.dtype
        object.__setattr__(self, "shape", (-(-rows // self.factor), -(-columns // self.factor)))
        object.__setattr__(self, "background", background)
        object.__setattr__(self, "tissue_density", density)
        object.__setattr__(self, "full_scale", float(np.iinfo(kind).max) if kind.kind == "u" else 1.0)
        object.__setattr__(self, "floor", max(background / 256, 1e-6))

    def groups(self, y: NDArray[np.float64], x: NDArray[np.float64], reach: int) -> Iterator[NDArray[np.int64]]:
        """Places of points that one window serves, in order of blocks."""
        if max(self.shape) <= BLOCK_PX:
            yield np.arange(len(y))
            return
        cell = np.clip(y // BLOCK_PX, 0, None) * 1_000_000 + np.clip(x // BLOCK_PX, 0, None)
        for one in np.unique(cell):
            yield np.flatnonzero(cell == one)

    def window(self, y: NDArray[np.float64], x: NDArray[np.float64], reach: int) -> tuple[NDArray[Any], int, int]:
        """Averaged pixels around these points with their first row and column; nothing outside the image."""
        rows, columns = self.shape
        if max(self.shape) <= BLOCK_PX:
            return self.cache.block(self, 0, 0), 0, 0
        top, bottom = (int(np.clip(v, 0, rows)) for v in (y.min() - reach, y.max() + reach + 1))
        left, right = (int(np.clip(v, 0, columns)) for v in (x.min() - reach, x.max() + reach + 1))
        pieces = [
            [
                self.cache.block(self, down, across)[
                    max(top - down * BLOCK_PX, 0) : bottom - down * BLOCK_PX,
                    max(left - across * BLOCK_PX, 0) : right - across * BLOCK_PX,
                ]
                for across in range(left // BLOCK_PX, -(-right // BLOCK_PX))
            ]
            for down in range(top // BLOCK_PX, -(-bottom // BLOCK_PX))
        ]
        if not pieces or not pieces[0]:  # the points lie outside the image
            return np.zeros((1, 1), np.float32), -(10**6), -(10**6)
        return (pieces[0][0] if len(pieces) == len(pieces[0]) == 1 else np.block(pieces)), top, left


def _averaged(image: SectionImage, factor: int, shape: tuple[int, int], down: int, across: int) -> NDArray[Any]:
    rows = min(BLOCK_PX, shape[0] - down * BLOCK_PX)
    columns = min(BLOCK_PX, shape[1] - across * BLOCK_PX)
    level, factor = _level(image, factor, shape)
    full = image.levels[level].shape
    y, x = down * BLOCK_PX * factor, across * BLOCK_PX * factor
    height, width = min(rows * factor, full[0] - y), min(columns * factor, full[1] - x)
    if factor == 1:
        return image.window(y, x, height, width, level=level)
    out = np.empty((rows, columns), np.float32)
    strip = max(1, 1024 // factor)  # rows of averaged pixels at a time, to keep full resolution out of memory
    for first in range(0, rows, strip):
        many = min(strip, rows - first)
        tall = min(many * factor, height - first * factor)
        pixels = image.window(y + first * factor, x, tall, width, level=level)
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


def grey_levels(image: SectionImage) -> tuple[float, float]:
    """Grey of bare glass and optical density of dark tissue, from up to 64 tiles spread over the image.

    Glass is the brightest hump of the histogram; the density is the 80th percentile of what is at least a quarter as
    dense as the 99th: grey matter, whatever its share. An image of one grey gets that as glass, and density 1.
    """
    (rows, columns), (tall, wide) = image.shape, image.tile_shape
    across = -(-columns // wide)
    count = -(-rows // tall) * across
    chosen = np.unique(np.linspace(0, count - 1, min(count, _PROBES)).astype(int))
    corners = [(int(k) // across * tall, int(k) % across * wide) for k in chosen]
    tiles = [image.window(y, x, min(tall, rows - y), min(wide, columns - x)) for y, x in corners]
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

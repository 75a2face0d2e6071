"""The socket of section images: what every format gives, window by window, at every level of its pyramid."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from meshgnn.errors import InputError
from meshgnn.source.stains import DEFAULT, check_stain, grey_of

LARGEST = 1 << 34
"""Bytes that an image may hold once decoded (16 GiB), and 1/16 of that in a single tile: larger ones are refused."""
_STRIP = 1 << 26  # bytes of full resolution held at a time while an image is averaged


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """One level of a pyramid.

    Args:
        shape: rows and columns.
        factor: pixels of level 0 per pixel, of rows and of columns.
        origin: (row, column) in pixels of level 0 where the centre of this level's first pixel lies, in the image as
            it is stored; (factor - 1) / 2 where a pixel is the mean of those that it covers.
        tile_shape: rows and columns that are decoded together.
    """

    shape: tuple[int, int]
    factor: tuple[float, float]
    origin: tuple[float, float]
    tile_shape: tuple[int, int]


def level_of(full: tuple[int, int], shape: tuple[int, int], tile_shape: tuple[int, int]) -> Level:
    """A level of averaged pixels, its factor from the two shapes (pyramids step by 2, 3, 4, or whatever).

    A whole factor is taken where rounding the size up or down explains the shape.
    """
    factors = []
    for one, other in zip(full, shape):
        whole = max(1, round(one / other))
        factors.append(float(whole) if abs(one - whole * other) < whole else one / other)
    return Level(
        shape=shape, factor=(factors[0], factors[1]), tile_shape=tile_shape,
        origin=((factors[0] - 1) / 2, (factors[1] - 1) / 2),
    )  # fmt: skip


class SectionImage(ABC):
    """An open image of a section, read in windows; several threads may share one.

    Grey images of 8 or 16 bit (or float) keep their type; colour becomes one channel of the same type.

    Args:
        path: of the file (of the folder, for OME-Zarr).
        mirrored: read with its columns turned round, at every level.
        stored: the numbers as they are stored, for label images.
        stain: which channel colour becomes, one of `meshgnn.source.stains.STAINS`.

    Attributes:
        levels: level 0 is the full image, the others are ever smaller ones.
        dtype: of what is read.
        colour: it is stored as colour.
        pixel_um: height and width of a pixel of level 0 as the file tells, None if it does not.

    Readers raise InputError for a file that is damaged, cut short, larger than LARGEST, or of a kind that is not read.
    """

    levels: tuple[Level, ...]
    dtype: np.dtype[Any]
    colour: bool = False
    pixel_um: tuple[float, float] | None = None

    def __init__(self, path: Path, *, mirrored: bool = False, stored: bool = False, stain: str = DEFAULT) -> None:
        self.path = Path(path)
        self.mirrored, self.stored = mirrored, stored
        self.stain = check_stain(stain, str(path))

    @abstractmethod
    def blocks(
        self, level: int, top: int, bottom: int, left: int, right: int
    ) -> Iterator[tuple[int, int, npt.NDArray[Any]]]:
        """Row, column and grey pixels of blocks that together cover these rows and columns, which lie in the image.

        As stored, never mirrored; blocks may reach beyond what was asked.
        """

    @abstractmethod
    def close(self) -> None: ...

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of level 0."""
        return self.levels[0].shape

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Rows and columns of a tile, or of a strip, of level 0."""
        return self.levels[0].tile_shape

    def level_for(self, factor: float) -> int:
        """The coarsest level whose pixels are at most `factor` pixels of level 0 wide and high."""
        fits = [k for k, level in enumerate(self.levels) if max(level.factor) <= factor * (1 + 1e-6)]
        return max(fits, key=lambda k: min(self.levels[k].factor), default=0)

    def window(
        self, row: int, column: int, height: int, width: int, fill: float = 0, level: int = 0
    ) -> npt.NDArray[Any]:
        """Pixels [height, width] of a level from (row, column) on; `fill` where the window leaves the image."""
        out = np.full((height, width), fill, self.dtype)
        rows, columns = self.levels[level].shape
        start = columns - column - width if self.mirrored else column
        top, bottom = max(row, 0), min(row + height, rows)
        left, right = max(start, 0), min(start + width, columns)
        if bottom > top and right > left:
            for y, x, block in self.blocks(level, top, bottom, left, right):
                r0, r1 = max(top, y), min(bottom, y + block.shape[0])
                c0, c1 = max(left, x), min(right, x + block.shape[1])
                if r1 > r0 and c1 > c0:
                    out[r0 - row : r1 - row, c0 - start : c1 - start] = block[r0 - y : r1 - y, c0 - x : c1 - x]
        return np.ascontiguousarray(out[:, ::-1]) if self.mirrored else out

    def read(self, level: int = 0) -> npt.NDArray[Any]:
        """A whole level [rows, columns]."""
        return self.window(0, 0, *self.levels[level].shape, level=level)

    def thumbnail(self, widest: int) -> npt.NDArray[Any]:
        """The image, averaged over whole blocks until no side exceeds `widest` pixels; as it is if none does."""
        block = -(-max(self.shape) // widest)
        return self.read() if block == 1 or min(self.shape) < block else self.reduced(block)

    def reduced(self, block: int) -> npt.NDArray[np.float32]:
        """[rows // block, columns // block] means over `block` x `block` pixels of level 0, at least one of each.

        Read from the coarsest level that is fine enough, strip by strip; where the level's pixels do not add up to
        blocks it is interpolated to their centres.

        Raises:
            InputError: the image is smaller than one block.
        """
        number = self.level_for(block)
        level = self.levels[number]
        wanted = (self.shape[0] // block, self.shape[1] // block)
        if min(wanted) == 0:
            raise InputError(f"{self.path}: the image is smaller than {block} x {block} pixels")
        origin = list(level.origin)
        if self.mirrored:  # counted from the other side
            origin[1] = self.shape[1] - 1 - (origin[1] + (level.shape[1] - 1) * level.factor[1])
        many = [max(1, int(block / factor + 1e-6)) for factor in level.factor]
        exact = all(n * f == block and abs(o - (f - 1) / 2) < 1e-9 for n, f, o in zip(many, level.factor, origin))
        means = self._means(number, many[0], many[1])
        if exact and all(have >= want for have, want in zip(means.shape, wanted)):
            return means[: wanted[0], : wanted[1]]
        axes = []
        for axis in range(2):
            step = many[axis] * level.factor[axis]
            first = origin[axis] + (many[axis] - 1) / 2 * level.factor[axis]
            axes.append((np.arange(wanted[axis]) * block + (block - 1) / 2 - first) / step)
        ratio = [block / (n * f) for n, f in zip(many, level.factor)]
        soft = ndimage.gaussian_filter(means, [0.4 * r if r > 1.25 else 0 for r in ratio])
        places = np.stack(np.meshgrid(*axes, indexing="ij"))
        return ndimage.map_coordinates(soft, places, order=1, mode="nearest").astype(np.float32)

    def _means(self, number: int, tall: int, wide: int) -> npt.NDArray[np.float32]:
        """Means over blocks of tall x wide pixels of a level; the last, partial ones over what there is."""
        rows, columns = self.levels[number].shape
        out = np.empty((-(-rows // tall), -(-columns // wide)), np.float32)
        edges = np.arange(0, columns, wide)
        size = np.diff(np.append(edges, columns)).astype(np.float32)
        fit = max(1, _STRIP // (columns * (self.dtype.itemsize + 4)))  # rows
        unit = math.lcm(tall, self.levels[number].tile_shape[0])  # so that no tile is decoded twice
        strip = max(unit, fit // unit * unit) // tall if unit <= 2 * fit else max(1, fit // tall)
        for first in range(0, len(out), strip):
            top, bottom = first * tall, min((first + strip) * tall, rows)
            pixels: npt.NDArray[Any] = self.window(top, 0, bottom - top, columns, level=number).astype(np.float32)
            if tall > 1:
                heights = np.arange(0, bottom - top, tall)
                counts = np.diff(np.append(heights, bottom - top)).astype(np.float32)
                pixels = np.add.reduceat(pixels, heights, axis=0) / counts[:, None]
            out[first : first + strip] = np.add.reduceat(pixels, edges, axis=1) / size if wide > 1 else pixels
        return out

    def grey(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """[H, W] of decoded pixels [H, W] or [H, W, 1] (as they are) or [H, W, 3 or 4] (the stain)."""
        if pixels.ndim == 2:
            return pixels
        return pixels[..., 0] if pixels.shape[2] == 1 else grey_of(pixels[..., :3], self.stain)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

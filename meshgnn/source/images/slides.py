"""Whole-slide formats of scanner makers (SVS, NDPI, MRXS, SCN, BIF, CZI, ...), through OpenSlide."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from meshgnn.errors import InputError
from meshgnn.optional import need
from meshgnn.source.section_image import SectionImage, level_of
from meshgnn.source.stains import DEFAULT

_TILE = 512


class SlideImage(SectionImage):
    """A slide as OpenSlide gives it: 8-bit RGB, at every level; where nothing was scanned it is white.

    Pixel size: `openslide.mpp-x` and `openslide.mpp-y`.
    """

    def __init__(self, path: Path, *, mirrored: bool = False, stored: bool = False, stain: str = DEFAULT) -> None:
        super().__init__(path, mirrored=mirrored, stored=stored, stain=stain)
        if stored:
            raise InputError(f"{self.path}: labels need one whole number per pixel; slides hold colour")
        openslide = need("openslide", "meshgnn[slides]")
        if not self.path.is_file():
            raise InputError(f"{self.path}: no such file")
        try:
            self._slide: Any = openslide.OpenSlide(str(self.path))
        except Exception as error:
            text = str(error) or "format not known"
            raise InputError(f"{self.path}: cannot be read as a slide ({text}); export it as OME-TIFF") from None
        sizes = [(int(size[1]), int(size[0])) for size in self._slide.level_dimensions]
        empty = next((k for k, size in enumerate(sizes) if min(size) < 1), None)
        if empty is not None:
            self._slide.close()
            raise InputError(f"{self.path}: level {empty} of its pyramid is empty; export it again")
        self.levels = tuple(level_of(sizes[0], size, (min(_TILE, size[0]), min(_TILE, size[1]))) for size in sizes)
        self.dtype, self.colour = np.dtype(np.uint8), True
        sides = []
        for axis in "yx":
            try:
                sides.append(float(self._slide.properties.get(f"openslide.mpp-{axis}", "0")))
            except ValueError:
                sides.append(0.0)
        self.pixel_um = (sides[0], sides[1]) if min(sides) > 0 else None

    def blocks(
        self, level: int, top: int, bottom: int, left: int, right: int
    ) -> Iterator[tuple[int, int, npt.NDArray[Any]]]:
        """See `SectionImage.blocks`."""
        down, across = self._slide.level_downsamples[level], self._slide.level_downsamples[level]
        for row in range(top, bottom, 4 * _TILE):
            for column in range(left, right, 4 * _TILE):
                size = min(4 * _TILE, right - column), min(4 * _TILE, bottom - row)
                try:
                    region = self._slide.read_region((round(column * across), round(row * down)), level, size)
                except Exception as error:
                    raise InputError(f"{self.path}: level {level} cannot be decoded ({error}); copy it again") from None
                pixels = np.asarray(region)
                seen = pixels[..., 3:].astype(np.uint16)
                # Where the scanner did not look there is no colour: that is glass.
                colour = (pixels[..., :3].astype(np.uint16) * seen + (255 - seen) * 255 + 127) // 255
                yield row, column, self.grey(colour.astype(np.uint8))

    def close(self) -> None:
        self._slide.close()

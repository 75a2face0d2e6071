"""Images whose format is decoded as a whole: held in memory, one level at a time."""

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from meshgnn.errors import InputError
from meshgnn.source.section_image import SectionImage
from meshgnn.source.stains import DEFAULT

LARGEST_WHOLE = 1 << 31
"""Bytes that an image of such a format may hold once decoded (2 GiB)."""
TILE = 256


class DecodedImage(SectionImage):
    """A base for formats without tiles: a level is decoded when first asked for, and kept until another is."""

    def __init__(self, path: Path, *, mirrored: bool = False, stored: bool = False, stain: str = DEFAULT) -> None:
        super().__init__(path, mirrored=mirrored, stored=stored, stain=stain)
        self._kept: tuple[int, npt.NDArray[Any]] | None = None
        self._lock = Lock()

    @abstractmethod
    def _decode(self, level: int) -> npt.NDArray[Any]:
        """Pixels [H, W] or [H, W, samples] of a level."""

    def _check_size(self, rows: int, columns: int, pixel_bytes: int) -> None:
        if min(rows, columns) < 1:
            raise InputError(f"{self.path}: the image is empty ({rows} x {columns}); export it again")
        if rows * columns * pixel_bytes > LARGEST_WHOLE:
            raise InputError(
                f"{self.path}: {rows} x {columns} px are more than {LARGEST_WHOLE >> 30} GiB, which this format cannot "
                "give in parts; save it as a tiled TIFF with a pyramid"
            )

    def blocks(
        self, level: int, top: int, bottom: int, left: int, right: int
    ) -> Iterator[tuple[int, int, npt.NDArray[Any]]]:
        """See `SectionImage.blocks`."""
        with self._lock:
            kept = self._kept
            if kept is None or kept[0] != level:
                try:
                    pixels = self._decode(level)
                except InputError:
                    raise
                except Exception as error:
                    raise InputError(f"{self.path}: cannot be decoded ({error}); copy the file again") from None
                wanted = self.levels[level].shape
                if pixels.shape[:2] != wanted:
                    raise InputError(
                        f"{self.path}: holds {pixels.shape[0]} x {pixels.shape[1]} px where its header says "
                        f"{wanted[0]} x {wanted[1]}; export it again"
                    )
                grey = np.concatenate([self.grey(pixels[row : row + 1024]) for row in range(0, wanted[0], 1024)])
                self._kept = kept = (level, grey)
        yield 0, 0, kept[1]

    def close(self) -> None:
        self._kept = None

"""Tiles decoded straight from their bytes by imagecodecs, where nothing has to be done but to decompress.

Libraries that read images spend as long on a tile of 256 pixels as its decompression takes. TIFF and Zarr share this.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Decompress = Callable[[bytes, int], Any]  # (bytes, size once decoded) -> bytes, at most so many
_TIFF = {1: "none", 5: "lzw", 8: "zlib", 32946: "zlib", 50000: "zstd"}


def decompressor(name: str) -> Decompress | None:
    """A function that decodes at most as many bytes as it is told; None for a codec that is not known here."""
    if name == "none":
        return lambda data, size: data
    import imagecodecs

    codecs: dict[str, Any] = {
        "zstd": imagecodecs.zstd_decode, "zlib": imagecodecs.zlibng_decode, "gzip": imagecodecs.gzip_decode,
        "blosc": imagecodecs.blosc_decode, "lzw": imagecodecs.lzw_decode,
    }  # fmt: skip
    decode = codecs.get(name)
    return None if decode is None else lambda data, size: decode(data, out=size)


class PlainTiles:
    """How the tiles (or strips) of one kind are decoded.

    Args:
        decompress: of `decompressor`.
        shape: rows and columns of a whole tile.
        dtype: as stored, with its byte order.
        differences: each row holds differences of neighbours (TIFF's predictor 2).
    """

    def __init__(
        self, decompress: Decompress, shape: tuple[int, int], dtype: np.dtype[Any], differences: bool = False
    ) -> None:
        self.decompress, self.shape, self.dtype, self.differences = decompress, shape, dtype, differences
        self._bytes = shape[0] * shape[1] * dtype.itemsize
        self._ready = dtype.isnative and not differences  # what was decompressed are the pixels

    def decode(self, data: bytes, rows: int, columns: int) -> NDArray[Any]:
        """The first `rows` x `columns` pixels of a tile, read-only, in the machine's byte order.

        Raises:
            ValueError: the bytes do not hold as many.
        """
        wide, decoded = self.shape[1], self.decompress(data, self._bytes)
        if self._ready and columns == wide and len(decoded) == self._bytes:
            return np.ndarray((rows, wide), self.dtype, decoded)
        pixels = np.frombuffer(decoded, self.dtype)
        if len(pixels) < rows * wide:
            raise ValueError(f"{len(pixels)} pixels where {rows * wide} are needed")
        tile = pixels[: rows * wide].reshape(rows, wide)
        tile = tile.astype(self.dtype.newbyteorder("="), copy=False)
        if self.differences:
            tile = np.cumsum(tile, axis=1, dtype=tile.dtype)
        return tile[:, :columns]


def of_tiff(page: Any, byteorder: str) -> PlainTiles | None:
    """How the tiles of a page of tifffile are decoded; None where that takes more than to decompress them."""
    whole = page.bitspersample in (8, 16, 32, 64) and page.fillorder == 1 and page.planarconfig == 1
    name = _TIFF.get(int(page.compression), "")
    predictor = int(page.predictor)
    if not (whole and name and page.samplesperpixel == 1 and predictor in (1, 2)):
        return None
    kind = np.dtype(page.dtype).newbyteorder(byteorder)
    decompress = decompressor(name)
    if decompress is None or (predictor == 2 and kind.kind != "u"):
        return None
    tall, wide = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    tall = int(tall) if page.is_tiled else min(int(tall), int(page.imagelength))
    return PlainTiles(decompress, (tall, int(wide)), kind, predictor == 2)

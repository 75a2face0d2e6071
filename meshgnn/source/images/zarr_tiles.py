"""Chunks of Zarr arrays read without the zarr package: its Python costs several times what their decompression takes.

Zarr 2 (https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html) and Zarr 3 with the sharding codec
(https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/): one image plane, plain bytes, one
compressor. Whatever else an array asks for is left to the zarr package.
"""

import json
import os
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.source.plain_tiles import PlainTiles, decompressor
from meshgnn.source.section_image import LARGEST

_NONE = (1 << 64) - 1  # offset and size of an inner chunk that is not there
_COMPRESSORS = ("zstd", "gzip", "zlib", "blosc")


class ZarrTiles:
    """The chunks of one array whose last two axes are y and x, all others of length 1.

    Args:
        folder: of the array.
        shape: rows and columns.
        tiles: how a chunk (an inner one, where they lie in shards) is decoded.
        fill: value of chunks that are not there.
        names: start, separator and number of leading axes of the files' names.
        shard: rows and columns of a shard; None where chunks are files.
        index_end, index_crc: where a shard's index stands, and whether four bytes of checksum follow it.
    """

    def __init__(
        self, folder: Path, shape: tuple[int, int], tiles: PlainTiles, fill: float, names: tuple[str, str, int],
        shard: tuple[int, int] | None = None, index_end: bool = True, index_crc: bool = False,
    ) -> None:  # fmt: skip
        self.folder, self.shape, self.tiles, self.fill, self.names = folder, shape, tiles, fill, names
        self.shard, self.index_end, self.index_crc = shard, index_end, index_crc
        self.dtype = tiles.dtype.newbyteorder("=")
        self._indices: dict[tuple[int, int], NDArray[np.uint64] | None] = {}

    def tile(self, down: int, across: int) -> NDArray[Any]:
        """Pixels of a chunk, cropped to the array.

        Raises:
            OSError: a file that cannot be read.
            ValueError: bytes that cannot be decoded.
        """
        tall, wide = self.tiles.shape
        rows, columns = min(tall, self.shape[0] - down * tall), min(wide, self.shape[1] - across * wide)
        data = self._whole(down, across) if self.shard is None else self._inner(down, across, self.shard)
        if data is None:
            return np.full((rows, columns), self.fill, self.dtype)
        return self.tiles.decode(data, rows, columns)

    def _path(self, down: int, across: int) -> Path:
        start, separator, leading = self.names
        name = separator.join(["0"] * leading + [str(down), str(across)])
        return self.folder / (f"{start}{separator}{name}" if start else name)

    def _whole(self, down: int, across: int) -> bytes | None:
        try:
            return self._path(down, across).read_bytes()
        except FileNotFoundError:
            return None

    def _inner(self, down: int, across: int, shard: tuple[int, int]) -> bytes | None:
        many = shard[0] // self.tiles.shape[0], shard[1] // self.tiles.shape[1]
        place = down // many[0], across // many[1]
        if place in self._indices and self._indices[place] is None:
            return None
        try:
            handle = os.open(self._path(*place), os.O_RDONLY)
        except FileNotFoundError:
            self._indices[place] = None
            return None
        try:
            index = self._indices.get(place)
            if index is None:
                index = self._indices[place] = self._index(handle, prod(many))
            offset, size = (int(value) for value in index[down % many[0] * many[1] + across % many[1]])
            if offset == size == _NONE:
                return None
            if size > LARGEST // 16:
                raise ValueError(f"a chunk of {size} bytes")
            data = os.pread(handle, size, offset)
            if len(data) < size:
                raise ValueError("a shard that is cut short")
            return data
        finally:
            os.close(handle)

    def _index(self, handle: int, count: int) -> NDArray[np.uint64]:
        size = 16 * count + 4 * self.index_crc
        first = os.fstat(handle).st_size - size if self.index_end else 0
        data = os.pread(handle, size, first) if first >= 0 else b""
        if len(data) < size:
            raise ValueError("a shard without a whole index")
        if self.index_crc and crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
            raise ValueError("a shard whose index does not fit its checksum")
        return np.frombuffer(data, "<u8", 2 * count).reshape(count, 2)


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, RFC 3720 appendix B.4) of some bytes."""
    table = _TABLE or _fill()
    value = 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


_TABLE: list[int] = []


def _fill() -> list[int]:
    found = []
    for number in range(256):
        for _ in range(8):
            number = (number >> 1) ^ (0x82F63B78 if number & 1 else 0)
        found.append(number)
    _TABLE[:] = found
    return found


def open_tiles(folder: Path, yx: tuple[int, int]) -> ZarrTiles | None:
    """The chunks of an array; None where the zarr package is needed to read it.

    Args:
        folder: of the array.
        yx: axes of rows and columns.
    """
    try:
        if (folder / "zarr.json").is_file():
            return _version_3(folder, json.loads((folder / "zarr.json").read_text(encoding="utf-8")), yx)
        return _version_2(folder, json.loads((folder / ".zarray").read_text(encoding="utf-8")), yx)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None


def _flat(shape: list[int], chunks: list[int], yx: tuple[int, int]) -> bool:
    """Rows and columns are the last axes, and the others have length 1."""
    axes = len(shape)
    return yx == (axes - 2, axes - 1) and prod(shape[:-2]) == prod(chunks[:-2]) == 1 and min(shape + chunks) > 0


def _version_2(folder: Path, about: Mapping[str, Any], yx: tuple[int, int]) -> ZarrTiles | None:
    shape, chunks, compressor = list(about["shape"]), list(about["chunks"]), about["compressor"]
    name = "none" if compressor is None else compressor["id"]
    if about["order"] != "C" or about["filters"] or name not in ("none", *_COMPRESSORS):
        return None
    decompress = decompressor(name)
    if decompress is None or not _flat(shape, chunks, yx):
        return None
    tiles = PlainTiles(decompress, (chunks[-2], chunks[-1]), np.dtype(about["dtype"]))
    names = ("", str(about.get("dimension_separator", ".")), len(shape) - 2)
    return ZarrTiles(folder, (shape[-2], shape[-1]), tiles, _number(about["fill_value"]), names)


def _version_3(folder: Path, about: Mapping[str, Any], yx: tuple[int, int]) -> ZarrTiles | None:
    shape, codecs = list(about["shape"]), list(about["codecs"])
    chunks = list(about["chunk_grid"]["configuration"]["chunk_shape"])
    if about["chunk_grid"]["name"] != "regular" or about.get("storage_transformers") or not _flat(shape, chunks, yx):
        return None
    naming = about["chunk_key_encoding"]
    separator = (naming.get("configuration") or {}).get("separator", "/" if naming["name"] == "default" else ".")
    if naming["name"] not in ("default", "v2"):
        return None
    more: dict[str, Any] = {}
    inner = chunks
    if codecs[0]["name"] == "sharding_indexed":
        settings = codecs[0]["configuration"]
        inner = list(settings["chunk_shape"])
        index = [one["name"] for one in settings["index_codecs"]]
        endian = settings["index_codecs"][0].get("configuration", {}).get("endian", "little")
        whole = all(n % m == 0 for n, m in zip(chunks, inner))
        if len(codecs) != 1 or index not in (["bytes"], ["bytes", "crc32c"]) or endian != "little" or not whole:
            return None
        more = {
            "shard": (chunks[-2], chunks[-1]), "index_end": settings.get("index_location", "end") == "end",
            "index_crc": len(index) == 2,
        }  # fmt: skip
        codecs = list(settings["codecs"])
    if codecs[0]["name"] != "bytes" or len(codecs) > 2 or not _flat(shape, inner, yx):
        return None
    name = codecs[1]["name"] if len(codecs) == 2 else "none"
    decompress = decompressor(name) if name in ("none", "zstd", "gzip", "blosc") else None
    if decompress is None:
        return None
    endian = (codecs[0].get("configuration") or {}).get("endian", "little")
    kind = np.dtype(about["data_type"]).newbyteorder("<" if endian == "little" else ">")
    tiles = PlainTiles(decompress, (inner[-2], inner[-1]), kind)
    names = ("c" if naming["name"] == "default" else "", separator, len(shape) - 2)
    return ZarrTiles(folder, (shape[-2], shape[-1]), tiles, _number(about["fill_value"]), names, **more)


def _number(fill: Any) -> float:
    return 0.0 if fill is None else float(fill)  # "NaN" and "Infinity" are words that float knows

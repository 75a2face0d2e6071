"""Tiled images with pyramids, written strip by strip: BigTIFF with SubIFDs, and sharded OME-Zarr 0.5 (Zarr 3).

Level k holds means of 2 x 2 pixels of level k - 1, rounded. A whole level is never in memory.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.resample import block_means
from meshgnn.source.images.zarr_tiles import crc32c
from meshgnn.store import write_json, written_aside

Rows = Callable[[int, int], NDArray[Any]]  # first and last row -> pixels [rows, columns]


def pyramid_shapes(shape: tuple[int, int], tile: int) -> list[tuple[int, int]]:
    """Sizes of all levels, halved (rounded up) until one tile holds a level."""
    found = [shape]
    while max(found[-1]) > tile:
        found.append((-(-found[-1][0] // 2), -(-found[-1][1] // 2)))
    return found


def halved(pixels: NDArray[Any]) -> NDArray[Any]:
    """Means of 2 x 2 pixels, rounded for whole numbers; the last, partial ones over what there is."""
    out = np.empty((-(-pixels.shape[0] // 2), -(-pixels.shape[1] // 2)), np.float32)
    block_means(np.ascontiguousarray(pixels), 2, out)
    return (np.rint(out) if pixels.dtype.kind == "u" else out).astype(pixels.dtype)


def write_tiff_pyramid(
    path: Path, rows: Rows, shape: tuple[int, int], kind: np.dtype[Any], pixel_um: float, tile: int,
    told: Callable[[int], None],
) -> None:  # fmt: skip
    """A BigTIFF of zstd tiles. Smaller levels wait in a file beside it (a third of the pixels) until their turn.

    Args:
        path: of the file, written aside.
        rows: the image.
        shape, kind: of the image.
        pixel_um: width of a pixel.
        tile: side of a tile.
        told: called with the number of rows of level 0 that are done.
    """
    import imagecodecs
    import tifffile

    shapes = pyramid_shapes(shape, tile)
    with written_aside(path) as aside, tempfile.TemporaryDirectory(prefix=".levels-", dir=path.parent) as folder:
        below = [
            np.memmap(Path(folder) / f"{k}", kind, "w+", shape=size) for k, size in enumerate(shapes[1:], 1)
        ]  # fmt: skip

        def tiles(level: int) -> Iterator[bytes]:
            (tall, wide), source = shapes[level], rows if level == 0 else None
            for first in range(0, tall, tile):
                last = min(first + tile, tall)
                strip = source(first, last) if source is not None else np.asarray(below[level - 1][first:last])
                if level < len(below):
                    below[level][first // 2 : -(-last // 2)] = halved(strip)
                for left in range(0, wide, tile):
                    piece = np.zeros((tile, tile), kind)
                    part = strip[:, left : left + tile]
                    piece[: part.shape[0], : part.shape[1]] = part
                    yield bytes(imagecodecs.zstd_encode(piece.tobytes(), level=3))
                if level == 0:
                    told(last)

        with tifffile.TiffWriter(aside, bigtiff=True) as file:
            for level, size in enumerate(shapes):
                per_cm = 1e4 / (pixel_um * 2**level)
                file.write(
                    tiles(level), shape=size, dtype=kind, tile=(tile, tile), compression="zstd",
                    photometric="minisblack", resolution=(per_cm, per_cm), resolutionunit="CENTIMETER", metadata=None,
                    software="meshgnn", subifds=len(shapes) - 1 if level == 0 and len(shapes) > 1 else None,
                    subfiletype=1 if level else 0,
                )  # fmt: skip


def write_zarr_pyramid(
    path: Path, rows: Rows, shape: tuple[int, int], kind: np.dtype[Any], pixel_um: float, tile: int,
    told: Callable[[int], None], shard: int = 8,
) -> None:  # fmt: skip
    """An OME-Zarr 0.5 folder: shards of `shard` x `shard` zstd chunks. Its metadata are written last.

    Every shard is written once and atomically: one that is there already, of a conversion that was killed, is kept.
    Args: see `write_tiff_pyramid`.
    """
    shapes = pyramid_shapes(shape, tile)
    side = tile * shard
    for level, size in enumerate(shapes):
        folder = path / str(level)
        before = None if level == 0 else _Level(path / str(level - 1), shapes[level - 1], tile, shard, kind)
        for down in range(-(-size[0] // side)):
            names = [folder / "c" / str(down) / str(k) for k in range(-(-size[1] // side))]
            last = min((down + 1) * side, size[0])
            if not all(name.is_file() for name in names):
                if before is None:
                    strip = rows(down * side, last)
                else:
                    strip = halved(before.rows(2 * down * side, min(2 * last, before.shape[0])))
                for across, name in enumerate(names):
                    with written_aside(name) as aside:
                        aside.write_bytes(_shard(strip[:, across * side : (across + 1) * side], tile, shard))
            if level == 0:
                told(last)
        write_json(folder / "zarr.json", _array(size, kind, tile, side))
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    datasets = [
        {"path": str(k), "coordinateTransformations": [
            {"type": "scale", "scale": [pixel_um * 2**k] * 2},
            {"type": "translation", "translation": [pixel_um * (2**k - 1) / 2] * 2},
        ]} for k in range(len(shapes))
    ]  # fmt: skip
    ome = {"version": "0.5", "multiscales": [{"name": path.name, "axes": axes, "datasets": datasets}]}
    write_json(path / "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}})


class _Level:
    """A level that is written already."""

    def __init__(self, folder: Path, shape: tuple[int, int], tile: int, shard: int, kind: np.dtype[Any]) -> None:
        from meshgnn.source.images.zarr_tiles import ZarrTiles
        from meshgnn.source.plain_tiles import PlainTiles, decompressor

        zstd = decompressor("zstd")
        assert zstd is not None  # imagecodecs has it
        tiles = PlainTiles(zstd, (tile, tile), kind.newbyteorder("<"))
        self.shape, self.tile = shape, tile
        self.tiles = ZarrTiles(folder, shape, tiles, 0, ("c", "/", 0), shard=(tile * shard,) * 2, index_crc=True)

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Rows from a border of tiles on."""
        return np.concatenate([
            np.concatenate([self.tiles.tile(down, across) for across in range(-(-self.shape[1] // self.tile))], axis=1)
            for down in range(first // self.tile, -(-last // self.tile))
        ])[: last - first]  # fmt: skip


def _shard(pixels: NDArray[Any], tile: int, shard: int) -> bytes:
    """Chunks one after another, then offset and size of each, then the checksum of that index."""
    import imagecodecs

    index = np.full((shard * shard, 2), (1 << 64) - 1, "<u8")
    parts: list[bytes] = []
    place = 0
    for down in range(-(-pixels.shape[0] // tile)):
        for across in range(-(-pixels.shape[1] // tile)):
            piece = np.zeros((tile, tile), pixels.dtype.newbyteorder("<"))
            part = pixels[down * tile : (down + 1) * tile, across * tile : (across + 1) * tile]
            piece[: part.shape[0], : part.shape[1]] = part
            parts.append(bytes(imagecodecs.zstd_encode(piece.tobytes(), level=3)))
            index[down * shard + across] = place, len(parts[-1])
            place += len(parts[-1])
    told = index.tobytes()
    return b"".join([*parts, told, crc32c(told).to_bytes(4, "little")])


def _array(size: tuple[int, int], kind: np.dtype[Any], tile: int, side: int) -> dict[str, Any]:
    plain = {"name": "bytes", "configuration": {"endian": "little"}}
    inner = [plain, {"name": "zstd", "configuration": {"level": 3, "checksum": False}}]
    sharding = {
        "chunk_shape": [tile, tile], "codecs": inner, "index_codecs": [plain, {"name": "crc32c"}],
        "index_location": "end",
    }  # fmt: skip
    return json.loads(json.dumps({
        "zarr_format": 3, "node_type": "array", "shape": list(size), "data_type": kind.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [side, side]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0, "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "dimension_names": ["y", "x"], "attributes": {},
    }))  # fmt: skip

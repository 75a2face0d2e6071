"""Writes runs into a store; `features.subject_data.run_store` tells what its files hold, and reads them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from imagecodecs import zstd_encode
from numpy.typing import NDArray

from features.subject_data.packed_file import PackedWriter, write_packed
from features.subject_data.run_store import COLUMNS, MAGIC, SCHEMA, RunStore, digest_of
from features.subject_data.volume_store import Grid
from meshgnn.errors import InputError
from meshgnn.store import FORMAT, write_json

LEVEL = 1  # of zstd: higher ones make noise like that of a run no smaller, and slower to unpack


class RunWriter(PackedWriter):
    """Fills a store; whatever it finished stays when it is killed."""

    magic = MAGIC

    def __init__(self, folder: Path, grid: Grid, settings: Mapping[str, Any], chunk: int = 5) -> None:
        """
        Args:
            folder: of the store.
            grid: of all runs; its kind is float16.
            settings: JSON-ready, how they were made; kept in store.json.
            chunk: frames in a chunk.
        """
        if grid.kind != "float16":
            raise InputError(f"a store of runs keeps float16, not {grid.kind}")
        self.folder, self.grid, self.settings, self.chunk = Path(folder), grid, dict(settings), chunk

    def _path(self, name: str) -> Path:
        return self.folder / "runs" / f"{name}.run"

    def _same(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **self.grid.plain(), "chunk": self.chunk}

    def add(
        self, name: str, series: NDArray[np.float32], mask: NDArray[np.bool_], tr_s: float, key: str, content: str = ""
    ) -> None:
        """Keep the run of subject `name`.

        Args:
            series: [T, V] values of the mask's voxels, in C order.
            mask: [X, Y, Z] with V voxels.
            tr_s: time between frames.
            key: hash of the settings and files that made it; see `has`.
            content: hash of the run itself: two subjects that share it are one under two names.

        Raises:
            InputError: sizes that do not fit, no voxel, values that are not finite, none that changes.
        """
        count = int(mask.sum())
        if mask.shape != self.grid.shape or series.shape != (len(series), count) or not count or len(series) < 2:
            raise InputError(f"{name}: series {series.shape} of a mask {mask.shape} of {count} voxels cannot be kept")
        if not np.isfinite(series).all() or not tr_s > 0:
            raise InputError(f"{name}: needs finite values, and a time between frames")
        (self.folder / "store.json").unlink(missing_ok=True)  # what it says is true no longer
        mean = series.mean(0, dtype=np.float64)
        spread = np.sqrt(np.maximum(_mean_square(series, mean), 0))
        spread[spread <= 1e-6 * np.abs(mean)] = 0  # rounding of single precision is no signal
        whole = float(np.sqrt((spread**2 + (mean - mean.mean()) ** 2).mean()))
        if not whole > 0:
            raise InputError(f"{name}: all values are alike; there is nothing to keep")
        box = _box(mask)
        blocks = [
            bytes(zstd_encode(np.packbits(mask[box]).tobytes(), LEVEL)),
            bytes(zstd_encode(np.stack([mean, spread]).astype(np.float32).tobytes(), LEVEL)),
            *(
                _packed_chunk(series[first : first + self.chunk], mean, spread)
                for first in range(0, len(series), self.chunk)
            ),
        ]
        about = {
            **self._same(),
            "key": key,
            "content": content,
            "box": [[side.start, side.stop] for side in box],
            "voxels": count,
            "frames": len(series),
            "tr_s": float(tr_s),
            "mean": float(mean.mean()),
            "sd": whole,
            "smallest": float(series.min()),
        }
        write_packed(self._path(name), MAGIC, about, blocks)

    def finish(self, names: Sequence[str]) -> "RunStore":
        """Write the index of these subjects, in this order, and open the store.

        Raises:
            InputError: nobody, somebody twice, or somebody whose run is not there.
        """
        headers = self._headers(names)
        about = {
            "format": FORMAT,
            "record": "RunStore",
            **self._same(),
            "settings": self.settings,
            "ids": list(names),
            "contents": [header["content"] for header in headers],
            "digests": [digest_of(header) for header in headers],
            **{column: [header[column] for header in headers] for column in COLUMNS},
        }
        write_json(self.folder / "store.json", about)
        return RunStore(self.folder)


def _box(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """The smallest box that holds the mask."""
    sides = []
    for axis in range(3):
        there = np.flatnonzero(mask.any(tuple(other for other in range(3) if other != axis)))
        sides.append(slice(int(there[0]), int(there[-1]) + 1))
    x, y, z = sides
    return x, y, z


def _mean_square(series: NDArray[np.float32], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """[V] mean squared deviation, frame by frame: no copy of the run in double precision is made."""
    total = np.zeros(len(mean))
    for frame in series:
        total += (frame - mean) ** 2
    return total / len(series)


def _packed_chunk(series: NDArray[np.float32], mean: NDArray[np.float64], spread: NDArray[np.float64]) -> bytes:
    """Frames [n, V] as compressed bytes [2, V, n]: low bytes of all half-precision numbers, then high ones."""
    scaled = np.where(spread > 0, (series - mean) / np.where(spread > 0, spread, 1), 0).astype("<f2")
    pairs = np.ascontiguousarray(scaled.T).view(np.uint8).reshape(-1, 2)
    return bytes(zstd_encode(np.ascontiguousarray(pairs.T).tobytes(), LEVEL))

"""Runs of many subjects, volumes over time on one grid, for reading short windows at random.

    STORE/store.json     ids, shape, affine, TR, numbers of frames, moments, settings of the conversion
    STORE/runs/ID.run    a header and the blocks of one run: mask, mean and deviation of every voxel, chunks of frames

There is one file per run, however long it is. Of every frame the voxels of the run's mask are kept, in the order of the
mask's bounding box, as half-precision numbers of deviations from the voxel's own mean, in its own standard deviations
over the run: the signal of fMRI is some per cent of the voxel's mean, and would lose its last digits if the sum of both
were halved. A chunk holds a few frames, voxel after voxel, low bytes first, then high ones, which zstd packs better and
unpacks faster than pairs. A window is read from the chunks that it lies in. Files are written aside and renamed,
store.json last: a store that can be opened is complete, and a killed conversion finds its finished runs again.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numba
import numpy as np
from imagecodecs import zstd_decode
from numpy.typing import NDArray

from features.subject_data.chunks import checksum, unpack_into
from features.subject_data.packed_file import packed_header
from features.subject_data.volume_store import Grid
from meshgnn.errors import InputError
from meshgnn.mesh.record import frozen
from meshgnn.store import FORMAT, content_hash, read_json

SCHEMA = 1  # of a run's file: whoever writes and whoever reads it share this number
MAGIC = b"MESHRUN1"
BLOCK = 128  # voxels whose numbers are turned into single precision at a time, in the nearest cache
KEPT = 32  # opened runs whose places and moments stay in memory
UP = np.float32(2.0**112)  # see `_moved_bits`
COLUMNS = ("frames", "tr_s", "mean", "sd", "smallest")  # of every run in store.json
Scale = Literal["values", "global", "voxel"]


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class _Opened:
    """What is needed of a run's file to read frames: places [V] of its voxels on the grid, their mean and deviation
    [V], and where its chunks lie."""

    voxels: NDArray[np.int64]
    mean: NDArray[np.float32]
    spread: NDArray[np.float32]
    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    crcs: tuple[int, ...]


class RunStore:
    """Reads windows of the runs of a store."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            InputError: no store, an unfinished or a damaged one, or one of another schema.
        """
        self.folder = folder = Path(folder)
        if not (folder / "store.json").is_file():
            begun = (folder / "runs").is_dir()
            state = "its conversion is not finished; the same command goes on" if begun else "no store of runs"
            raise InputError(f"{folder}: {state} (python -m features.runs makes one)")
        about = read_json(folder / "store.json")
        if not isinstance(about, dict) or about.get("record") != "RunStore" or about.get("format") != FORMAT:
            raise InputError(f"{folder}: not a store of runs of format {FORMAT}")
        if about.get("schema") != SCHEMA:
            raise InputError(f"{folder}: is of schema {about.get('schema')}, this reads {SCHEMA}; convert it again")
        try:
            x, y, z = (int(side) for side in about["shape"])
            self.grid = Grid(
                shape=(x, y, z), affine=np.array(about["affine"], np.float64), kind="float16",
                modality=str(about["modality"]),
            )  # fmt: skip
            self.chunk = int(about["chunk"])
            self.ids: tuple[str, ...] = tuple(map(str, about["ids"]))
            self.contents: tuple[str, ...] = tuple(map(str, about["contents"]))
            self.settings: Mapping[str, Any] = about["settings"]
            self._digests: tuple[str, ...] = tuple(map(str, about["digests"]))
            columns = {name: np.array(about[name], np.float64) for name in COLUMNS}
            wrong = [name for name in self.ids if "/" in name or not name.startswith("sub-")]
            if (
                wrong
                or len(set(self.ids)) != len(self.ids)
                or self.chunk < 1
                or not np.isfinite(list(columns.values())).all()
            ):
                raise ValueError("ids or moments")
            lengths = {len(self.ids), len(self.contents), len(self._digests), *map(len, columns.values())}
            if len(lengths) != 1:
                raise ValueError("lengths")
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{folder}: store.json is damaged ({error}); convert it again") from None
        self.frames: NDArray[np.int64] = frozen(columns["frames"], np.int64)  # type: ignore[assignment]
        self.tr_s, self.mean, self.sd, self.smallest = (
            np.asarray(frozen(columns[name], np.float64)) for name in COLUMNS[1:]
        )
        self.row_of: Mapping[str, int] = {name: row for row, name in enumerate(self.ids)}
        self._opened = lru_cache(maxsize=KEPT)(self._open)
        self._placed = lru_cache(maxsize=KEPT)(self._place)
        self._own = threading.local()

    def __len__(self) -> int:
        return len(self.ids)

    def mask(self, row: int) -> NDArray[np.bool_]:
        """[X, Y, Z] voxels of a run that hold something."""
        out = np.zeros(self.grid.shape, bool)
        out.reshape(-1)[self._opened(row).voxels] = True
        return out

    def voxel_moments(self, row: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean [V] and standard deviation [V] over the run of the mask's voxels, in C order."""
        opened = self._opened(row)
        return opened.mean, opened.spread

    def background(self, row: int, scale: Scale) -> float:
        """What stands outside the mask: the smallest value of the run (0 where each voxel is scaled by itself)."""
        if scale == "voxel":
            return 0.0
        smallest = float(self.smallest[row])
        return smallest if scale == "values" else float((smallest - self.mean[row]) / self.sd[row])

    def outside(self, row: int, size: tuple[int, int, int]) -> float:
        """Share of the mask's voxels that lie outside a centred grid of this size."""
        return float((self._placed(row, size) < 0).mean())

    def read(
        self, row: int, start: int, frames: int, *, scale: Scale = "values", size: tuple[int, int, int] | None = None
    ) -> NDArray[np.float32]:
        """A window [X, Y, Z, frames]; see `read_into`."""
        out = np.empty((1, *(size or self.grid.shape), frames), np.float32)
        self.read_into(row, start, out, (scale,))
        return out[0]

    def read_into(self, row: int, start: int, out: NDArray[np.float32], scales: Sequence[Scale]) -> None:
        """Frames `start`, `start` + 1, ... of a run, once for each scale.

        Args:
            row: number of the subject.
            start: first frame.
            out: [len(scales), X, Y, Z, T] C-contiguous float32. Its grid has the store's centre: what is larger is
                padded with the background, what is smaller is cut off.
            scales: values: as measured; global: (value - mean) / sd over all voxels of the run's mask and all frames;
                voxel: by each voxel's own mean and standard deviation over the run, 0 where it does not change.

        Raises:
            InputError: the run has no such frames; its file is missing or damaged.
        """
        if out.ndim != 5 or len(out) != len(scales) or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise ValueError("out must be C-contiguous float32 [scales, X, Y, Z, T]")
        if any(scale not in get_args(Scale) for scale in scales):
            raise ValueError(f"scales are {get_args(Scale)}, got {scales}")
        stop = start + out.shape[4]
        if not 0 <= start < stop <= self.frames[row]:
            raise InputError(f"{self.ids[row]}: has {self.frames[row]} frames; {start} to {stop - 1} were asked for")
        opened = self._opened(row)
        packed, firsts, counts = self._numbers(row, opened, start, stop)
        lines = [self._line(row, opened, scale) for scale in scales]
        factors, shifts = np.stack([one[0] for one in lines]), np.stack([one[1] for one in lines])
        background = np.array([self.background(row, scale) for scale in scales], np.float32)
        flat = out.reshape(len(scales), -1, out.shape[4])
        place = self._placed(row, out.shape[1:4])
        _write(packed, firsts, counts, start, place, factors, shifts, background, self._scratch(len(counts)), flat)

    def _line(self, row: int, opened: _Opened, scale: Scale) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Factor [V] and shift [V] from stored numbers to values of a scale."""
        if scale == "voxel":
            return _ones(len(opened.mean)), _zeros(len(opened.mean))
        if scale == "values":
            return opened.spread, opened.mean
        sd = np.float32(self.sd[row])
        return opened.spread / sd, (opened.mean - np.float32(self.mean[row])) / sd

    def _numbers(
        self, row: int, opened: _Opened, start: int, stop: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        """Bytes [2, V, n] of every chunk that frames `start` to `stop` lie in, end to end; first frame and number of
        frames of each."""
        path = self.folder / "runs" / f"{self.ids[row]}.run"
        wanted = range(start // self.chunk, (stop - 1) // self.chunk + 1)
        begin = opened.starts[wanted[0]]
        view: Any = self._buffer("file", opened.starts[wanted[-1]] + opened.sizes[wanted[-1]] - begin)
        try:
            with open(path, "rb", buffering=0) as handle:
                handle.seek(begin)
                held = handle.readinto(view)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        view = view[:held]
        firsts = np.array(wanted, np.int64) * self.chunk
        counts = np.minimum(self.chunk, int(self.frames[row]) - firsts)
        ends = 2 * len(opened.voxels) * np.cumsum(counts)
        packed = self._buffer("numbers", int(ends[-1]))
        for number, last, count in zip(wanted, ends.tolist(), counts.tolist()):
            own, place = packed[last - 2 * len(opened.voxels) * count : last], opened.starts[number] - begin
            unpack_into(view[place : place + opened.sizes[number]], opened.crcs[number], own, str(path))
        return packed, firsts, counts

    def _scratch(self, chunks: int) -> NDArray[np.uint32]:
        """Memory of this thread for the numbers of a block of voxels, as single precision."""
        return self._buffer("block", 4 * chunks * BLOCK * self.chunk).view(np.uint32).reshape(chunks, -1)

    def _buffer(self, name: str, size: int) -> NDArray[np.uint8]:
        """Memory of this thread that is used again: taking it anew for every window costs as much as reading."""
        kept = getattr(self._own, name, None)
        if kept is None or len(kept) < size:
            kept = np.empty(size, np.uint8)
            setattr(self._own, name, kept)
        return kept[:size]

    def _open(self, row: int) -> _Opened:
        path = self.folder / "runs" / f"{self.ids[row]}.run"
        header = packed_header(path, MAGIC)
        try:
            if header is None or digest_of(header) != self._digests[row]:
                raise ValueError
            sizes, crcs = tuple(map(int, header["sizes"])), tuple(map(int, header["crcs"]))
            starts = tuple((int(header["start"]) + np.cumsum((0, *sizes))[:-1]).tolist())
            with path.open("rb") as handle:
                handle.seek(starts[0])
                blocks = [handle.read(size) for size in sizes[:2]]
            if [checksum(block) for block in blocks] != list(crcs[:2]):
                raise ValueError
            sides = [slice(*side) for side in header["box"]]
            inside = [side.stop - side.start for side in sides]
            bits = np.frombuffer(zstd_decode(blocks[0]), np.uint8)
            held = np.unpackbits(bits, count=int(np.prod(inside))).reshape(inside).astype(bool)
            mask = np.zeros(self.grid.shape, bool)
            mask[tuple(sides)] = held
            mean, spread = np.frombuffer(zstd_decode(blocks[1]), np.float32).reshape(2, -1)
            voxels = np.flatnonzero(mask)
            chunks = -(-int(self.frames[row]) // self.chunk)
            if len(voxels) != len(mean) or len(sizes) != 2 + chunks:
                raise ValueError
        except (OSError, KeyError, TypeError, ValueError, RuntimeError):
            raise InputError(f"{path}: is not there, damaged, or not what store.json tells; convert it again") from None
        return _Opened(voxels=voxels, mean=mean, spread=spread, starts=starts[2:], sizes=sizes[2:], crcs=crcs[2:])

    def _place(self, row: int, size: tuple[int, int, int]) -> NDArray[np.int64]:
        """Where the voxels [V] of a run lie on a centred grid, ascending; -1 outside."""
        at = np.stack(np.unravel_index(self._opened(row).voxels, self.grid.shape))
        at += np.array([margins(old, new)[0] for old, new in zip(self.grid.shape, size)])[:, None]
        inside = ((at >= 0) & (at < np.array(size)[:, None])).all(0)
        place = np.full(at.shape[1], -1, np.int64)
        place[inside] = np.ravel_multi_index(tuple(at[:, inside]), size)
        return place

    def key(self) -> str:
        """Hash of everything that decides the values."""
        return content_hash(SCHEMA, self.grid.plain(), self.ids, self._digests)


def margins(old: int, new: int) -> tuple[int, int]:
    """Voxels to add before and behind `old` of them so that they become `new`; negative ones are cut off. The odd one
    comes before, so that cutting undoes adding."""
    before = -(-abs(new - old) // 2) * (1 if new > old else -1)
    return before, new - old - before


def digest_of(header: Mapping[str, Any]) -> str:
    """Hash of what a run's file holds, by its header."""
    return content_hash(header["crcs"], header["box"], *(header[column] for column in COLUMNS))


@lru_cache(maxsize=4)
def _ones(count: int) -> NDArray[np.float32]:
    return np.ones(count, np.float32)


@lru_cache(maxsize=4)
def _zeros(count: int) -> NDArray[np.float32]:
    return np.zeros(count, np.float32)


@numba.njit(cache=True, nogil=True)
def _moved_bits(low, high, bits):  # pragma: no cover
    # The exponent and fraction of a half, moved to their places in a single, are its value times 2^-112.
    for k in range(low.size):
        one, two = np.uint32(high[k]), np.uint32(low[k])
        number = ((one & np.uint32(0x7F)) << np.uint32(21)) | (two << np.uint32(13))
        bits[k] = number | ((one & np.uint32(0x80)) << np.uint32(24))


@numba.njit(cache=True, nogil=True)
def _write(  # pragma: no cover
    packed, firsts, counts, start, place, factors, shifts, background, bits, out
):
    # Once through the grid, row by row of frames, since what is written is several times what is read.
    channels, cells, frames = out.shape
    voxels, stride, done = place.size, bits.shape[1], 0
    values, flat = bits.view(np.float32).reshape(-1), out.reshape(-1)  # unsigned places in them need no check of sign
    for begin in range(0, voxels, BLOCK):
        end = min(begin + BLOCK, voxels)
        at = 0
        for c in range(counts.size):
            n = counts[c]
            low, high = at + begin * n, at + (voxels + begin) * n
            size = (end - begin) * n
            _moved_bits(packed[low : low + size], packed[high : high + size], bits[c, :size])
            at += 2 * voxels * n
        for v in range(begin, end):
            cell = place[v]
            if cell < 0:
                continue
            for channel in range(channels):
                out[channel, done:cell] = background[channel]
                for c in range(counts.size):
                    first, last = max(firsts[c], start), min(firsts[c] + counts[c], start + frames)
                    source = np.uintp(c * stride + (v - begin) * counts[c] + first - firsts[c])
                    target = np.uintp((channel * cells + cell) * frames + first - start)
                    factor, shift = factors[channel, v], shifts[channel, v]
                    for k in range(np.uintp(last - first)):
                        flat[target + k] = values[source + k] * UP * factor + shift
            done = cell + 1
    for channel in range(channels):
        out[channel, done:cells] = background[channel]

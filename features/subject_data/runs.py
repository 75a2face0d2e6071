"""Windows of subjects' runs as items [C, X, Y, Z, T]."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from features.subject_data.bad_subjects import Policy
from features.subject_data.held_items import FoundItems
from features.subject_data.joining import Keep, joined, wanted
from features.subject_data.reused_memory import ReusedMemory
from features.subject_data.run_store import RunStore, Scale
from features.subject_data.windows import Windows
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.source.participant_table import Participants
from meshgnn.store import content_hash

CHANNELS: dict[int, tuple[Scale, ...]] = {1: ("global",), 2: ("global", "voxel")}


class SubjectRuns(FoundItems):
    """Items [C, X, Y, Z, T] float32 of subjects whose runs lie in a store; a `meshgnn.sockets.WindowedItems`.

    Channel 0 is the z-score over all voxels of the run's mask and all its frames, with the smallest of them outside the
    mask; channel 1 the z-score of each voxel over the run, 0 where it does not change and outside the mask
    (arXiv 2112.05761). Both are of the run alone: nothing is learnt from other subjects. Runs that cannot be used are
    named in `bad`.
    """

    kind: ClassVar[str] = "run"

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            store: folder that `python -m features.runs` wrote.
            channels: 1 (global z-score) or 2 (and the z-score of each voxel).
            size: voxels along X, Y and Z (one number for all three) of the grid that frames are padded or cut to, about
                the middle of the store's grid; that grid itself if empty.
            frames: of a window.
            stride: frames from the start of one window to that of the next in evaluation; as many as a window has if 0.
            same_tr: a run of another TR than most is bad; false keeps it.
            bad: leave out subjects whose run is shorter than a window or of another TR than most (they are named in
                `bad`), or refuse.
            keep: who must not be parted: subjects of one family, or of one site.
            threads: that decompress side by side.
        """

        store: Path = Path()
        channels: int = 2
        size: tuple[int, ...] = ()
        frames: int = 20
        stride: int = 0
        same_tr: bool = True
        bad: Policy = "leave_out"
        keep: Keep = "family"
        threads: int = 1

        def __post_init__(self) -> None:
            if self.channels not in CHANNELS:
                raise SettingError("<channels> must be 1 or 2")
            if len(self.size) not in (0, 1, 3) or not all(1 <= side <= 1024 for side in self.size):
                raise SettingError("<size> needs one number or three, from 1 to 1024, or none")
            if self.frames < 1 or self.stride < 0 or self.threads < 1:
                raise SettingError("<frames> and <threads> must be at least 1, <stride> not negative")

        def build(self, participants: Participants, train: NDArray[np.bool_]) -> "SubjectRuns":
            """Raises InputError when the store holds none of the participants, or a bad run where `bad` is refuse."""
            if self.store == Path():
                raise SettingError("<store> names no store of runs; python -m features.runs makes one")
            return SubjectRuns(self, participants, RunStore(self.store))

        def files(self) -> tuple[Path, ...]:
            return (self.store / "store.json",)

        def item_format(self) -> dict[str, Any]:
            """What an item holds; an encoder fits items of one format only."""
            grid = RunStore(self.store).grid if (self.store / "store.json").is_file() else None
            return {
                "channels": list(CHANNELS[self.channels]),
                "frames": self.frames,
                "size": list(self.size) or (list(grid.shape) if grid else []),
                "spacing_mm": list(grid.spacing_mm) if grid else [],
            }

    def __init__(self, config: Config, participants: Participants, store: RunStore) -> None:
        super().__init__()
        self.config, self.store = config, store
        # Kept, since the store keeps the buffers of every thread.
        self._pool = ThreadPoolExecutor(config.threads) if config.threads > 1 else None
        self._memory = ReusedMemory()
        self.windows = Windows(frames=config.frames, stride=config.stride or config.frames)
        size = config.size or store.grid.shape
        x, y, z = size if len(size) == 3 else (*size, *size, *size)
        self._size, self._scales = (x, y, z), CHANNELS[config.channels]
        rows = joined(participants, store.ids, str(store.folder))
        there = rows[rows >= 0]
        times = store.tr_s[there].round(3).tolist()
        self.tr_s = max(dict.fromkeys(times), key=times.count)
        found = [name for name, row in zip(participants.ids, rows.tolist()) if row >= 0 and self._fits(name, row)]
        self._observe(participants, found, config.bad, config.keep, store.folder, "a usable run")
        self._rows = rows
        length = np.where(self.observed, store.frames[rows], 0)
        self.last_start: NDArray[np.int64] = np.where(self.observed, length - config.frames, 0).astype(np.int64)

    def _fits(self, name: str, row: int) -> bool:
        length, tr_s, frames = int(self.store.frames[row]), float(self.store.tr_s[row]), self.config.frames
        if length < frames:
            self._leave(name, "too_short", self.store.folder, f"its run has {length} frames, a window needs {frames}")
        elif self.config.same_tr and abs(tr_s - self.tr_s) > 0.001 * self.tr_s:
            detail = f"its run has a frame every {tr_s:g} s, those of most every {self.tr_s:g} s"
            self._leave(name, "other_tr", self.store.folder, detail)
        else:
            return True
        return False

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self._scales), *self._size, self.config.frames)

    def starts(self, row: int) -> NDArray[np.int64]:
        """[W] Starts that evaluation reads: 0, stride, ..., the same every time."""
        return self.windows.starts(int(self.last_start[row]) + self.config.frames if self.observed[row] else 0)

    def read(self, subjects: NDArray[np.integer]) -> NDArray[np.float32]:
        """The first window of each."""
        return self.read_at(subjects, np.zeros(len(subjects), np.int64))

    def read_at(self, rows: NDArray[np.integer], starts: NDArray[np.integer]) -> NDArray[np.float32]:
        """[B, C, X, Y, Z, T]. Raises InputError for a subject without a run, or a start beyond the last."""
        own = wanted(rows, self.observed, self.kind)
        first = checked_starts(np.asarray(starts, np.int64), self.last_start[own])
        out = self._memory.array((len(own), *self.shape))

        def one(k: int) -> None:
            self.store.read_into(int(self._rows[own[k]]), int(first[k]), out[k], self._scales)

        if self._pool is not None and len(own) > 1:
            list(self._pool.map(one, range(len(own))))
        else:
            for k in range(len(own)):
                one(k)
        return out

    def cut_off(self) -> NDArray[np.float64]:
        """[N] share of each run's voxels that lie outside the grid of the items; 0 for those without a run."""
        shares = [
            self.store.outside(row, self._size) if there else 0.0
            for there, row in zip(self.observed.tolist(), self._rows.tolist())
        ]
        return np.array(shares)

    def key(self) -> str:
        c = self.config
        about = [c.channels, list(self._size), c.frames, self.windows.stride]
        return content_hash(self.store.key(), about, self._rows.tolist(), self.observed.tolist(), self.groups.tolist())


def checked_starts(starts: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
    """The starts. Raises InputError when they are not one for each row, or one is negative or beyond the last."""
    if starts.shape != last.shape:
        raise InputError(f"{len(last)} windows were asked for, with starts {starts.shape}")
    wrong = np.flatnonzero((starts < 0) | (starts > last))
    if len(wrong):
        k = int(wrong[0])
        raise InputError(f"a window was asked for from frame {starts[k]} on; the last of this run starts at {last[k]}")
    return starts

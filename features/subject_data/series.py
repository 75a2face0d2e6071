"""Series of regions of subjects as items [R + 1, T], with a row that says which frames were measured."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from features.subject_data.held_items import FoundItems, check_size
from features.subject_data.joining import wanted
from features.subject_data.runs import checked_starts
from features.subject_data.series_files import SeriesSource, read_cohort
from features.subject_data.windows import Windows
from meshgnn.errors import SettingError
from meshgnn.source.participant_table import Participants
from meshgnn.store import content_hash


class SubjectSeries(FoundItems):
    """Items [R + 1, T] float32 of subjects, a `meshgnn.sockets.WindowedItems`: series of R regions, each with mean 0
    and standard deviation 1 over the run, and last a row that is 1 where a frame was measured and 0 where it is
    padding, so that zeros are not taken for measurements.

    Nothing is learnt from other subjects. Those whose file cannot be used are named in `bad`.
    """

    kind: ClassVar[str] = "series"

    @dataclass(frozen=True, kw_only=True)
    class Config(SeriesSource):
        """
        Args:
            frames: of a window; 0 takes whole runs, padded with 0 at the end to the longest of the cohort.
            stride: frames from the start of one window to that of the next in evaluation; as many as a window has if 0.
        """

        frames: int = 0
        stride: int = 0

        def __post_init__(self) -> None:
            super().__post_init__()
            if min(self.frames, self.stride) < 0 or (self.stride and not self.frames):
                raise SettingError("<frames> and <stride> must not be negative; <stride> goes with <frames>")

        def build(self, participants: Participants, train: NDArray[np.bool_]) -> "SubjectSeries":
            """Raises InputError: nobody has a usable series, or a bad one where `bad` is refuse."""
            return SubjectSeries(self, participants)

        def item_format(self) -> dict[str, Any]:
            """What an item holds; an encoder fits items of one format only."""
            own = {"series": "z-score of the run", "frames": self.frames, "measured": "last row"}
            return own | self.cleaning()

    def __init__(self, config: Config, participants: Participants) -> None:
        super().__init__()
        self.config = config
        found = read_cohort(config, participants, self._leave)
        for name in [name for name, one in found.items() if len(one.values) < config.frames]:
            detail = f"{name}: has {len(found.pop(name).values)} frames, a window needs {config.frames}"
            self._leave(name, "too_short", config.folder, detail)
        self._observe(participants, found, config.bad, config.keep, config.folder, "a usable series")
        series = [found[name] for name in participants.ids if name in found]
        self.regions: tuple[str, ...] = max((one.names for one in series), key=len)
        length = np.zeros(len(participants), np.int64)
        length[self.observed] = [len(one.values) for one in series]
        self.lengths: NDArray[np.int64] = length  # [N] measured frames, 0 for those without a series
        count = series[0].values.shape[1]
        self._frames = config.frames or int(length.max())
        check_size(len(series), (count + 1) * int(length.max()), f"series of {count} regions")
        self._held = [one.standardised().T.astype(np.float32) for one in series]
        self.windows = Windows(frames=self._frames, stride=config.stride or self._frames)
        self.last_start: NDArray[np.int64] = np.maximum(length - self._frames, 0)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self._held[0]) + 1, self._frames)

    def starts(self, row: int) -> NDArray[np.int64]:
        """[W] Starts that evaluation reads, the same every time; the first frame alone where items are whole runs."""
        if not self.observed[row]:
            return np.zeros(0, np.int64)
        return self.windows.starts(max(int(self.lengths[row]), self._frames))

    def read(self, subjects: NDArray[np.integer]) -> NDArray[np.float32]:
        """The first window of each."""
        return self.read_at(subjects, np.zeros(len(subjects), np.int64))

    def read_at(self, rows: NDArray[np.integer], starts: NDArray[np.integer]) -> NDArray[np.float32]:
        """[B, R + 1, T]. Raises InputError for a subject without a series, or a start beyond the last."""
        own = wanted(rows, self.observed, self.kind)
        first = checked_starts(np.asarray(starts, np.int64), self.last_start[own])
        out = np.zeros((len(own), *self.shape), np.float32)
        for k, (row, start) in enumerate(zip(self._row[own].tolist(), first.tolist())):
            part = self._held[row][:, start : start + self._frames]
            out[k, :-1, : part.shape[1]] = part
            out[k, -1, : part.shape[1]] = 1
        return out

    def key(self) -> str:
        digest = sha256()
        for values in self._held:
            digest.update(values.tobytes())
        about = [list(self.shape), self.windows.stride, self.lengths.tolist()]
        return content_hash(digest.hexdigest(), about, self.observed.tolist(), self.groups.tolist())

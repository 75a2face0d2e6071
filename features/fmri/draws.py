"""Which windows of which subjects a step of training sees, and which ones every validation sees."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.subject_data.windows import spread
from meshgnn.errors import InputError
from meshgnn.sockets import WindowedItems


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """N windows.

    Args:
        rows: [N] subjects.
        first: [N] first frames.
        draws: of every window, see `features.objectives.run_objective.RunOutputs`.
    """

    rows: NDArray[np.int64]
    first: NDArray[np.int64]
    draws: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, places: slice) -> "Windows":
        """Those at some places."""
        return Windows(rows=self.rows[places], first=self.first[places], draws=self.draws[places])


class WindowDraws:
    """Draws from (seed, step) alone, so that any step can be drawn first, on any rank.

    Every subject comes once before any comes again, in a new order each time. A window may start at any frame that it
    fits behind; two windows of one subject do not overlap if the run is long enough.

    Args:
        items: windows of runs.
        rows: subjects to draw from.
        frames: of a window; 0 for all that the items have.
        seed: of the training.

    Raises:
        InputError: no subject has a run, or items shorter than the window.
    """

    def __init__(self, items: WindowedItems, rows: NDArray[np.integer], *, frames: int, seed: int) -> None:
        self.items, self.seed = items, abs(seed)
        rows = np.asarray(rows, np.int64)
        self.rows = rows[items.observed[rows]]
        if not len(self.rows):
            raise InputError(f"of {len(rows)} subjects none has a run to learn from")
        length = items.shape[-1]
        self.frames = frames or length
        if self.frames > length:
            raise InputError(f"windows have {length} frames, and {self.frames} are asked for; lower <frames>")
        self.shape = (*items.shape[:-1], self.frames)

    def of_step(self, step: int, count: int, each: int = 1) -> Windows:
        """The windows of a step.

        Args:
            step: from 0.
            count: windows.
            each: of one subject, which follow each other: 1 or 2.
        """
        people = len(self.rows)
        place = np.arange(step * count // each, (step + 1) * count // each)
        orders = {epoch: self._order(epoch) for epoch in np.unique(place // people).tolist()}
        rows = np.array([orders[int(one) // people][int(one) % people] for one in place])
        draws = tuple((self.seed, step, number) for number in range(count))
        last = self.items.last_start[rows] + self.items.shape[-1] - self.frames
        first = [self._first(int(most), each, draws[k * each]) for k, most in enumerate(last)]
        return Windows(rows=np.repeat(rows, each), first=np.concatenate(first), draws=draws)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return self.rows[np.random.default_rng((self.seed, epoch, 0x0D)).permutation(len(self.rows))]

    def _first(self, most: int, each: int, draws: Sequence[int]) -> NDArray[np.int64]:
        rng = np.random.default_rng((*draws, 0xF1))
        if each == 1:
            return rng.integers(0, most + 1, 1)
        if most < self.frames:  # as far apart as they can be
            return rng.permutation(np.array([0, most]))
        gap = int(rng.integers(self.frames, most + 1))
        start = int(rng.integers(0, most - gap + 1))
        return rng.permutation(np.array([start, start + gap]))

    def fixed(self, most: int) -> Windows:
        """The windows of every subject that evaluation reads, the same every time.

        Args:
            most: of a subject, evenly spread over the run; 0 for all.
        """
        rows: list[int] = []
        first: list[int] = []
        for row in self.rows.tolist():
            starts = np.asarray(self.items.starts(row), np.int64)
            starts = starts[spread(len(starts), most)]
            rows += [row] * len(starts)
            first += starts.tolist()
        draws = tuple((self.seed, 0x7A11, number, 1) for number in range(len(rows)))
        return Windows(rows=np.array(rows, np.int64), first=np.array(first, np.int64), draws=draws)

    def number(self) -> int:
        """Of windows that follow one another in all runs together: what an epoch is."""
        length = self.items.last_start[self.rows] + self.items.shape[-1]
        return int((length // self.frames).sum())

    def read(self, windows: Windows) -> Tensor:
        """[N, C, X, Y, Z, F]."""
        starts = np.minimum(windows.first, self.items.last_start[windows.rows])
        found = torch.from_numpy(np.ascontiguousarray(self.items.read_at(windows.rows, starts)))
        if self.frames == found.shape[-1]:
            return found
        offsets = (windows.first - starts).tolist()
        return torch.stack([one[..., offset : offset + self.frames] for one, offset in zip(found, offsets)])

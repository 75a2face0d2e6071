"""Items of subjects that are found in files: who has one, and who is left out and why; and those held in memory."""

from collections.abc import Collection
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from features.subject_data.bad_subjects import BadSubject, Policy, counted
from features.subject_data.joining import Keep, wanted
from meshgnn.errors import InputError
from meshgnn.source.participant_table import Participants
from meshgnn.store import content_hash

MOST_BYTES = 8 << 30


class FoundItems:
    """What `meshgnn.sockets.SubjectData` that are found subject by subject have in common; those with bad files are
    named in `bad`. A class of its own finds them and calls `_observe`.
    """

    kind: ClassVar[str]  # what an item is called when a subject has none
    observed: NDArray[np.bool_]
    groups: NDArray[np.int32]
    _row: NDArray[np.int64]

    def __init__(self) -> None:
        self.bad: list[BadSubject] = []

    def _leave(self, name: str, reason: str, path: Path | str, detail: str) -> None:
        self.bad.append(BadSubject(name=name, reason=reason, file=str(path), detail=detail))

    def _observe(
        self, participants: Participants, found: Collection[str], policy: Policy, keep: Keep, where: Path, what: str
    ) -> None:
        """Say who has an item.

        Args:
            found: names of those who have.
            policy, keep: of the config.
            where, what: the place that was looked at, and for what, in words.

        Raises:
            InputError: bad subjects where the policy is to refuse, or nobody has an item.
        """
        if self.bad and policy == "refuse":
            raise InputError(f"{counted(self.bad)}; the first is {self.bad[0].name}: {self.bad[0].detail}")
        if not found:
            why = f"; {counted(self.bad)}: {self.bad[0].detail}" if self.bad else ""
            raise InputError(f"{where}: no participant has {what}{why}")
        self.observed = np.array([name in found for name in participants.ids])
        self.groups = participants.group_numbers(keep)
        self._row = np.cumsum(self.observed) - 1


class HeldItems(FoundItems):
    """Items in memory: a class of its own reads the files, calls `_observe`, and then sets `_values`, one row per
    observed subject.
    """

    _values: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, ...]:
        return self._values.shape[1:]

    def read(self, subjects: NDArray[np.integer]) -> NDArray[np.float32]:
        return self._values[self._row[wanted(subjects, self.observed, self.kind)]]

    def key(self) -> str:
        data = sha256(self._values.tobytes()).hexdigest()
        return content_hash(data, self.observed.tolist(), self.groups.tolist())


def check_size(count: int, values: int, things: str) -> None:
    """Raises InputError when so many items of so many values each do not fit into memory."""
    if count * values * 4 > MOST_BYTES:
        raise InputError(f"{count} {things} are larger than {MOST_BYTES >> 30} GiB together")


def standardised(values: NDArray[np.float32], rows: NDArray[np.integer]) -> NDArray[np.float32]:
    """[n, ...] every entry with mean 0 and standard deviation 1 over these rows, those of training subjects; one that
    is the same for all of them is centred alone."""
    known = values[rows]
    spread = known.std(axis=0, dtype=np.float64)
    centre = known.mean(axis=0, dtype=np.float64)
    return ((values - centre) / np.where(spread > 1e-9, spread, 1)).astype(np.float32)

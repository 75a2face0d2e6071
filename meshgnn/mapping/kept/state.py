"""What is known now: the newest version of everything that the journal holds."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from meshgnn.errors import InputError
from meshgnn.mapping.kept.journal import Entry, Journal
from meshgnn.mapping.record import Record, Review


class Stale(Exception):
    """A change rests on a version that is not the newest any more. Nothing was changed.

    Args:
        newest: versions of the records that it would have changed.
    """

    def __init__(self, newest: Sequence[Record]) -> None:
        super().__init__("changed by someone else since; look at it again")
        self.newest = tuple(newest)


def now() -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class State:
    """Newest versions, history and decisions, held in memory, written through a journal. Several threads may use it.

    Args:
        journal: read whole when this is made.
        told: called after every change, by whichever thread made it.

    Raises:
        InputError: a journal that is damaged.
    """

    def __init__(self, journal: Journal, told: Callable[[], None] = lambda: None) -> None:
        self.journal, self.told = journal, told
        self._lock = threading.RLock()
        self._newest: dict[str, Record] = {}
        self._on: dict[int, dict[str, None]] = {}  # ids by section, in the order in which they were first said
        self._history: dict[int, list[Record]] = {}
        self._reviews: dict[tuple[int, str], Review] = {}
        self._touched: list[frozenset[int]] = []  # sections by change
        self._foreseen = False  # what is shown stands in no journal yet
        for entry in journal.begin():
            self._take(entry)

    @property
    def seq(self) -> int:
        """Number of the last change."""
        return len(self._touched)

    @property
    def sections(self) -> tuple[int, ...]:
        """Numbers of the sections of which something is said now, ascending."""
        with self._lock:
            return tuple(sorted(section for section in self._on if self.records(section)))

    def records(self, section: int) -> tuple[Record, ...]:
        """Newest versions on a section that are not deleted, in the order in which they were first drawn."""
        with self._lock:
            each = (self._newest[one] for one in self._on.get(section, ()))
            return tuple(record for record in each if not record.deleted)

    def all_records(self) -> tuple[Record, ...]:
        """Newest versions of all sections."""
        return tuple(record for section in self.sections for record in self.records(section))

    def history(self, section: int) -> tuple[Record, ...]:
        """All versions on a section, oldest first."""
        with self._lock:
            return tuple(self._history.get(section, ()))

    def newest(self, id: str) -> Record | None:
        """The newest version of a record, be it a deletion; None if there is none."""
        return self._newest.get(id)

    def reviews(self) -> tuple[Review, ...]:
        """The last decision on every area of every section. An acceptance whose record was deleted since is gone."""
        with self._lock:
            kept = []
            for one in self._reviews.values():
                record = self._newest.get(one.record)
                if one.decision == "reject" or (record is not None and not record.deleted):
                    kept.append(one)
            return tuple(kept)

    def since(self, seq: int) -> tuple[int, ...]:
        """Sections that were changed after change number `seq`, ascending."""
        with self._lock:
            return tuple(sorted({section for part in self._touched[max(seq, 0) :] for section in part}))

    def put(
        self,
        records: Iterable[Record],
        mapper: str,
        *,
        bases: Sequence[int] = (),
        reviews: Sequence[Review] = (),
    ) -> tuple[int, tuple[Record, ...]]:
        """Write versions as one change: all of them or none.

        Args:
            records: their `version`, `mapper` and `time` are set here.
            mapper: who.
            bases: the version that each of them rests on, 0 for one that is new; the newest if none are given.
            reviews: decisions that belong to the change.

        Returns:
            The number of the change, and the versions as they were written.

        Raises:
            Stale: a base is not the newest version.
            InputError: a record stands on another section than before, or the state is only read.
            OSError: the disk did not take it; nothing has changed.
        """
        with self._lock:
            if not self.journal.writing:
                raise InputError("this server only shows what was drawn")
            given = list(records)
            newest = [self._newest.get(record.id) for record in given]
            stale = [old for old, base in zip(newest, bases) if (old.version if old else 0) != base and old is not None]
            if stale:
                raise Stale(stale)
            for record, base, old in zip(given, bases, newest):
                if old is None and base:
                    raise InputError(f"record {record.id}: has no version {base}; a new one has base 0")
            for record, old in zip(given, newest):
                if old is not None and (old.section, old.kind) != (record.section, record.kind):
                    raise InputError(
                        f"record {record.id}: is {_a(old.kind)} on section {old.section}; draw a new one there"
                    )
            if len({record.id for record in given}) < len(given):
                raise InputError("one change names a record twice; send the last version alone")
            time = now()
            written = tuple(
                replace(record, version=old.version + 1 if old else 1, mapper=mapper, time=time)
                for record, old in zip(given, newest)
            )
            entry = Entry(seq=self.seq + 1, time=time, mapper=mapper, records=written, reviews=tuple(reviews))
            self.journal.append(entry)
            self._take(entry)
        self.told()
        return entry.seq, written

    def follow(self) -> bool:
        """Take what another process appended (a state that is only read); True if there was anything.

        A journal that was put in the place of the one before is read whole.

        Raises:
            InputError: a journal that is damaged. What was known stays.
        """
        with self._lock:
            anew = self.journal.replaced()
            if anew:
                self.journal.rewind()
            found = self.journal.follow()
            if anew or (found and self._foreseen):
                self._forget()
            for entry in found:
                self._take(entry)
        if found or anew:
            self.told()
        return bool(found) or anew

    def foresee(self, records: Iterable[Record], mapper: str) -> None:
        """Show records that a server which draws is going to write first (a state that is only read)."""
        with self._lock:
            time = now()
            written = tuple(replace(record, version=1, mapper=mapper, time=time) for record in records)
            self._take(Entry(seq=1, time=time, mapper=mapper, records=written))
            self._foreseen = True

    def _forget(self) -> None:
        """`seq` only grows, so that windows hear of it."""
        self._touched.append(frozenset(self._on))
        for known in (self._newest, self._on, self._history, self._reviews):
            known.clear()
        self._foreseen = False

    def _take(self, entry: Entry) -> None:
        for record in entry.records:
            self._newest[record.id] = record
            self._on.setdefault(record.section, {})[record.id] = None
            self._history.setdefault(record.section, []).append(record)
        for review in entry.reviews:
            self._reviews[review.section, review.area] = review
        numbers = [record.section for record in entry.records] + [review.section for review in entry.reviews]
        self._touched.append(frozenset(numbers))


def _a(kind: str) -> str:
    return {"area": "an outline"}.get(kind, f"a {kind}")

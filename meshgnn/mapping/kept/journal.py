"""The journal: every change in one line of JSON, appended, flushed to disk, never changed.

    {"seq": 12, "time": "...", "mapper": "...", "records": [Record, ...], "reviews": [Review, ...]}

One line is one change: what came together is there as a whole or not at all. A last line that a crash cut off is
dropped; a damaged line before it is refused by its number, since what was said later may rest on it.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from meshgnn.errors import InputError
from meshgnn.mapping.record import Record, Review

FILE, LOCK, CUT = "journal.jsonl", "lock", "journal.cut"
_LOG = logging.getLogger(__name__)
_KNOWN = frozenset(field.name for field in fields(Record))
_REVIEWED = frozenset(field.name for field in fields(Review))


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line.

    Args:
        seq: number of the change, 1, 2, ...
        time: ISO 8601 in UTC.
        mapper: who.
        records: versions of what was said of sections.
        reviews: decisions on predictions.
    """

    seq: int
    time: str
    mapper: str
    records: tuple[Record, ...] = ()
    reviews: tuple[Review, ...] = ()

    def line(self) -> bytes:
        plain = {**vars(self), "records": [vars(one) for one in self.records], "reviews": [*map(vars, self.reviews)]}
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def entry_of(line: bytes) -> Entry:
    """Raises ValueError, TypeError or KeyError for a line that is no entry."""
    plain = json.loads(line)
    records = tuple(Record(**{k: v for k, v in one.items() if k in _KNOWN}) for one in plain["records"])
    reviews = tuple(Review(**{k: v for k, v in one.items() if k in _REVIEWED}) for one in plain.get("reviews", ()))
    return Entry(
        seq=int(plain["seq"]), time=str(plain["time"]), mapper=str(plain["mapper"]), records=records, reviews=reviews
    )


def read_journal(path: Path, *, start: int = 0, seq: int = 0) -> Iterator[tuple[Entry, int]]:
    """Entries of a journal, each with the number of bytes up to its end; none where there is no file.

    What was cut off at the end is left out: no end of line, or a last line that is no entry.

    Args:
        path: of the journal.
        start: bytes to leave out.
        seq: number of the last change before them.

    Raises:
        InputError: it cannot be read, or a line that is not the last one is damaged or missing.
    """
    try:
        with path.open("rb") as handle:
            handle.seek(start)
            *lines, _ = handle.read().split(b"\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    for number, line in enumerate(lines, start=1):
        try:
            entry = entry_of(line)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            if number == len(lines):
                return
            raise _damaged(path, seq + 1, str(error)) from None
        if entry.seq != seq + 1:
            raise _damaged(path, seq + 1, f"it is change {entry.seq}")
        seq, start = entry.seq, start + len(line) + 1
        yield entry, start


def _damaged(path: Path, line: int, why: str) -> InputError:
    return InputError(
        f"{path}, line {line}: damaged ({why}); put a copy of the file in its place, or take away this line and all "
        "behind it"
    )


class Journal:
    """The journal of a state folder, open for writing by this process alone, or for reading.

    Args:
        folder: the state folder.
        writing: take the lock, and take away what was cut off (it is kept in journal.cut).

    Raises:
        InputError: the folder cannot be written, another server writes to it, or the journal is damaged.
    """

    def __init__(self, folder: Path, *, writing: bool = True) -> None:
        self.path = folder / FILE
        self.writing = writing
        self.seq, self._end, self._handle, self._lock, self._broken = 0, 0, -1, -1, ""
        self._file = 0  # inode of the file that was read
        if writing:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
            except OSError as error:
                raise InputError(
                    f"{folder}: cannot be written ({error.strerror}); name another folder with --state, or add "
                    "--read-only"
                ) from None
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self.close()
                raise InputError(
                    f"{folder}: another server writes to this folder; use its page, end it, or add --read-only"
                ) from None

    def follow(self) -> list[Entry]:
        """What was appended since this was last called: at first everything. Raises InputError as `read_journal`."""
        found = []
        with suppress(OSError):
            self._file = self.path.stat().st_ino
        for entry, end in read_journal(self.path, start=self._end, seq=self.seq):
            found.append(entry)
            self.seq, self._end = entry.seq, end
        return found

    def replaced(self) -> bool:
        """Another file stands in the place of the one that was read, or a shorter one."""
        try:
            about = self.path.stat()
        except OSError:
            return False
        return self._end > 0 and (about.st_ino != self._file or about.st_size < self._end)

    def rewind(self) -> None:
        """Read from the beginning next time."""
        self.seq = self._end = 0

    def written(self) -> bool:
        """Some process has the journal open for writing."""
        try:
            handle = os.open(self.path.parent / LOCK, os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(handle)
        return False

    def begin(self) -> list[Entry]:
        """All entries; opens the file for writing, if this journal writes. Raises InputError as the class does."""
        found = self.follow()
        if self.writing:
            try:
                self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
                self._drop_cut()
            except OSError as error:
                raise InputError(f"{self.path}: cannot be written ({error.strerror}); add --read-only") from None
        return found

    def _drop_cut(self) -> None:
        size = os.fstat(self._handle).st_size
        if size > self._end:
            cut = os.pread(self._handle, size - self._end, self._end)
            _LOG.warning("%s: the last line was cut off (%d bytes) and is left out", self.path, len(cut))
            with (self.path.parent / CUT).open("ab") as kept:
                kept.write(cut + b"\n")
            os.ftruncate(self._handle, self._end)
            os.fsync(self._handle)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name of a new file
        finally:
            os.close(folder)

    def append(self, entry: Entry) -> None:
        """On disk when this returns.

        Raises:
            OSError: it is not on disk, and the journal is as it was; after an error of which that cannot be said,
                nothing more is taken.
        """
        if self._broken:
            raise OSError(5, f"{self._broken}; start the server again", str(self.path))
        data = entry.line()
        try:
            at = 0
            while at < len(data):
                at += os.pwrite(self._handle, data[at:], self._end + at)
            os.fsync(self._handle)
        except OSError as error:
            try:
                os.ftruncate(self._handle, self._end)
                os.fsync(self._handle)
            except OSError:
                self._broken = f"the journal could not be written ({error.strerror})"
            raise
        self.seq, self._end = entry.seq, self._end + len(data)

    def close(self) -> None:
        for handle in (self._handle, self._lock):
            if handle >= 0:
                os.close(handle)
        self._handle = self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

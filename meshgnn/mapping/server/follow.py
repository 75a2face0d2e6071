"""A server that only shows follows the one that draws: its journal, its fillings, its list of areas."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from meshgnn.errors import InputError
from meshgnn.mapping.kept.concepts import FILE as AREAS
from meshgnn.mapping.kept.concepts import Concepts
from meshgnn.mapping.kept.journal import FILE as JOURNAL
from meshgnn.mapping.server.hub import Hub
from meshgnn.mapping.work.job import FILE as JOB
from meshgnn.mapping.work.job import ROUNDS

EVERY_S = 0.5
_LOG = logging.getLogger(__name__)
Mark = tuple[tuple[str, int, int, int], ...]


class Follower:
    """
    Args:
        hub: of a server that only shows.
        areas: reads the list of areas anew.
    """

    def __init__(self, hub: Hub, areas: Callable[[], Concepts]) -> None:
        self.hub, self.areas = hub, areas
        self._ended = threading.Event()
        self._seen: dict[str, Mark] = {}

    def look(self) -> bool:
        """Take what is new; True if there was anything. What cannot be read is told in the log, once."""
        found = [
            self._new("areas", [self.hub.folder / AREAS], self._areas),
            self._new("journal", [self.hub.folder / JOURNAL], self.hub.state.follow),
        ]
        written = self.hub.state.journal.written()
        jobs = [*(self.hub.folder / ROUNDS).glob(f"*/*/{JOB}")]
        found.append(self._new(f"jobs {written}", jobs, lambda: self.hub.jobs.follow(written)))
        return any(found)

    def run(self) -> None:
        """Until `close`."""
        while not self._ended.wait(EVERY_S):
            try:
                self.look()
            except Exception:
                _LOG.exception("following the journal")

    def close(self) -> None:
        self._ended.set()

    def _new(self, what: str, paths: list[Path], take: Callable[[], bool]) -> bool:
        mark = tuple(one for one in map(_mark, paths) if one is not None)
        if self._seen.get(what) == mark:
            return False
        self._seen = {name: kept for name, kept in self._seen.items() if name.split()[0] != what.split()[0]}
        self._seen[what] = mark
        try:
            return take()
        except InputError as error:
            _LOG.warning("%s", error)
            return False

    def _areas(self) -> bool:
        concepts = self.areas()
        if concepts.rows == self.hub.concepts.rows:
            return False
        self.hub.concepts = concepts
        self.hub.predictions.renamed(concepts.table.areas.names)
        self.hub.jobs.changed()  # windows ask for the stack anew
        return True


def _mark(path: Path) -> tuple[str, int, int, int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return str(path), about.st_ino, about.st_size, about.st_mtime_ns

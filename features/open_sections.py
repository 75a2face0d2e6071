"""Section images kept open, the least recently used closed first: a header is read once, not once per window."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from meshgnn.source.sections import Section, SectionImage, open_section


class OpenSections:
    """Open images of sections; several threads may use one. Files that are in use are never closed.

    Args:
        most: images held open while nobody uses them.
    """

    def __init__(self, most: int = 16) -> None:
        self._most = most
        self._open: OrderedDict[int, SectionImage] = OrderedDict()
        self._users: dict[int, int] = {}
        self._lock = Lock()

    @contextmanager
    def image(self, section: Section) -> Iterator[SectionImage]:
        """The section's image, opened if it is not. Raises InputError when it cannot be."""
        image = self._take(section)
        try:
            yield image
        finally:
            self._give_back(section.index)

    def _take(self, section: Section) -> SectionImage:
        with self._lock:
            if section.index not in self._open:
                self._open[section.index] = open_section(section)
            self._users[section.index] = self._users.get(section.index, 0) + 1
            self._open.move_to_end(section.index)
            return self._open[section.index]

    def _give_back(self, index: int) -> None:
        with self._lock:
            self._users[index] -= 1
            idle = [one for one in self._open if not self._users[one]]
            for one in idle[: max(0, len(self._open) - self._most)]:
                self._open.pop(one).close()

    def __del__(self) -> None:
        for image in self._open.values():
            image.close()

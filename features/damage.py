"""Items that could not be read, or hold nothing: which, why, and what is done about them. None is lost silently."""

from collections import Counter
from collections.abc import Mapping
from threading import Lock
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from meshgnn.sockets import NodeData

Policy = Literal["refuse", "skip"]


@runtime_checkable
class CheckedItems(NodeData, Protocol):
    """Node data that can say of single items that they are unreadable."""

    def read_checked(self, rows: NDArray[np.integer], /) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Items [B, *shape], and which of them [B] could be read; the others are zeros."""
        ...


class Damage:
    """What was wrong with the items of one brain; several threads may write to it."""

    def __init__(self) -> None:
        self._damaged: dict[int, tuple[str, str]] = {}
        self._empty: dict[int, str] = {}
        self._lock = Lock()

    def add(self, item: int, where: str, why: str) -> None:
        """An item that cannot be used, the section (file) that it lies on, and the reason."""
        with self._lock:
            self._damaged.setdefault(item, (where, why))

    def empty(self, item: int, where: str) -> None:
        """An item that can be used and shows no tissue."""
        with self._lock:
            self._empty.setdefault(item, where)

    def __len__(self) -> int:
        return len(self._damaged)

    def report(self) -> Mapping[str, Any]:
        """JSON-ready counts: items that were damaged and without tissue, and each section with its reasons."""
        with self._lock:
            found = Counter(self._damaged.values())
            return {
                "damaged": len(self._damaged),
                "without_tissue": len(self._empty),
                "sections": [
                    {"section": where, "damaged": many, "why": why} for (where, why), many in sorted(found.items())
                ],
                "sections_without_tissue": dict(sorted(Counter(self._empty.values()).items())),
            }


def read_checked(data: Any, rows: NDArray[np.integer]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Items [B, *shape] of any data, and which of them could be read: all, where the data cannot tell."""
    checked = getattr(data, "read_checked", None)
    if checked is not None:
        items, good = checked(rows)
        return items, good
    return data.read(rows), np.ones(len(rows), bool)

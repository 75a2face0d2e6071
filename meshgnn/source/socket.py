"""What a source of brains offers."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from meshgnn.graph import MeshGraph

# key -> (name, RGBA in [0, 1])
LabelTable = dict[int, tuple[str, tuple[float, ...]]]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A brain that was read, and warnings about it.

    Args:
        graph: the brain.
        files: every file it came from (hashed into the provenance).
        warnings: one line each.
        atlas: name of the atlas the labels come from, "" if none.
    """

    graph: MeshGraph
    files: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = field(default=())
    atlas: str = ""


class BrainSource(Protocol):
    """A reader of one brain. An experiment names its config."""

    def read(self) -> Reading:
        """Read the brain. Raises InputError when the input is wrong."""
        ...

"""What a source of brains offers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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
        series: [V, T] values over time of every node, by name.
    """

    graph: MeshGraph
    files: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = field(default=())
    atlas: str = ""
    series: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


class BrainSource(Protocol):
    """A reader of one brain. An experiment names its config."""

    def read(self) -> Reading:
        """Read the brain. Raises InputError when the input is wrong."""
        ...

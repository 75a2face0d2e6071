"""Sockets for whatever turns data into features or meshes: typed without tensors, so that both wings can hold on to
them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from meshgnn.errors import InputError
from meshgnn.graph import Areas, FeatureTable, MeshGraph
from meshgnn.source.sections import SectionStack


@runtime_checkable
class Encoder(Protocol):
    """Turns a batch of inputs into features; a torch module in practice.

    Laws (`meshgnn.testing.assert_encoder`): output [B, out_channels] and finite; the same twice in eval mode; a row
    does not depend on what else is in the batch.
    """

    level: Literal["node", "graph"]
    out_channels: int

    def identity(self) -> Mapping[str, Any]:
        """Config and weights hash, kept with every table the encoder computes."""
        ...

    def __call__(self, inputs: Any) -> Any:
        """Inputs [B, ...] -> features [B, out_channels]."""
        ...


@runtime_checkable
class PatchSource(Protocol):
    """Gives the encoder its inputs, one item per node (or graph)."""

    def __len__(self) -> int: ...

    def read(self, items: Sequence[int]) -> npt.NDArray[np.generic]:
        """Inputs [B, ...] of these items."""
        ...


@runtime_checkable
class TableMaker(Protocol):
    """Computes a feature table of a brain: geometry, a table on disk, or an encoder run over a patch source."""

    def make(self, graph: MeshGraph) -> FeatureTable:
        """One row per node of `graph`."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class SectionBrain:
    """A brain made from sections, as whatever computes features sees it.

    Args:
        graph: with node locations; its labels are those a mapper drew, -1 where none did.
        stack: the sections, aligned: each one's `to_space` is its pose.
        drawn: numbers of the sections that carry annotations.
    """

    graph: MeshGraph
    stack: SectionStack
    drawn: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.graph.locations is None:
            raise InputError(f"{self.graph.brain}: a brain made from sections needs node locations")


Tell = Callable[[str, int, int], None]


@runtime_checkable
class SectionFeatures(Protocol):
    """Computes one row per node from section images; learns from training brains first, or has nothing to learn."""

    @property
    def name(self) -> str:
        """Of the table."""
        ...

    def fit(self, brains: Sequence[SectionBrain], folder: Path, tell: Tell) -> list[str]:
        """Learn from brains that carry labels; returns the files written, relative to `folder`. Goes on if killed."""
        ...

    def make(self, brain: SectionBrain, folder: Path, tell: Tell) -> FeatureTable:
        """[V, C], masked where a node was not observed. `folder` is the one `fit` wrote to."""
        ...


class MeshMaker(Protocol):
    """Makes meshes from stack folders; keeps everything about one brain in a folder of its own."""

    def make(self, brain: str, stack: Path, out: Path, tell: Tell) -> list[str]:
        """Reconstruct `brain`, which also names its space; goes on if killed.

        Returns the files that others need, relative to `out`.
        """
        ...

    def load(self, stack: Path, out: Path) -> tuple[MeshGraph, SectionStack]:
        """The brain with node locations and surfaces, and its aligned sections."""
        ...

    def truth(self, stack: Path, out: Path) -> tuple[npt.NDArray[np.int32], Areas] | None:
        """True class [V] of every node (-1: none), if a truth lies beside the sections."""
        ...

    def measures(self, out: Path) -> Mapping[str, Any]:
        """The block `reconstruction` of metrics.json."""
        ...

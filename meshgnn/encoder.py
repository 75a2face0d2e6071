"""Sockets for whatever turns data into features or meshes: typed without tensors, so that both wings can hold on to
them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from meshgnn.errors import InputError
from meshgnn.graph import Areas, FeatureTable, MeshGraph
from meshgnn.mesh.record import frozen
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
        fold: [V] int32, the fold of the run's one fold plan that each node belongs to (whole runs of neighbouring
            sections stay together); -1 everywhere for a brain that nothing is trained on, and by default.
    """

    graph: MeshGraph
    stack: SectionStack
    drawn: tuple[int, ...] = ()
    fold: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))

    def __post_init__(self) -> None:
        if self.graph.locations is None:
            raise InputError(f"{self.graph.brain}: a brain made from sections needs node locations")
        fold = np.full(self.graph.n_nodes, -1) if np.size(self.fold) == 0 else np.asarray(self.fold)
        if fold.shape != (self.graph.n_nodes,) or fold.min(initial=0) < -1:
            raise InputError(f"{self.graph.brain}: folds must be [{self.graph.n_nodes}] numbers from -1")
        object.__setattr__(self, "fold", frozen(fold, np.int32))


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Truth:
    """What is known of a reconstructed brain beside what was given to training.

    Args:
        labels: [V] int32 true class of every node, -1 where there is none.
        areas: the classes.
        unmatched: [V] bool, nodes in cortex that have no counterpart in the true cortex (too far away, or facing the
            wrong way). A second score counts whatever is said of them as an error.
        missed: [K] float64, true cortex of each area that the mesh does not cover, counted in nodes of the mesh's own
            mean area. The second score counts it as not found.
    """

    labels: npt.NDArray[np.int32]
    areas: Areas
    unmatched: npt.NDArray[np.bool_]
    missed: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        count = len(self.labels)
        if self.unmatched.shape != (count,) or self.missed.shape != (len(self.areas),):
            raise InputError(f"truth of {count} nodes: unmatched {self.unmatched.shape}, missed {self.missed.shape}")


Tell = Callable[[str, int, int], None]


@runtime_checkable
class SectionFeatures(Protocol):
    """Computes one row per node from section images; learns from training brains first, or has nothing to learn."""

    @property
    def name(self) -> str:
        """Of the table."""
        ...

    def fit(self, brains: Sequence[SectionBrain], folder: Path, tell: Tell) -> list[str]:
        """Learn from brains that carry labels; returns the files written, relative to `folder`. Goes on if killed.

        What learns from labels is cross-fitted over `SectionBrain.fold`: one model per fold, which never saw it.
        """
        ...

    def make(self, brain: SectionBrain, folder: Path, tell: Tell) -> FeatureTable:
        """[V, C], masked where a node was not observed. `folder` is the one `fit` wrote to.

        The row of a node of fold k comes from a model that has not seen fold k; that of a node in no fold (-1) from
        all models, in the same space.
        """
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

    def true_areas(self, stack: Path) -> Areas | None:
        """The areas of the truth that lies beside the sections and shall judge; None if there is none."""
        ...

    def truth(self, stack: Path, out: Path) -> Truth | None:
        """The truth of every node, if one lies beside the sections."""
        ...

    def judged(self, stack: Path, out: Path) -> Mapping[str, Any]:
        """How far the meshes lie from the truth, for the block `reconstruction` of metrics.json; {} without one."""
        ...

    def measures(self, out: Path) -> Mapping[str, Any]:
        """What else stands in that block: what can be measured of the meshes alone."""
        ...

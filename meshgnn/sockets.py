"""Sockets for whatever turns data into features or meshes. numpy only: importing this loads no torch.

A `FeatureMaker` computes a table of a `Brain`. One that encodes something at every node reads it through `NodeData`
with an `Encoder`, and neither of these three knows the other two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from meshgnn.errors import InputError
from meshgnn.graph import Areas, FeatureTable, MeshGraph
from meshgnn.mesh.record import frozen
from meshgnn.progress import Progress
from meshgnn.source.sections import SectionStack
from meshgnn.source.volume import Volume


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Brain:
    """A brain as whatever computes features sees it: its mesh, and by name whatever data it has.

    Args:
        graph: its labels are those that may be learnt from, -1 where there is none.
        sections: the sections, aligned (each one's `to_space` is its pose), of a brain whose nodes are located on them.
        annotated: numbers of the sections that carry annotations.
        fold: [V] int32, the fold of the run's one fold plan that each node belongs to; -1 everywhere for a brain that
            nothing is trained on, and by default.
        train: [V] bool, nodes whose data may be learnt from, with labels or without; all by default.
        volumes: image volumes by name.
        series: [V, T] values over time of every node, by name.
        tables: further tables by name, one row per node or one row for the whole brain.
    """

    graph: MeshGraph
    sections: SectionStack | None = None
    annotated: tuple[int, ...] = ()
    fold: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    train: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    series: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    tables: Mapping[str, FeatureTable] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name, count = self.graph.brain, self.graph.n_nodes
        if self.sections is not None and self.graph.locations is None:
            raise InputError(f"{name}: a brain with sections needs node locations on them")
        fold = np.full(count, -1) if np.size(self.fold) == 0 else np.asarray(self.fold)
        if fold.shape != (count,) or fold.min(initial=0) < -1:
            raise InputError(f"{name}: folds must be [{count}] numbers from -1")
        train = np.ones(count, bool) if np.size(self.train) == 0 else np.asarray(self.train)
        if train.shape != (count,):
            raise InputError(f"{name}: nodes to learn from must be [{count}], got {train.shape}")
        for key, values in self.series.items():
            if np.ndim(values) != 2 or len(values) != count:
                raise InputError(f"{name}: series {key!r} must be [{count}, T], got {np.shape(values)}")
        for key, table in self.tables.items():
            if len(table.values) not in (1, count):
                raise InputError(f"{name}: table {key!r} has {len(table.values)} rows for {count} nodes")
        object.__setattr__(self, "fold", frozen(fold, np.int32))
        object.__setattr__(self, "train", frozen(train, bool))
        series = {key: frozen(values, np.float32) for key, values in self.series.items()}
        object.__setattr__(self, "series", MappingProxyType(series))
        object.__setattr__(self, "volumes", MappingProxyType(dict(self.volumes)))
        object.__setattr__(self, "tables", MappingProxyType(dict(self.tables)))

    def section_stack(self) -> SectionStack:
        """The sections. Raises InputError for a brain that has none."""
        if self.sections is None:
            raise InputError(f"{self.graph.brain}: has no sections, and features of sections were asked for")
        return self.sections

    def volume(self, name: str) -> Volume:
        """Raises InputError when the brain has no volume of that name."""
        return _named(self.graph.brain, "volume", self.volumes, name)

    def series_of(self, name: str) -> npt.NDArray[np.float32]:
        """[V, T]. Raises InputError when the brain has no series of that name."""
        return _named(self.graph.brain, "series", self.series, name)


def _named(brain: str, what: str, there: Mapping[str, Any], name: str) -> Any:
    if name not in there:
        raise InputError(f"{brain}: has no {what} {name!r}; it has {', '.join(there) or 'none'}")
    return there[name]


class Items(Protocol):
    """One item of a fixed shape for each of N nodes or subjects. The config that builds it also has `item_format()`,
    JSON-ready: what an item holds, since an encoder fits items of one format only.
    """

    @property
    def observed(self) -> npt.NDArray[np.bool_]:
        """[N] True where there is an item; the others are never read, whatever stands for them."""
        ...

    @property
    def groups(self) -> npt.NDArray[np.int32]:
        """[N] Items of one group are held out together."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one item."""
        ...

    def read(self, rows: npt.NDArray[np.integer], /) -> npt.NDArray[np.float32]:
        """Items [B, *shape] of these observed rows, finite."""
        ...

    def key(self) -> str:
        """Hash of everything that decides the items."""
        ...


@runtime_checkable
class NodeData(Items, Protocol):
    """What is seen at the nodes of one brain. Built by its config's `build(brain)`. Items of one group overlap or share
    an image (sections, blocks of a volume).

    The config also has `files(brain)`, those it reads beside the brain's own (InputError when the brain lacks the
    data); and `augment`, the config of the changes that leave an item's meaning as it is
    (`features.augment.PatchAugment` says what it builds).
    """


@runtime_checkable
class SubjectData(Items, Protocol):
    """What is known of the subjects of a cohort. Built by its config's `build(participants, train)`; everything that is
    learnt for it (means, categories) is learnt from the subjects of `train` [G] bool alone. Rows are those of the
    participants, found by id; those of one group are of one family (or site). `read` raises InputError for a subject
    who is not observed.

    The config also has `files()`, those that it reads. Laws: `meshgnn.testing.assert_subject_data`.
    """


@runtime_checkable
class WindowedItems(SubjectData, Protocol):
    """Subject data of which an item is a window of something longer: frames of a run. `read` gives the first of
    `starts`.

    Training draws starts; evaluation reads every window of `starts` once and averages what is said of them.
    """

    @property
    def last_start(self) -> npt.NDArray[np.int64]:
        """[N] The latest frame at which a window can start; 0 where nothing is observed."""
        ...

    def starts(self, row: int, /) -> npt.NDArray[np.int64]:
        """[W] Starts of the windows of an observed subject that evaluation reads, at least one, ascending."""
        ...

    def read_at(self, rows: npt.NDArray[np.integer], starts: npt.NDArray[np.integer], /) -> npt.NDArray[np.float32]:
        """Windows [B, *shape] of these observed rows from these frames on. Raises InputError for a start beyond the
        last."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """Turns a batch of items into features; a torch module in practice, built by its config's `build(shape)`.

    Laws (`meshgnn.testing.assert_encoder`): output [B, out_channels] and finite; the same twice in eval mode; a row
    does not depend on what else is in the batch.
    """

    level: Literal["node", "graph"]
    out_channels: int

    def identity(self) -> Mapping[str, Any]:
        """Config and weights hash, kept with every table the encoder computes."""
        ...

    def __call__(self, inputs: Any) -> Any:
        """Items [B, *shape] -> features [B, out_channels]."""
        ...


@runtime_checkable
class FeatureMaker(Protocol):
    """Computes a table of a brain: geometry, a table on disk, or a trained encoder run over `NodeData`.

    Laws (`meshgnn.testing.assert_feature_maker`): `make` gives a table of the maker's name with one row per node, or
    one row for the whole brain; the same table for the same brain and folder; `fit` says which files it wrote.
    """

    @property
    def name(self) -> str:
        """Of the table."""
        ...

    def inputs(self, brain: Brain) -> Sequence[Path]:
        """Files that it reads beside the brain's own. Called before anything is written.

        Raises:
            InputError: the brain lacks what the maker needs.
        """
        ...

    def fit(self, brains: Sequence[Brain], folder: Path, progress: Progress) -> list[str]:
        """Learn from training brains; returns the files written, relative to `folder`. Goes on if killed.

        What learns from labels is cross-fitted over `Brain.fold`: one model per fold, which never saw it. A maker with
        nothing to learn returns an empty list.
        """
        ...

    def make(self, brain: Brain, folder: Path, progress: Progress) -> FeatureTable:
        """[V, C], masked where a node was not observed, or [1, C]. `folder` is the one `fit` wrote to.

        The row of a node of fold k comes from a model that has not seen fold k; that of a node in no fold (-1) from
        all models, in the same space.
        """
        ...


@runtime_checkable
class SectionFeatureMaker(FeatureMaker, Protocol):
    """A maker of features of sections that can say, before any work begins, what it cannot work with."""

    def check(self, stack: str, pixel_um: float) -> None:
        """Asked of every stack.

        Args:
            stack: its name, for messages.
            pixel_um: width of its coarsest pixels.

        Raises:
            InputError: pixels too coarse for its patches, ...
        """
        ...


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


class MeshMaker(Protocol):
    """Makes meshes from stack folders; keeps everything about one brain in a folder of its own."""

    def check(self, stack: Path) -> None:
        """Asked of every stack before any work begins. Raises InputError: too few sections, ..."""
        ...

    def make(self, brain: str, stack: Path, out: Path, progress: Progress) -> list[str]:
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

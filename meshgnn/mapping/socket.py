"""Sockets between the server and the engines that fill areas in. numpy only: importing this loads no torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from meshgnn.graph import Areas
from meshgnn.progress import Progress
from meshgnn.sockets import Brain
from meshgnn.source.annotations import Annotations
from meshgnn.source.polygons import Polygon
from meshgnn.source.sections import SectionStack


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What is known when a filling is asked for.

    Args:
        stack: the sections; aligned (each one's `to_space` is its pose) where there is a mesh.
        brain: the mesh with its nodes on the sections, no labels; None without a mesh.
        drawn: what was drawn or imported, by section. An area counts as drawn whole on each section where it is drawn;
            nothing is said of the rest of a section.
        accepted: predictions that a mapper accepted: may be learnt from, never scored by.
        rejected: (section, class) of predictions that a mapper rejected.
        beside: [V] class of nodes beside a border stroke whose two areas were said, -1 elsewhere; None without any.
    """

    stack: SectionStack
    brain: Brain | None
    drawn: Annotations
    accepted: Annotations | None = None
    rejected: tuple[tuple[int, int], ...] = ()
    beside: NDArray[np.int32] | None = None

    @property
    def areas(self) -> Areas:
        return self.drawn.areas


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictedArea:
    """An area on one section, as an engine sees it.

    Args:
        area: class number in the areas.
        polygons: in pixels of the section's image as stored.
        probability: mean probability of the area within its outline, 0 to 1.
    """

    area: int
    polygons: Sequence[Polygon]
    probability: float


class Filling(Protocol):
    """The result of a filling, kept in a folder of its own."""

    @property
    def engine(self) -> str: ...

    @property
    def sections(self) -> tuple[int, ...]:
        """Numbers of the sections that it says something of, ascending."""
        ...

    @property
    def figures(self) -> Mapping[str, Any]:
        """What the engine measured of itself (on hidden annotations), JSON-ready."""
        ...

    @property
    def probabilities(self) -> NDArray[np.float32] | None:
        """[V, K] at the nodes of the mesh; None without a mesh. A row sums to 1 less the probability of "none of the
        drawn areas"; it is 0 outside cortex and where nothing is said."""
        ...

    def on(self, section: int) -> Sequence[PredictedArea]:
        """Areas on one section; under a second on two cores for a section of 8,000 x 8,000 px."""
        ...


class Engine(Protocol):
    """Fills in what was not drawn. Built by its config's `build()`; runs in a process of its own."""

    name: str  # of its folder in a round, and in the programming interface
    title: str  # for a mapper

    def check(self, situation: Situation) -> None:
        """Raises InputError, in words for a mapper, if nothing can be filled in (no mesh, a single area, ...)."""
        ...

    def fill(self, situation: Situation, folder: Path, progress: Progress, stopped: Callable[[], bool]) -> Filling:
        """Fill, keep the result in `folder` (written aside, then renamed; a killed filling goes on from what is there).

        Ends within seconds once `stopped()` is true: with what is done, or by raising `Stopped`.

        Raises:
            InputError: as `check` does.
            Stopped: it was ended; the next filling goes on from what was kept.
        """
        ...

    def read(self, folder: Path, stack: SectionStack, brain: Brain | None) -> Filling:
        """What `fill` kept in `folder`, for the server: loads no torch. Raises InputError: not complete, or of another
        mesh or stack."""
        ...


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A section to look at next.

    Args:
        section: its number.
        gain: expected share of nodes that drawing it sets right; comparable within one worklist.
        reason: one sentence for a mapper.
        areas: names of areas whose borders are doubtful there.
    """

    section: int
    gain: float
    reason: str
    areas: tuple[str, ...] = field(default=())

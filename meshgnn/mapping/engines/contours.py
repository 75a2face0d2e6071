"""Contours interpolated between drawn sections: what mappers do by hand, without a mesh and without learning."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.mapping.pixel_filling import Floats, PixelFilling, SectionGrid, at_nodes, predicted_areas, signed_mm
from meshgnn.mapping.ribbon import Ribbons
from meshgnn.mapping.socket import PredictedArea, Situation
from meshgnn.progress import Progress
from meshgnn.sockets import Brain
from meshgnn.source.annotations import Annotations
from meshgnn.source.sections import Section, SectionStack
from meshgnn.train.contours import FALL_MM, FARTHEST_MM


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Two sections on which an area is drawn, with none between them.

    Args:
        area: class number.
        first, last: numbers of the sections.
        between: usable sections in between, in order.
    """

    area: int
    first: int
    last: int
    between: tuple[int, ...]


def intervals(situation: Situation) -> list[Interval]:
    """Every interval with sections to fill in, areas in class order. An area that is drawn on a section counts as
    drawn whole there, so that neighbouring sections of an area are those next to each other on which it is drawn."""
    drawn = areas_drawn(situation.drawn, situation.stack.usable().sections)
    order = [section.index for section in situation.stack if section.usable]
    found = []
    for area in sorted({k for areas in drawn.values() for k in areas}):
        mine = [index for index in order if area in drawn.get(index, ())]
        for first, last in pairwise(mine):
            between = tuple(index for index in order if first < index < last)
            if between:
                found.append(Interval(area=area, first=first, last=last, between=between))
    return found


def areas_drawn(drawn: Annotations, sections: Sequence[Section]) -> dict[int, tuple[int, ...]]:
    """Classes that are drawn on each of these sections that has any. Raises InputError for outlines that are broken."""
    found = {}
    for section in sections:
        if section.index in drawn.sections:
            image = drawn.coarse(section.index, SectionGrid.of(section, Contours.COARSE_UM).block)
            found[section.index] = tuple(int(k) for k in np.unique(image[image >= 0]))
    return found


class Contours:
    """An `Engine`: shape-based interpolation (Raya & Udupa 1990).

    For every area and every pair of neighbouring sections on which it is drawn, the signed distance to its outline is
    carried along the cutting axis onto each section between and averaged, weighted by nearness; what is positive is of
    the area, the largest distance wins where several are. With a mesh only cortex is filled in.
    """

    name, title = "contours", "Contours between drawn sections (no mesh needed)"
    COARSE_UM = 200.0

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            width_um: of the pixels on which outlines are interpolated.
            in_cortex: with a mesh, fill in cortex alone.
        """

        width_um: float = 200.0
        in_cortex: bool = True

        def __post_init__(self) -> None:
            if not self.width_um > 0:
                raise SettingError(f"<width_um> must be above 0, got {self.width_um}")

        def build(self) -> "Contours":
            return Contours(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self, situation: Situation) -> None:
        """Raises InputError where no area is drawn on two sections with a usable one between them."""
        if not intervals(situation):
            raise InputError("draw an area on two sections that have others between them; then these can be filled in")

    def fill(self, situation: Situation, folder: Path, progress: Progress, stopped: Callable[[], bool]) -> PixelFilling:
        """See `Engine.fill`; takes seconds, so that a killed one begins anew."""
        found, start = intervals(situation), time.perf_counter()
        self.check(situation)
        ribbons = Ribbons(situation.brain.graph) if situation.brain and self.config.in_cortex else None
        chances = None
        if situation.brain is not None:
            chances = np.zeros((situation.brain.graph.n_nodes, len(situation.areas)), np.float32)
        wanted = sorted({index for one in found for index in one.between})
        areas: dict[int, list[PredictedArea]] = {}
        for number, (index, grid, classes, distance) in enumerate(self.distances(situation, found)):
            if stopped():
                break
            probability = 1 / (1 + np.exp(-distance / FALL_MM))
            best = distance.argmax(0)
            labels = np.where(distance.max(0) > 0, np.array(classes)[best], -1)
            if ribbons is not None:
                labels[~cortex_of(ribbons, grid)] = -1
            areas[index] = predicted_areas(grid, labels, probability.max(0))
            if chances is not None and situation.brain is not None:
                at_nodes(chances, situation.brain, grid, classes, probability / np.maximum(probability.sum(0), 1))
            progress("contours", number + 1, len(wanted))
        count = f"{len(areas)} section{'s' if len(areas) != 1 else ''}"
        figures = {
            "sections": len(areas), "intervals": len(found), "seconds": round(time.perf_counter() - start, 2),
            "words": [f"Contours were interpolated on {count} between drawn ones."],
        }  # fmt: skip
        return PixelFilling.write(
            folder, situation, engine=self.name, areas=areas, probabilities=chances, figures=figures
        )

    def read(self, folder: Path, stack: SectionStack, brain: Brain | None) -> PixelFilling:
        """See `Engine.read`."""
        return PixelFilling(folder, brain)

    def distances(
        self, situation: Situation, found: Sequence[Interval]
    ) -> Iterator[tuple[int, SectionGrid, tuple[int, ...], NDArray[np.float32]]]:
        """Of every section between: its number, grid, classes that may be there, interpolated distances [A, r, c]."""
        known = {section.index: section for section in situation.stack}
        maps: dict[tuple[int, int], NDArray[np.float32]] = {}

        labels: dict[int, NDArray[np.int32]] = {}

        def of(area: int, index: int) -> NDArray[np.float32]:
            if (area, index) not in maps:
                grid = SectionGrid.of(known[index], self.config.width_um)
                if index not in labels:
                    labels[index] = situation.drawn.coarse(index, grid.block)
                maps[area, index] = signed_mm(labels[index] == area, grid.width_mm, FARTHEST_MM)
            return maps[area, index]

        for index in sorted({k for one in found for k in one.between}):
            grid = SectionGrid.of(known[index], self.config.width_um)
            mine = [one for one in found if index in one.between]
            places: dict[int, tuple[Floats, Floats]] = {}
            layers = [interpolated(one, grid, known, of, self.config.width_um, places) for one in mine]
            yield index, grid, tuple(one.area for one in mine), np.stack(layers)
            gone = [key for key in maps if not any(one.last > index and key[1] >= one.first for one in found)]
            for key in gone:  # what no later section asks for
                del maps[key]
            needed = {side for one in found if one.last > index for side in (one.first, one.last)}
            labels = {key: image for key, image in labels.items() if key in needed}


def interpolated(
    one: Interval, grid: SectionGrid, known: Mapping[int, Section],
    distance: Callable[[int, int], NDArray[np.float32]], width_um: float,
    places: dict[int, tuple[Floats, Floats]] | None = None,
) -> NDArray[np.float32]:  # fmt: skip
    """Interpolated signed distance [rows, columns] to an area in mm on a section between.

    Args:
        known: sections by number.
        distance: of an area on a drawn section, on its grid of `width_um`.
        places: `SectionGrid.places` of drawn sections on `grid`, which is filled: areas share them.
    """
    first, last = known[one.first], known[one.last]
    share = (grid.section.position_mm - first.position_mm) / (last.position_mm - first.position_mm)
    places = {} if places is None else places

    def seen(section: Section) -> NDArray[np.float32]:
        theirs = SectionGrid.of(section, width_um)
        if section.index not in places:
            places[section.index] = theirs.places(grid)
        return theirs.carried(distance(one.area, section.index), grid, -FARTHEST_MM, places[section.index])

    near, far = seen(first), seen(last)
    return ((1 - share) * near + share * far).astype(np.float32)


def cortex_of(ribbons: Ribbons, grid: SectionGrid) -> NDArray[np.bool_]:
    """Where on a grid cortex is, from the ribbon of its section."""
    ribbon = ribbons.of(grid.section)
    inside = ribbon.image(np.ones(len(ribbon.pixel), np.int32)) > 0
    rows, columns = (
        ((np.arange(size) + 0.5) * many / size).astype(int) for size, many in zip(grid.shape, inside.shape)
    )
    return inside[rows[:, None], columns]

"""Borders on sections of a brain whose true borders are known: Schleicher's, a map's, and what they must beat.

A true border is detected if a found one lies within `Score.reach_mm` of it on the section, and its error is the
distance to the nearest of those; a found one with no true border that near is a false alarm.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d
from scipy.spatial import cKDTree

from meshgnn.borders.ribbon import on_section, ribbon_lines
from meshgnn.borders.section import Run, SectionBorders, changes
from meshgnn.graph import MeshGraph
from meshgnn.source.sections import Section

Floats = NDArray[np.float64]
Points = Mapping[str, Sequence[Sequence[float]]]  # by hemisphere, (x, y) in mm on the section
Ranked = list[tuple[float, str, float, float]]  # strength, hemisphere, x and y in mm; strongest first
BLOCK = 16  # profiles on either side, of the gradient
REACH_MM = 1.0
SHORT_MM = 1.0  # a shorter stretch of an area is a touch of the plane and a border's bend
EVERY_MM = 0.2  # along the ribbon, where a map is asked


def true_borders(found: SectionBorders, graph: MeshGraph, sharp: AbstractSet[str]) -> dict[bool, Points]:
    """True borders along the ribbon of `found`, by sharpness: sharp are those of the areas named in `sharp`."""
    names = graph.areas.names
    points: dict[bool, dict[str, list[Sequence[float]]]] = {True: defaultdict(list), False: defaultdict(list)}
    shares = np.eye(len(names) + 1)[graph.labels]
    for run in found.runs:
        classes = run.line.interpolated(shares).argmax(1)
        classes[classes == len(names)] = -1
        places = changes(classes)
        step = np.median(np.diff(run.line.position_mm)) if len(classes) > 1 else 1
        short = np.zeros(len(places), bool)
        near = np.flatnonzero(np.diff(places) * step < SHORT_MM)
        short[near], short[near + 1] = True, True
        for place in places[~short]:
            of = bool({names[classes[place]], names[classes[place + 1]]} & sharp)
            points[of][run.line.hemisphere].append(between(run, int(place), found.pixel_um))
    return {True: points[True], False: points[False]}


def between(run: Run, place: int, pixel_um: float) -> tuple[float, float]:
    """Point in mm between the profiles `place` and the next one, in the middle of the cortex."""
    middle = run.line.middle_px * pixel_um / 1000
    x, y = (middle[place] + middle[place + 1]) / 2
    return float(x), float(y)


def by_distance(found: SectionBorders) -> Ranked:
    """Schleicher's borders by their squared distance."""
    return sorted(
        ((one.distance2, run.line.hemisphere, *between(run, one.place, found.pixel_um))
         for run in found.runs for one in run.series.borders),
        key=lambda one: -one[0],
    )  # fmt: skip


def by_gradient(found: SectionBorders) -> Ranked:
    """Maxima of the difference of block means, features in units of their spread on the section."""
    every = np.concatenate([run.features for run in found.runs]) if found.runs else np.zeros((1, 10))
    spread, heights = every.std(0) + 1e-12, []
    for run in found.runs:
        if len(run.features) < 2 * BLOCK:
            continue
        mean = np.lib.stride_tricks.sliding_window_view(run.features / spread, BLOCK, axis=0).mean(-1)
        height = np.linalg.norm(mean[BLOCK:] - mean[:-BLOCK], axis=1)
        top = np.flatnonzero(height == maximum_filter1d(height, BLOCK + 1))
        heights += [
            (float(height[k]), run.line.hemisphere, *between(run, int(k) + BLOCK - 1, found.pixel_um)) for k in top
        ]
    return sorted(heights, key=lambda one: -one[0])


def places(found: SectionBorders) -> Ranked:
    """Every place at which a border could be found, of equal strength."""
    return [
        (0.0, run.line.hemisphere, *between(run, k, found.pixel_um))
        for run in found.runs
        for k in range(len(run.features) - 1)
    ]


def strongest(ranked: Sequence[Sequence[Any]], count: int) -> Points:
    """The first so many."""
    points: dict[str, list[Sequence[float]]] = defaultdict(list)
    for _, side, x, y in ranked[:count]:
        points[side].append((x, y))
    return points


def by_lot(ranked: Sequence[Sequence[Any]], count: int, rng: np.random.Generator) -> Points:
    """So many drawn at random."""
    return strongest(
        [ranked[k] for k in rng.choice(len(ranked), min(count, len(ranked)), replace=False)] if ranked else [], count
    )


def of_map(graph: MeshGraph, probabilities: NDArray[np.floating], section: Section) -> Points:
    """Where the most probable area of a map [V, K] changes along the ribbon of its own mesh."""
    points: dict[str, list[Sequence[float]]] = defaultdict(list)
    lines = ribbon_lines(graph, section.mm_to_pixel, section.pixel_um, every_mm=EVERY_MM)
    for line in on_section(lines, section.shape):
        classes = line.interpolated(probabilities).argmax(1)
        middle = line.middle_px * section.pixel_um / 1000
        points[line.hemisphere] += [((middle[k] + middle[k + 1]) / 2).tolist() for k in changes(classes)]
    return points


def length_mm(found: SectionBorders) -> float:
    """Of the ribbon that was looked at."""
    return sum(float(run.line.position_mm[-1] - run.line.position_mm[0]) for run in found.runs)


def count(points: Points) -> int:
    return sum(len(own) for own in points.values())


class Score:
    """Sums over sections of one method."""

    def __init__(self, reach_mm: float = REACH_MM) -> None:
        self.reach_mm, self.length_mm, self.alarms, self.found = reach_mm, 0.0, 0, 0
        self.errors: dict[bool, list[float]] = {True: [], False: []}
        self.true = {True: 0, False: 0}

    def add(self, truth: Mapping[bool, Points], points: Points, length_mm: float) -> None:
        """A section. Args: truth: by sharpness; length_mm: of its ribbon."""
        self.length_mm += length_mm
        for side in "LR":
            own = np.array(points.get(side, [])).reshape(-1, 2)
            every = [p for kind in truth.values() for p in kind.get(side, [])]
            self.found += len(own)
            if len(own):
                away = cKDTree(np.array(every)).query(own)[0] if every else np.full(len(own), np.inf)
                self.alarms += int((away > self.reach_mm).sum())
            for sharp, kind in truth.items():
                there = np.array(kind.get(side, [])).reshape(-1, 2)
                self.true[sharp] += len(there)
                if len(there) and len(own):
                    away = cKDTree(own).query(there)[0]
                    self.errors[sharp] += away[away <= self.reach_mm].tolist()

    def row(self) -> dict[str, Any]:
        """found, false_per_10_mm, and of sharp and gradual borders how many there are, detected (share), error_mm."""
        row: dict[str, Any] = {
            "found": self.found, "false_per_10_mm": round(10 * self.alarms / max(self.length_mm, 1e-9), 2),
        }  # fmt: skip
        for sharp, word in ((True, "sharp"), (False, "gradual")):
            errors = self.errors[sharp]
            row[f"{word}_borders"] = self.true[sharp]
            row[f"{word}_detected"] = round(len(errors) / self.true[sharp], 3) if self.true[sharp] else None
            row[f"{word}_error_mm"] = round(float(np.mean(errors)), 3) if errors else None
        return row

"""Borders without an observer on a virtual brain, whose borders are known: detected share, false alarms, error in mm.

The ribbon is that of the true surfaces where the section truly lies, so that only the finding of borders is judged. A
true border is detected if a found one lies within `--reach-mm` of it on the section, and its error is the distance to
the nearest of those; a found one with no true border that near is a false alarm. Sharp borders are 0.3 mm wide, the
others 1 to 3 mm.

    schleicher      Hotelling's T2, as `python -m meshgnn.borders` finds them
    confirmed       those that a neighbouring section of the stack has too
    strongest       of schleicher, as many of the largest distance as there are true borders
    gradient        differences of the mean features of two blocks of 16, as many of the largest as schleicher has
    random          as many places drawn at random
    schleicher_N, schleicher_p_N
                    the strongest of all sections, with N false ones per 10 mm, by squared distance or by p
    network         where the named run's map changes its area, on its own mesh, whose errors are in it

With --mesh the borders are those that a user gets, on the ribbon of a reconstruction, which has errors of its own.

    python benchmarks/borders.py [--stack STACK] [--mesh MESH] [--run RUN --brain NAME] [--sections N]
        [--quick] [--json FILE]
"""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402
from scipy.ndimage import maximum_filter1d  # noqa: E402
from scipy.spatial import cKDTree  # noqa: E402

from benchmarks._pairs import keep, show  # noqa: E402
from meshgnn.borders.command import read_mesh  # noqa: E402
from meshgnn.borders.ribbon import on_section, ribbon_lines  # noqa: E402
from meshgnn.borders.section import (  # noqa: E402
    SectionBorderFinder,
    SectionBorders,
    border_points_px,
    changes,
    in_neighbours,
)
from meshgnn.export.stored import read_area_maps, read_sections  # noqa: E402
from meshgnn.graph import MeshGraph  # noqa: E402
from meshgnn.source.sections import read_stack  # noqa: E402
from meshgnn.source.surface_folder import SurfaceFolder  # noqa: E402
from meshgnn.source.virtual import VirtualBrain  # noqa: E402
from meshgnn.source.virtual.layout import LAYOUT  # noqa: E402
from meshgnn.source.virtual.truth import read_truth  # noqa: E402

SHARP = {spec.name for spec in LAYOUT if spec.sharp}
BLOCK = 16
Points = dict[str, list[np.ndarray]]  # by hemisphere, [2] mm on the section


def between(run: Any, places: np.ndarray, pixel_um: float) -> list[np.ndarray]:
    middle = run.line.middle_px * pixel_um / 1000
    return [(middle[k] + middle[k + 1]) / 2 for k in places]


def true_borders(found: SectionBorders, graph: MeshGraph) -> dict[bool, Points]:
    """By sharpness. A stretch shorter than 1 mm is a touch of the plane and a border's bend, no area."""
    names, points = graph.areas.names, {True: defaultdict(list), False: defaultdict(list)}
    shares = np.eye(len(names) + 1)[graph.labels]
    for run in found.runs:
        classes = run.line.interpolated(shares).argmax(1)
        classes[classes == len(names)] = -1
        places = changes(classes)
        step = np.median(np.diff(run.line.position_mm)) if len(classes) > 1 else 1
        short = np.zeros(len(places), bool)
        near = np.flatnonzero(np.diff(places) * step < 1)
        short[near], short[near + 1] = True, True
        for place in places[~short]:
            sharp = bool({names[classes[place]], names[classes[place + 1]]} & SHARP)
            points[sharp][run.line.hemisphere] += between(run, [place], found.pixel_um)
    return points


def schleicher(found: SectionBorders, confirmed: bool) -> Points:
    points: Points = defaultdict(list)
    for number, run in enumerate(found.runs):
        kept = [k for k in range(len(run.series.borders)) if not confirmed or found.supported[number][k]]
        own = border_points_px(run) * found.pixel_um / 1000
        points[run.line.hemisphere] += list(own[kept])
    return points


def strongest(found: SectionBorders, count: int) -> Points:
    every = [(one.distance2, run, one.place) for run in found.runs for one in run.series.borders]
    points: Points = defaultdict(list)
    for _, run, place in sorted(every, key=lambda one: -one[0])[:count]:
        points[run.line.hemisphere] += between(run, [place], found.pixel_um)
    return points


def gradient(found: SectionBorders, count: int) -> Points:
    """Maxima of the difference of block means, features in units of their spread on the section."""
    every = np.concatenate([run.features for run in found.runs]) if found.runs else np.zeros((1, 10))
    spread, heights = every.std(0) + 1e-12, []
    for run in found.runs:
        if len(run.features) < 2 * BLOCK:
            continue
        mean = np.lib.stride_tricks.sliding_window_view(run.features / spread, BLOCK, axis=0).mean(-1)
        height = np.linalg.norm(mean[BLOCK:] - mean[:-BLOCK], axis=1)
        top = np.flatnonzero(height == maximum_filter1d(height, BLOCK + 1))
        heights += [(height[k], run, k + BLOCK - 1) for k in top]
    points: Points = defaultdict(list)
    for _, run, place in sorted(heights, key=lambda one: -one[0])[:count]:
        points[run.line.hemisphere] += between(run, [place], found.pixel_um)
    return points


Strong = list[tuple[float, int, str, np.ndarray]]  # strength, section, hemisphere, point in mm


def by_strength(found: list[SectionBorders], p_first: bool) -> Strong:
    """All borders of all sections, strongest first: by p, or by squared distance."""
    every: Strong = []
    for number, one in enumerate(found):
        for run in one.runs:
            for border in run.series.borders:
                [point] = between(run, [border.place], one.pixel_um)
                strength = -border.p if p_first else border.distance2
                every.append((strength, number, run.line.hemisphere, point))
    return sorted(every, key=lambda one: -one[0])


def with_false(every: Strong, true: list[dict[bool, Points]], lengths: list[float], false: float, reach: float) -> Any:
    """The score of the strongest, as many as have at most `false` false ones per 10 mm; None where there are fewer."""
    alarms, count = 0, None
    for place, (_, number, side, point) in enumerate(every):
        there = np.array([p for kind in true[number].values() for p in kind.get(side, [])]).reshape(-1, 2)
        alarms += not (len(there) and np.linalg.norm(there - point, axis=1).min() <= reach)
        if 10 * alarms / sum(lengths) > false:
            count = place
            break
    if count is None:
        return None
    score = Score(reach)
    for number, (known, length) in enumerate(zip(true, lengths)):
        points: Points = defaultdict(list)
        for _, section, side, point in every[:count]:
            if section == number:
                points[side].append(point)
        score.add(known, points, length)
    return score


def drawn_by_lot(found: SectionBorders, count: int, rng: np.random.Generator) -> Points:
    every = [(run, k) for run in found.runs for k in range(len(run.features) - 1)]
    points: Points = defaultdict(list)
    for number in rng.choice(len(every), min(count, len(every)), replace=False) if every else ():
        run, place = every[number]
        points[run.line.hemisphere] += between(run, [place], found.pixel_um)
    return points


def of_network(area_map: Any, section: Any) -> Points:
    """Where the map's most probable area changes along the ribbon of its own mesh."""
    graph, points = area_map.graph, defaultdict(list)
    lines = on_section(ribbon_lines(graph, section.mm_to_pixel, section.pixel_um, every_mm=0.2), section.shape)
    for line in lines:
        classes = line.interpolated(area_map.probabilities).argmax(1)
        middle = line.middle_px * section.pixel_um / 1000
        points[line.hemisphere] += [(middle[k] + middle[k + 1]) / 2 for k in changes(classes)]
    return points


class Score:
    """Sums over sections of one method."""

    def __init__(self, reach_mm: float) -> None:
        self.reach_mm, self.length_mm, self.alarms, self.found = reach_mm, 0.0, 0, 0
        self.errors: dict[bool, list[float]] = {True: [], False: []}
        self.true = {True: 0, False: 0}

    def add(self, truth: dict[bool, Points], points: Points, length_mm: float) -> None:
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

    def row(self, name: str) -> dict[str, Any]:
        row: dict[str, Any] = {"name": name, "found": self.found,
                               "false_per_10_mm": round(10 * self.alarms / max(self.length_mm, 1e-9), 2)}  # fmt: skip
        for sharp, word in ((True, "sharp"), (False, "gradual")):
            errors = self.errors[sharp]
            row[f"{word}_borders"] = self.true[sharp]
            row[f"{word}_detected"] = round(len(errors) / self.true[sharp], 3) if self.true[sharp] else None
            row[f"{word}_error_mm"] = round(float(np.mean(errors)), 3) if errors else None
        return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stack", type=Path, help="a virtual brain; made (default preset) if absent")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--mesh", type=Path, help="its reconstruction, whose ribbon is taken")
    parser.add_argument("--run", type=Path, help="finished run whose map of this brain is judged too")
    parser.add_argument("--brain", default="")
    parser.add_argument("--sections", type=int, default=0, help="only so many, next to each other in the middle")
    parser.add_argument("--reach-mm", type=float, default=1.0)
    parser.add_argument("--quick", action="store_true", help="a quick brain, four sections")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.stack or Path(name) / "stack"
        if options.stack is None:
            preset = "quick" if options.quick else "default"
            VirtualBrain.Config(seed=options.seed, preset=preset).build().write(folder)
        rows = measured(options, folder, 4 if options.quick else options.sections)
    for one in rows:
        show(one)
    keep(rows, options.json)


def place_of(truth: Any, number: int) -> Any:
    return lambda points: truth.to_section(number, points)


def measured(options: argparse.Namespace, folder: Path, many: int) -> list[dict[str, Any]]:
    stack, truth = read_stack(folder).usable(), read_truth(folder)
    graph = SurfaceFolder.Config(folder=folder / "truth", atlas="virtual").build().read().graph
    middle = len(stack) // 2
    sections = stack.sections[max(0, middle - many // 2) :][:many] if many else stack.sections
    finder, start, found = SectionBorderFinder.Config().build(), time.perf_counter(), []
    known = []
    if options.mesh is not None:
        made, stack = read_mesh(options.mesh, folder)
        sections = tuple(stack.at(one.index) for one in sections if one.index in {k.index for k in stack})
    for section in sections:
        place = place_of(truth, section.index)
        if options.mesh is not None:
            runs, left_out = finder.runs(section, graph, place)
            known.append(
                SectionBorders(section=section.index, pixel_um=section.pixel_um, runs=tuple(runs), left_out=left_out)
            )
            found.append(finder.find(section, made))
        else:
            found.append(finder.find(section, graph, place))
    seconds = (time.perf_counter() - start) / max(len(sections), 1)
    found = in_neighbours(found, {one.index: one for one in sections})
    known = known or found
    area_map = placed = None
    if options.run is not None:
        maps = read_area_maps(options.run)
        stored = maps[options.brain or next(iter(maps))]
        area_map, (placed, _) = stored.area_map, read_sections(stored, folder)
    scores: dict[str, Score] = defaultdict(lambda: Score(options.reach_mm))
    rng = np.random.default_rng(0)
    truths, lengths = [], []
    for one, seen in zip(found, known):
        true = true_borders(seen, graph)
        count = sum(len(run.series.borders) for run in one.runs)
        expected = sum(len(points) for kind in true.values() for points in kind.values())
        length = sum(float(run.line.position_mm[-1] - run.line.position_mm[0]) for run in one.runs)
        truths.append(true)
        lengths.append(length)
        methods = {
            "schleicher": schleicher(one, False), "confirmed": schleicher(one, True),
            "strongest": strongest(one, expected), "gradient": gradient(one, count),
            "gradient_strongest": gradient(one, expected), "random": drawn_by_lot(one, count, rng),
            "random_few": drawn_by_lot(one, expected, rng),
        }  # fmt: skip
        if area_map is not None and placed is not None and one.section in {k.index for k in placed}:
            methods["network"] = of_network(area_map, placed.at(one.section))
        for name, points in methods.items():
            scores[name].add(true, points, length)
    for false in (0.1, 0.2, 0.4, 0.8):
        for name, every in (("schleicher", by_strength(found, False)), ("schleicher_p", by_strength(found, True))):
            if (score := with_false(every, truths, lengths, false, options.reach_mm)) is not None:
                scores[f"{name}_{false:g}"] = score
    rows = [score.row(name) for name, score in scores.items()]
    return [*rows, {"name": "seconds_per_section", "value": round(seconds, 2)}]


if __name__ == "__main__":
    main()

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
    surrogates, surrogates_0.5
                    borders that stand out from surrogates (--surrogates) with at most 5 % (50 %) false ones expected
    surrogates_ranked_N
                    the strongest by that share, with N false ones per 10 mm
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
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402

from benchmarks._pairs import keep, show  # noqa: E402
from meshgnn.borders.command import read_mesh  # noqa: E402
from meshgnn.borders.judged import (  # noqa: E402
    Points,
    Score,
    between,
    by_distance,
    by_gradient,
    by_lot,
    count,
    length_mm,
    of_map,
    places,
    strongest,
    true_borders,
)
from meshgnn.borders.section import (  # noqa: E402
    SectionBorderFinder,
    SectionBorders,
    border_points_px,
    in_neighbours,
)
from meshgnn.export.stored import read_area_maps, read_sections  # noqa: E402
from meshgnn.source.sections import read_stack  # noqa: E402
from meshgnn.source.surface_folder import SurfaceFolder  # noqa: E402
from meshgnn.source.virtual import VirtualBrain  # noqa: E402
from meshgnn.source.virtual.layout import LAYOUT  # noqa: E402
from meshgnn.source.virtual.truth import read_truth  # noqa: E402

SHARP = {spec.name for spec in LAYOUT if spec.sharp}


def schleicher(found: SectionBorders, confirmed: bool) -> Points:
    points: Points = defaultdict(list)
    for number, run in enumerate(found.runs):
        kept = [k for k in range(len(run.series.borders)) if not confirmed or found.supported[number][k]]
        own = border_points_px(run) * found.pixel_um / 1000
        points[run.line.hemisphere] += list(own[kept])
    return points


Strong = list[tuple[tuple[float, float], int, str, np.ndarray]]  # strength, section, hemisphere, point in mm


def by_strength(found: list[SectionBorders], by: str) -> Strong:
    """All borders of all sections, strongest first: by `p`, `distance2` or `q`, ties by distance."""
    every: Strong = []
    for number, one in enumerate(found):
        for run in one.runs:
            for border in run.series.borders:
                point = np.array(between(run, border.place, one.pixel_um))
                strength = border.distance2 if by == "distance2" else -getattr(border, by)
                every.append(((strength, border.distance2), number, run.line.hemisphere, point))
    return sorted(every, key=lambda one: one[0], reverse=True)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stack", type=Path, help="a virtual brain; made (default preset) if absent")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--mesh", type=Path, help="its reconstruction, whose ribbon is taken")
    parser.add_argument("--run", type=Path, help="finished run whose map of this brain is judged too")
    parser.add_argument("--brain", default="")
    parser.add_argument("--sections", type=int, default=0, help="only so many, next to each other in the middle")
    parser.add_argument("--reach-mm", type=float, default=1.0)
    parser.add_argument("--surrogates", type=int, default=0, help="so many of every series, too")
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


def below(found: SectionBorders, level: float) -> SectionBorders:
    """Its borders of at most this q."""
    return replace(found, runs=tuple(
        replace(run, series=replace(run.series, borders=tuple(one for one in run.series.borders if one.q <= level)))
        for run in found.runs
    ))  # fmt: skip


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
    above: list[SectionBorders] = []
    if options.surrogates:
        # All borders keep their q, so that they can be ranked; those below 0.05 are what the command would write.
        strict = SectionBorderFinder.Config(surrogates=options.surrogates, false_share=1.0).build()
        begun = time.perf_counter()
        for section in sections:
            ribbon = (made, None) if options.mesh is not None else (graph, place_of(truth, section.index))
            above.append(strict.find(section, *ribbon))
        slow = (time.perf_counter() - begun) / max(len(sections), 1)
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
        true = true_borders(seen, graph, SHARP)
        every, expected = len(by_distance(one)), sum(count(kind) for kind in true.values())
        length = length_mm(one)
        truths.append(true)
        lengths.append(length)
        methods = {
            "schleicher": schleicher(one, False), "confirmed": schleicher(one, True),
            "strongest": strongest(by_distance(one), expected), "gradient": strongest(by_gradient(one), every),
            "gradient_strongest": strongest(by_gradient(one), expected), "random": by_lot(places(one), every, rng),
            "random_few": by_lot(places(one), expected, rng),
        }  # fmt: skip
        if area_map is not None and placed is not None and one.section in {k.index for k in placed}:
            methods["network"] = of_map(area_map.graph, area_map.probabilities, placed.at(one.section))
        for name, points in methods.items():
            scores[name].add(true, points, length)
    for one, true, length in zip(above, truths, lengths):
        for name, level in (("surrogates", 0.05), ("surrogates_0.5", 0.5)):
            scores[name].add(true, schleicher(below(one, level), False), length)
    ranked = {"schleicher": by_strength(found, "distance2"), "schleicher_p": by_strength(found, "p")}
    if above:
        ranked["surrogates_ranked"] = by_strength(above, "q")
    for false in (0.1, 0.2, 0.4, 0.8):
        for name, every in ranked.items():
            if (score := with_false(every, truths, lengths, false, options.reach_mm)) is not None:
                scores[f"{name}_{false:g}"] = score
    rows = [{"name": name, **score.row()} for name, score in scores.items()]
    rows.append({"name": "seconds_per_section", "value": round(seconds, 2)})
    return [*rows, {"name": "seconds_with_surrogates", "value": round(slow, 2)}] if above else rows


if __name__ == "__main__":
    main()

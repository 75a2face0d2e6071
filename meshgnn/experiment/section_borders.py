"""Borders on a few sections of every unseen brain whose truth is known: the network's beside Schleicher's.

tables/borders.json     by brain and section: true borders, and what was found without the network, strongest first
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.borders.judged import (
    REACH_MM,
    Score,
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
from meshgnn.borders.section import SectionBorderFinder, SectionBorders
from meshgnn.graph import MeshGraph
from meshgnn.progress import Progress
from meshgnn.results.areas import BorderScores, BorderTable
from meshgnn.sockets import Brain
from meshgnn.source.sections import Section
from meshgnn.source.surface_folder import SurfaceFolder
from meshgnn.source.virtual.layout import LAYOUT
from meshgnn.source.virtual.truth import read_truth, true_hemispheres

FILE = "tables/borders.json"
TRUTH = "truth"
NETWORK, SCHLEICHER, GRADIENT, RANDOM = "network", "schleicher", "gradient", "random"
LOTS = 10  # draws of random places, of which the mean is judged


def chosen(sections: Sequence[Section], many: int) -> list[Section]:
    """So many usable sections, evenly spread over the middle half of the brain."""
    usable = [section for section in sections if section.usable]
    at = np.linspace(len(usable) / 4, 3 * len(usable) / 4, min(many, len(usable))).astype(int)
    return [usable[k] for k in np.unique(at.clip(0, len(usable) - 1))] if many and usable else []


def found_on(brain: Brain, stack: Path, many: int, progress: Progress) -> list[dict[str, Any]]:
    """What is true and what is found without a network, on so many sections of one brain.

    Nothing where the stack holds no truth of a virtual brain, or the mesh no surfaces pial and white.

    True borders lie on the true ribbon where the section truly lies; found ones on the ribbon of the brain's own mesh.

    Raises:
        InputError: an image or a truth that cannot be read.
    """
    told = true_hemispheres(stack) and (stack / TRUTH / "warps.npz").is_file()
    if not told or not {"pial", "white"} <= set(brain.graph.surfaces):
        return []
    truth, finder = read_truth(stack), SectionBorderFinder.Config().build()
    graph = SurfaceFolder.Config(folder=stack / TRUTH, atlas="virtual").build().read().graph
    sharp, rows = {spec.name for spec in LAYOUT if spec.sharp}, []
    wanted = chosen(brain.section_stack().sections, many)
    for number, section in enumerate(wanted):

        def place(points: NDArray[np.floating], index: int = section.index) -> Any:
            return truth.to_section(index, points)

        runs, left_out = finder.runs(section, graph, place)
        known = SectionBorders(section=section.index, pixel_um=section.pixel_um, runs=tuple(runs), left_out=left_out)
        found = finder.find(section, brain.graph)
        true = true_borders(known, graph, sharp)
        rows.append({
            "section": section.index, "length_mm": length_mm(found),
            "sharp": true[True], "gradual": true[False],
            SCHLEICHER: by_distance(found), GRADIENT: by_gradient(found), RANDOM: places(found),
        })  # fmt: skip
        progress("borders", number + 1, len(wanted))
    return rows


def judged(
    found: Mapping[str, Sequence[Mapping[str, Any]]], brains: Mapping[str, Brain],
    maps: Mapping[str, tuple[MeshGraph, NDArray[np.floating]]],
) -> BorderTable | None:  # fmt: skip
    """The table of a run; None where no brain has a truth.

    The others are judged with as many borders on every section as the network has there.

    Args:
        found: by brain, what `found_on` gave.
        brains: with their sections; maps: graph and probabilities [V, K] of the network.
    """
    scores = {name: Score() for name in (NETWORK, SCHLEICHER, GRADIENT)}
    lots, rng = [Score() for _ in range(LOTS)], np.random.default_rng(0)
    found = {name: rows for name, rows in found.items() if rows}
    for name, rows in found.items():
        stack = brains[name].section_stack()
        for row in rows:
            true = {True: row["sharp"], False: row["gradual"]}
            own = of_map(*maps[name], stack.at(row["section"]))
            many, length = count(own), row["length_mm"]
            scores[NETWORK].add(true, own, length)
            for other in (SCHLEICHER, GRADIENT):
                scores[other].add(true, strongest(row[other], many), length)
            for lot in lots:
                lot.add(true, by_lot(row[RANDOM], many, rng), length)
    if not scores[NETWORK].length_mm:
        return None
    table = {name: BorderScores(**score.row()) for name, score in scores.items()}
    return BorderTable(
        reach_mm=REACH_MM,
        sections={name: tuple(row["section"] for row in rows) for name, rows in found.items()},
        rows={**table, RANDOM: BorderScores(**_mean([lot.row() for lot in lots]))},
    )


def _mean(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of every column; counts stay whole."""
    mean: dict[str, Any] = {}
    for key in rows[0]:
        told = [row[key] for row in rows if row[key] is not None]
        whole = all(isinstance(value, int) for value in told)
        mean[key] = (round(float(np.mean(told))) if whole else round(float(np.mean(told)), 3)) if told else None
    return mean

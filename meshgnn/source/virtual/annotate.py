"""Annotations as a brain mapper would make them: which sections, label images, polygons."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from meshgnn.errors import InputError
from meshgnn.source.polygons import outlines, to_geojson
from meshgnn.source.virtual.areas import ISOCORTEX, LAYOUT, RADIUS_MM
from meshgnn.source.virtual.cut import Slice
from meshgnn.source.virtual.fields import SmoothField, flow_on_sphere
from meshgnn.source.virtual.laminae import Cortex, Reals

KEYS = np.zeros(256, np.uint8)  # label-file key of every canvas label
KEYS[: len(LAYOUT)] = np.where(ISOCORTEX[:-1], np.cumsum(ISOCORTEX[:-1]), 0)
NOT_ISOCORTEX = int(ISOCORTEX.sum()) + 1
KEYS[: len(LAYOUT) + 1][~ISOCORTEX] = NOT_ISOCORTEX
COVERED_MM2 = 1.0  # an area crosses a section if it shows at least this much there


def choose_sections(
    shown_mm2: npt.NDArray[np.floating], usable: npt.NDArray[np.bool_], every: int, names: list[str]
) -> npt.NDArray[np.int64]:
    """Every n-th usable section, in the phase that misses least, plus as few more as bring every area to two.

    Args:
        shown_mm2: [N, Q] how much of every area (of each hemisphere) every section shows.
        usable: [N].
        every: n.
        names: Q names, for the error.

    Raises:
        InputError: an area shows on fewer than two usable sections at all.
    """
    able = np.flatnonzero(usable)
    crosses = shown_mm2 >= COVERED_MM2
    short = crosses[able].sum(0) < 2
    if short.any():
        raise InputError(
            f"virtual brain: area {names[int(short.argmax())]} crosses fewer than two sections; "
            "choose a smaller spacing_mm"
        )
    phases = [able[start::every] for start in range(min(every, len(able)))]
    lacking = [int(np.maximum(2 - crosses[phase].sum(0), 0).sum()) for phase in phases]
    chosen = set(phases[int(np.argmin(lacking))].tolist())
    while True:
        lack = crosses[sorted(chosen)].sum(0) < 2
        if not lack.any():
            return np.array(sorted(chosen), np.int64)
        rest = np.array([k for k in able if k not in chosen])
        gain = crosses[rest][:, lack].sum(1) + 1e-6 * np.minimum(shown_mm2[rest][:, lack], 100).sum(1)
        chosen.add(int(rest[int(gain.argmax())]))


def mapper_scores(cortex: Cortex, part: Slice, rng: np.random.Generator, error_mm: float) -> Reals:
    """Area scores [V, K] as a mapper sees them on one section: the layout shifted by a smooth error along the cortex.

    Only the nodes that the slice touches are filled in.
    """
    scores = cortex.scores_mm.copy()
    if error_mm > 0 and len(part.face):
        nodes = np.unique(cortex.hemisphere.faces[part.face])
        error = SmoothField.draw(rng, scale_mm=5, sd=error_mm / np.sqrt(2), channels=3, waves=32)
        moved = flow_on_sphere(cortex.hemisphere.sphere[nodes], error, RADIUS_MM, steps=1)
        scores[nodes] = cortex.fields.scores_mm(moved)
    return scores


def share_out(
    shown_mm2: npt.NDArray[np.floating], areas_per_section: tuple[int, int], rng: np.random.Generator
) -> list[npt.NDArray[np.bool_]]:
    """Which isocortical areas [K] a mapper draws on each annotated section: those drawn least so far come first.

    Args:
        shown_mm2: [N, K] how much of every area each annotated section shows.
        areas_per_section: least and most; (0, 0) = all.
    """
    least, most = areas_per_section
    drawn = np.zeros(shown_mm2.shape[1])
    out = []
    for shown in shown_mm2:
        pick = np.ones(len(drawn), bool)
        if most:
            able = np.flatnonzero(shown >= COVERED_MM2)
            order = np.lexsort((rng.permutation(len(able)), drawn[able]))
            pick[:] = False
            pick[able[order[: rng.integers(least, most + 1)]]] = True
        drawn += pick
        out.append(pick)
    return out


def mistaken(
    cortex: Cortex, part: Slice, scores: Reals, rng: np.random.Generator, rate: float
) -> tuple[Reals, list[dict[str, Any]]]:
    """Area scores [V, K] of a mapper who is sometimes wrong, and what he got wrong.

    Each isocortical area of the section is wrong with chance `rate`: exchanged with the neighbour it has most of its
    border with, or its border moved in or out by 2 to 5 mm.
    """
    records: list[dict[str, Any]] = []
    if rate <= 0 or not len(part.face):
        return scores, records
    scores = scores.copy()
    nodes = np.unique(cortex.hemisphere.faces[part.face])
    order = np.argsort(scores[nodes], axis=1)
    first, second = order[:, -1], order[:, -2]
    for k in np.unique(first).tolist():
        wrong, kind, way = rng.uniform() < rate, rng.integers(2), rng.uniform(2, 5) * rng.choice([-1.0, 1.0])
        if not wrong or not ISOCORTEX[k]:
            continue
        if kind == 0:
            other = int(np.bincount(second[first == k]).argmax())
            scores[:, [k, other]] = scores[:, [other, k]]
            records.append({"kind": "exchanged", "area": LAYOUT[k].name, "with": LAYOUT[other].name})
        else:
            scores[:, k] += 2 * way  # a border lies at half the gap between scores
            records.append({"kind": "border moved", "area": LAYOUT[k].name, "by_mm": round(way, 2)})
    return scores, records


def polygons(labels: npt.NDArray[np.uint8], table: list[dict[str, Any]], *, coarse: int = 4) -> dict[str, Any]:
    """The areas of a label image [rows, columns] of keys as GeoJSON, outlined on every `coarse`-th pixel.

    Args:
        table: as in areas.json.
    """
    small = labels[coarse // 2 :: coarse, coarse // 2 :: coarse].astype(np.int32)
    names = {int(row["key"]): str(row["name"]) for row in table}
    colours = {int(row["key"]): row["colour"] for row in table}
    return to_geojson(outlines(np.where(small > 0, small, -1), step=coarse), names, colours)


def write_polygons(path: Path, collection: dict[str, Any]) -> None:
    path.write_text(json.dumps(collection, separators=(",", ":")) + "\n", encoding="utf-8")


def area_table() -> list[dict[str, Any]]:
    """Keys, names and colours of the label images; the last key gathers what is not isocortex."""
    from meshgnn.source.virtual.areas import isocortical_areas

    areas = isocortical_areas()
    table: list[dict[str, Any]] = [
        {"key": key, "name": name, "colour": [round(float(c), 3) for c in colour], "isocortex": True}
        for key, name, colour in zip(areas.keys, areas.names, areas.colours)
    ]
    return [*table, {"key": NOT_ISOCORTEX, "name": "not isocortex", "colour": [0.6, 0.6, 0.6, 1.0], "isocortex": False}]

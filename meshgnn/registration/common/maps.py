"""Areas of several brains on one mesh: probability, maximum probability, and what a way there and back costs.

V vertices of the common mesh, N of a brain's own, K areas, B brains.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.graph import Areas, MeshGraph
from meshgnn.mesh.metric import vertex_areas
from meshgnn.mesh.record import frozen
from meshgnn.registration.match import Match, resample, resample_labels

Figures = dict[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class AreaMaps:
    """Areas of several brains on the vertices of one hemisphere.

    Args:
        probability: [V, K] float32: share of the brains of `count` in which an area lies at a vertex.
        count: [V] int32: brains whose cortex, with areas drawn on it, reaches a vertex.
        maximum: [V] int32: the most frequent area, -1 where none is more frequent than no area; of equals the first.
    """

    probability: NDArray[np.float32]
    count: NDArray[np.int32]
    maximum: NDArray[np.int32]

    def __post_init__(self) -> None:
        for name, kind in (("probability", np.float32), ("count", np.int32), ("maximum", np.int32)):
            object.__setattr__(self, name, frozen(getattr(self, name), kind))

    @property
    def best(self) -> NDArray[np.float32]:
        """[V] probability of the area in `maximum`, 0 where there is none."""
        chosen = self.probability[np.arange(len(self.maximum)), np.maximum(self.maximum, 0)]
        return np.where(self.maximum < 0, np.float32(0), chosen)


def joined_areas(brains: Sequence[MeshGraph]) -> tuple[Areas, list[NDArray[np.int32]]]:
    """All areas of several brains, by name, in the order in which they come up; and each brain's labels [N] in it.

    Colours are those of the first brain that has an area.
    """
    names: dict[str, NDArray[np.float32]] = {}
    labels = []
    for brain in brains:
        for name, colour in zip(brain.areas.names, brain.areas.colours):
            names.setdefault(name, colour)
        order = {name: k for k, name in enumerate(names)}
        number = np.array([*(order[name] for name in brain.areas.names), -1], np.int32)
        labels.append(number[brain.labels])
    colours = np.array(list(names.values()), np.float32).reshape(-1, 4)
    return Areas(names=tuple(names), colours=colours), labels


def area_maps(labels: Sequence[NDArray[np.integer]], cortex: Sequence[NDArray[np.bool_]], areas: int) -> AreaMaps:
    """Maps of one hemisphere.

    Args:
        labels: of each brain, on the common mesh [V]; -1 is no area.
        cortex: of each brain [V].
        areas: K.

    Raises:
        InputError: no brain, no area, or brains of different lengths.
    """
    if not labels or not areas or len({one.shape for one in (*labels, *cortex)}) != 1:
        raise InputError("maps of areas need brains with areas, on one mesh")
    votes = np.zeros((len(labels[0]), areas + 1), np.int32)  # the last column: no area
    for own, inside in zip(labels, cortex):
        where = np.flatnonzero(inside)
        votes[where, own[where]] += 1
    count = votes.sum(1)
    best = votes[:, :-1].argmax(1)
    known = votes[np.arange(len(votes)), best] > votes[:, -1]
    return AreaMaps(
        probability=votes[:, :-1] / np.maximum(count, 1)[:, None], count=count, maximum=np.where(known, best, -1)
    )


def round_trip(match: Match, brain: MeshGraph, points_mm: NDArray[np.floating], place: slice) -> Figures:
    """What values of a brain lose on the way to the common mesh and back, by interpolation alone: nothing here says
    whether the registration is right.

    Args:
        match: of one hemisphere, moving to the common mesh.
        brain: the moving brain.
        points_mm: [V, 3] the common mesh's own vertices, for the other way round.
        place: the hemisphere's nodes in the brain.

    Returns:
        place_mm_mean, place_mm_p95: distance of nodes from where their coordinates come back to; place_there_mm_mean
        the same of the common mesh's vertices. area_share: share of the area of labelled cortex whose label comes
        back. For every column of the brain's tables NAME_rms (in its units) and NAME_r, correlation, both in cortex.
    """
    mesh = next(mesh for mesh, one in zip(brain.meshes, brain.slices().values()) if one == place)
    there, back = match.to_fixed, match.to_moving
    own = np.asarray(mesh.vertices_mm, np.float64)
    off = np.linalg.norm(resample(back, resample(there, own)) - own, axis=1)
    off_there = np.linalg.norm(resample(there, resample(back, points_mm)) - points_mm, axis=1)
    told = {
        "place_mm_mean": float(off.mean()), "place_mm_p95": float(np.percentile(off, 95)),
        "place_there_mm_mean": float(off_there.mean()),
    }  # fmt: skip
    cortex, labels = brain.cortex[place], brain.labels[place]
    counted = cortex & (labels >= 0)
    if counted.any():
        came = resample_labels(back, resample_labels(there, labels))
        area = vertex_areas(mesh)[counted]
        told["area_share"] = float((area * (came == labels)[counted]).sum() / area.sum())
    for table in brain.tables.values():
        inside = table.mask[place] & cortex
        for name, column in zip(table.columns, np.asarray(table.values[place], np.float64).T):
            if inside.sum() > 2 and column[inside].std() > 0:
                came_back = resample(back, resample(there, np.where(inside, column, column[inside].mean())))
                wrong = (came_back - column)[inside]
                told[f"{name}_rms"] = float(np.sqrt((wrong**2).mean()))
                told[f"{name}_r"] = float(np.corrcoef(came_back[inside], column[inside])[0, 1])
    return told


def overlap(labels: Mapping[str, NDArray[np.integer]], share: NDArray[np.floating], areas: int) -> Figures:
    """How well areas of several brains lie on each other: mean Dice of each pair's areas, weighted by vertex area.

    Args:
        labels: by brain, on the common mesh [V]; -1 is no area.
        share: [V] area of the vertices.
        areas: K.
    """
    found = []
    names = list(labels)
    for k, one in enumerate(names):
        for other in names[k + 1 :]:
            for area in range(areas):
                a, b = labels[one] == area, labels[other] == area
                if a.any() and b.any():
                    found.append(2 * share[a & b].sum() / (share[a].sum() + share[b].sum()))
    return {"dice_mean": float(np.mean(found))} if found else {}

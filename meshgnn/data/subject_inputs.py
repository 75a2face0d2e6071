"""What models see of subjects: features of nodes relative to the training subjects, positions, and means of areas.

Values are not standardised within a brain, as for node tasks: how thick the cortex of a subject is, is what a trait may
be read from. They are standardised by what the training subjects have at the same area. V nodes of one brain, G
subjects, C features, S scales, U units (areas of each hemisphere), F features of a whole brain.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import Config as BaseConfig
from meshgnn.config import at
from meshgnn.data.inputs import NodeInputs, check_rounds
from meshgnn.data.split import inner_edges
from meshgnn.errors import InputError
from meshgnn.mesh.operators import one_ring_average
from meshgnn.source.subjects import Subjects, area_names


@dataclass(frozen=True, kw_only=True, eq=False)
class BrainValues:
    """One brain before anything is learnt.

    Args:
        raw: [V, C] values, gaps filled from neighbours.
        edges: [2, E] inside cortex.
        cortex: [V] bool.
        area: [V] int32, number of the common area and hemisphere that a node belongs to, -1 for none.
        side: [V] int32, 0 left, 1 right.
    """

    raw: NDArray[np.float32]
    edges: NDArray[np.int32]
    cortex: NDArray[np.bool_]
    area: NDArray[np.int32]
    side: NDArray[np.int32]

    def area_means(self, n_units: int) -> NDArray[np.float64]:
        """[U, C] means of every unit; NaN for one without a node."""
        inside = self.cortex & (self.area >= 0)
        count = np.bincount(self.area[inside], minlength=n_units)
        sums = [np.bincount(self.area[inside], column[inside], n_units) for column in self.raw.T.astype(np.float64)]
        total = np.stack(sums, axis=1) if sums else np.zeros((n_units, 0))
        return np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], np.nan)

    def brain_means(self) -> NDArray[np.float64]:
        """[C] means over the cortex."""
        return self.raw[self.cortex].mean(0, dtype=np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class CohortValues:
    """All brains of a cohort.

    Args:
        brains: G of them.
        features: names of the C features in use.
        units: names of the U areas ("L 46"); empty without a common parcellation.
    """

    brains: tuple[BrainValues, ...]
    features: tuple[str, ...]
    units: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class BrainInputs:
    """One brain as a network sees it: see `meshgnn.nn.graph_batch.BrainTensors`."""

    features: NDArray[np.float32]
    coordinates: NDArray[np.float32]
    edges: NDArray[np.int32]
    mask: NDArray[np.bool_]
    area: NDArray[np.int32]
    side: NDArray[np.int32]
    whole: NDArray[np.float32]


class SubjectInputs:
    """Chooses features and makes arrays of them."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            coordinates: give the model midthickness coordinates (mirrored between hemispheres).
            exclude: features to leave out.
            only: features to use, all if empty.
            rounds: further scales of every feature, in rounds of one-ring averages.
            relative: subtract from every feature its mean over the brain's own cortex, and give that mean to the model
                as a feature of the whole brain. Scanners and overall thickness shift the mean, most traits do not.
        """

        coordinates: bool = True
        exclude: tuple[str, ...] = ()
        only: tuple[str, ...] = ()
        rounds: tuple[int, ...] = (4,)
        relative: bool = True

        def __post_init__(self) -> None:
            check_rounds(self.rounds)

        def build(self) -> "SubjectInputs":
            return SubjectInputs(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def read(self, subjects: Subjects) -> CohortValues:
        """Raises InputError when a feature is unknown or has no value in a hemisphere, or none is left."""
        c = self.config
        chosen = NodeInputs.Config(exclude=c.exclude, only=c.only).build()
        with at("inputs"):
            names = chosen.names(subjects.subjects[0].graph)
        if not names:
            raise InputError("no feature left; brains need at least one, or inputs.exclude leaves none")
        areas = area_names(subjects)
        number = {name: 2 * k for k, name in enumerate(areas)}
        brains = []
        for subject in subjects.subjects:
            graph = subject.graph
            edges = inner_edges(graph)
            side = (graph.hemisphere == "R").astype(np.int32)
            of_class = np.array([*(number.get(name, -1) for name in graph.areas.names), -1])
            area = of_class[graph.labels]
            brains.append(
                BrainValues(
                    raw=chosen.raw(graph, edges, names).values, edges=edges, cortex=graph.cortex,
                    area=np.where(area >= 0, area + side, -1).astype(np.int32), side=side,
                )
            )  # fmt: skip
        units = tuple(f"{side} {name}" for name in areas for side in "LR")
        return CohortValues(brains=tuple(brains), features=names, units=units)

    def fit(
        self, subjects: Subjects, values: CohortValues, train: NDArray[np.bool_]
    ) -> tuple[list[BrainInputs], float]:
        """Inputs of all brains, standardised by the training subjects [G] alone, and the unit of coordinates in mm."""
        brains, known = values.brains, subjects.whole
        if self.config.relative:
            means = np.stack([brain.brain_means() for brain in brains])
            brains = tuple(
                replace(brain, raw=(brain.raw - mean).astype(np.float32)) for brain, mean in zip(brains, means)
            )
            known = np.concatenate([known, means], axis=1)
        scaling = Scaling.fit([brains[k] for k in np.flatnonzero(train)], len(values.units), self.config.rounds)
        whole = _whole(known, train)
        first = subjects.subjects[int(np.flatnonzero(train)[0])].graph
        frame = NodeInputs.Config().build().frame(first, first.cortex)
        made = []
        for subject, brain, own in zip(subjects.subjects, brains, whole):
            points = np.zeros((len(brain.raw), 0), np.float32)
            if self.config.coordinates:
                graph = subject.graph
                same = graph.space == frame.space
                points = frame.scaled(frame.coordinates_mm(graph, "mirror" if same else "similarity"))
            made.append(
                BrainInputs(
                    features=scaling.apply(brain), coordinates=points, edges=brain.edges, mask=brain.cortex,
                    area=brain.area, side=brain.side, whole=own,
                )
            )  # fmt: skip
        return made, frame.unit_mm


@dataclass(frozen=True, kw_only=True, eq=False)
class Scaling:
    """Standardisation by the training subjects.

    Args:
        centre, spread: [U + 1, C] mean and standard deviation of nodes in each unit; the last row is for all nodes.
        smooth: [S, C] standard deviation of the standardised values at every further scale.
        rounds: these scales.
    """

    centre: NDArray[np.float64]
    spread: NDArray[np.float64]
    smooth: NDArray[np.float64]
    rounds: tuple[int, ...]

    @staticmethod
    def fit(brains: Sequence[BrainValues], n_units: int, rounds: tuple[int, ...]) -> "Scaling":
        raw = np.concatenate([brain.raw[brain.cortex] for brain in brains]).astype(np.float64)
        area = np.concatenate([brain.area[brain.cortex] for brain in brains])
        place = np.where(area >= 0, area, n_units)
        count = np.maximum(np.bincount(place, minlength=n_units + 1), 1)[:, None]
        centre = _sums(place, raw, n_units + 1) / count
        # Nodes outside all areas, and areas that no training subject has, are measured by the whole cortex.
        empty = np.bincount(place, minlength=n_units + 1) < 2
        centre[empty] = raw.mean(0)
        spread = np.sqrt(_sums(place, (raw - centre[place]) ** 2, n_units + 1) / count)
        spread[empty] = raw.std(0)
        spread = np.where(spread > 1e-8, spread, 1)
        whole = Scaling(centre=centre, spread=spread, smooth=np.ones((len(rounds), raw.shape[1])), rounds=rounds)
        squares = np.zeros_like(whole.smooth)
        for brain in brains:
            scales = whole._scales(brain)[1:]
            for number, scale in enumerate(scales):
                squares[number] += (scale[brain.cortex].astype(np.float64) ** 2).mean(0)
        smooth = np.sqrt(squares / len(brains))
        return Scaling(centre=centre, spread=spread, smooth=np.where(smooth > 1e-8, smooth, 1), rounds=rounds)

    def _scales(self, brain: BrainValues) -> list[NDArray[np.float32]]:
        place = np.where(brain.area >= 0, brain.area, len(self.centre) - 1)
        unit = np.clip((brain.raw - self.centre[place]) / self.spread[place], -5, 5)
        inside: NDArray[np.float32] = np.where(brain.cortex[:, None], unit, 0).astype(np.float32)
        return [inside, *one_ring_average(inside, brain.cortex, brain.edges, self.rounds)]

    def apply(self, brain: BrainValues) -> NDArray[np.float32]:
        """[V, C (S + 1) + 1]: every feature at every scale, and -1 or 1 for the hemisphere; 0 outside cortex."""
        first, *others = self._scales(brain)
        scaled = [np.clip(scale / own, -5, 5).astype(np.float32) for scale, own in zip(others, self.smooth)]
        side = np.where(brain.cortex, 2 * brain.side - 1, 0)[:, None].astype(np.float32)
        return np.concatenate([first, *scaled, side], axis=1)


def _sums(place: NDArray[np.integer], values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    return np.stack([np.bincount(place, column, count) for column in values.T], axis=1)


def _whole(values: NDArray[np.float64], train: NDArray[np.bool_]) -> NDArray[np.float32]:
    """[G, F'] numbers of whole brains, standardised by the training subjects; a missing one is 0, and says so in a
    column of its own."""
    known = np.isfinite(values)
    inside = known & train[:, None]
    count = np.maximum(inside.sum(0), 1)
    centre = np.where(inside, values, 0).sum(0) / count
    spread = np.sqrt(np.where(inside, (values - centre) ** 2, 0).sum(0) / count)
    unit = np.where(known, (values - centre) / np.where(spread > 1e-12, spread, 1), 0)
    return np.concatenate([np.clip(unit, -5, 5), ~known[:, ~known.all(0)]], axis=1).astype(np.float32)

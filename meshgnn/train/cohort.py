"""Node classification over several brains: one task for training, baselines and scores brain by brain.

V nodes of one brain, N nodes of all brains end to end, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csgraph

from meshgnn.data.inputs import CoordinateFrame, NodeInputs, registered_points
from meshgnn.data.model_inputs import FIXED_ROUNDS, ModelInputs
from meshgnn.data.split import inner_edges
from meshgnn.errors import InputError
from meshgnn.graph import MeshGraph
from meshgnn.mesh.operators import geodesic_distance, geodesic_graph, one_ring_average


@dataclass(frozen=True, kw_only=True, eq=False)
class Cohort:
    """Several brains and which of them are trained on.

    Args:
        graphs: labels are those a mapper drew.
        unseen: one bool per brain.
        folds: [V] per brain, the fold of the run's one fold plan that a node belongs to; -1 in an unseen brain.
    """

    graphs: tuple[MeshGraph, ...]
    unseen: tuple[bool, ...]
    folds: tuple[NDArray[np.int32], ...]

    def __post_init__(self) -> None:
        if all(self.unseen):
            raise InputError("there is no brain to train on")
        names = {graph.areas.names for graph in self.graphs}
        if len(names) > 1:
            raise InputError("the brains do not share one list of areas; give all stacks the same areas.json")

    @property
    def training(self) -> tuple[MeshGraph, ...]:
        return tuple(graph for graph, unseen in zip(self.graphs, self.unseen) if not unseen)

    def slices(self) -> list[slice]:
        """Rows of each brain where all are laid end to end."""
        ends = np.cumsum([0, *(graph.n_nodes for graph in self.graphs)]).tolist()
        return [slice(start, end) for start, end in pairwise(ends)]

    def aligned(self, inputs: NodeInputs.Config) -> tuple[CoordinateFrame, list[NDArray[np.float32]]]:
        """The coordinate frame of the first training brain, and [V, 3] of each brain in it, mm.

        The first brain is mirrored at most; the others are fitted by rotation, shift and scale, once for all networks.
        """
        if inputs.align not in self._aligned:
            first = self.training[0]
            frame = inputs.build().frame(first, first.cortex)
            self._aligned[inputs.align] = (
                frame,
                [
                    frame.coordinates_mm(graph, "similarity", graph.cortex if graph is first else None)
                    for graph in self.graphs
                ],
            )
        return self._aligned[inputs.align]

    @cached_property
    def _aligned(self) -> dict[str, tuple[CoordinateFrame, list[NDArray[np.float32]]]]:
        return {}


def cohort_inputs(
    cohort: Cohort,
    inputs: NodeInputs.Config,
    names: Sequence[str],
    folds: int,
    seeds: Sequence[int],
    buffer_mm: float,
) -> tuple[ModelInputs, CoordinateFrame]:
    """The inputs of every model: all brains end to end, labels of the training brains only, and their coordinate frame.

    All seeds share the folds of the cohort's one fold plan, the encoder's too; a seed stands for other weights.

    Args:
        names: the features in use, in order.
        folds: how many folds the plan has.
        buffer_mm: geodesic width of the strip around a fold's validation nodes that it does not train on.

    Raises:
        InputError: a fold without a labelled node.
    """
    maker, (frame, aligned) = inputs.build(), cohort.aligned(inputs)
    parts: dict[str, list[NDArray[Any]]] = {}
    for number, (graph, unseen) in enumerate(zip(cohort.graphs, cohort.unseen)):
        inner = inner_edges(graph)
        raw = maker.raw(graph, inner, names)
        known = graph.cortex & (graph.labels >= 0) & (not unseen)
        validation = np.stack([known & (cohort.folds[number] == k) for k in range(folds)])
        smoothed = one_ring_average(raw.values, graph.cortex, inner, FIXED_ROUNDS)
        start = sum(len(labels) for labels in parts.get("labels", ()))
        own: dict[str, NDArray[Any]] = {
            "features": maker.features(graph, inner, raw),
            "coordinates": frame.scaled(aligned[number]) if inputs.coordinates else np.zeros((graph.n_nodes, 0)),
            "edges": inner + start,
            "brain": np.full(graph.n_nodes, number),
            "part": np.full(graph.n_nodes, not unseen),
            "labels": np.where(known, graph.labels, -1),
            "validation": validation,
            "train": np.stack([known & ~near for near in _near(graph, validation, buffer_mm)]),
            "raw": raw.values,
            "smoothed": np.concatenate([raw.values, *smoothed], axis=1),
            "registered": registered_points(graph, frame.hemisphere),
        }
        for name, array in own.items():
            parts.setdefault(name, []).append(array)
    if len({array.shape[1] for array in parts["registered"]}) > 1:  # only where every brain has one
        parts["registered"] = [array[:, :0] for array in parts["registered"]]
    wide = ("edges", "train", "validation")
    joined = {name: np.concatenate(arrays, axis=1 if name in wide else 0) for name, arrays in parts.items()}
    train, validation = joined.pop("train"), joined.pop("validation")
    if not (train.any(1) & validation.any(1)).all():
        raise InputError(
            f"a validation fold holds no annotated node; lower trainer.folds (now {folds}) or annotate more sections"
        )
    kinds = {
        "features": np.float32,
        "coordinates": np.float32,
        "edges": np.int32,
        "brain": np.int32,
        "labels": np.int32,
    }
    found = ModelInputs(
        unit_mm=frame.unit_mm,
        n_classes=len(cohort.graphs[0].areas),
        train=np.tile(train, (len(seeds), 1)),
        validation=np.tile(validation, (len(seeds), 1)),
        mirrored_mm=np.concatenate(aligned),
        **{name: array.astype(kinds.get(name, array.dtype)) for name, array in joined.items()},
    )
    return found, frame


def _near(graph: MeshGraph, validation: NDArray[np.bool_], buffer_mm: float) -> list[NDArray[np.bool_]]:
    """For each fold's validation nodes [F, V]: the nodes within `buffer_mm` of them, themselves included."""
    graphs = [(geodesic_graph(mesh), place) for mesh, place in zip(graph.meshes, graph.slices().values())]
    found = []
    for chosen in validation:
        near = chosen.copy()
        for lengths, place in graphs:
            near[place] |= geodesic_distance(lengths, np.flatnonzero(chosen[place])) <= buffer_mm
        found.append(near)
    return found


def nearest_annotation(
    graph: MeshGraph, labels: NDArray[np.integer]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The area of the geodesically nearest annotated node: one-hot [V, K], and its distance [V] in mm.

    A hemisphere without annotation gets zeros and infinity.

    Args:
        labels: [V] annotations, -1 = none.
    """
    votes = np.zeros((graph.n_nodes, len(graph.areas)), np.float32)
    away = np.full(graph.n_nodes, np.inf, np.float32)
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        here = labels[place]
        known = np.flatnonzero(here >= 0)
        if len(known) == 0:
            continue
        distance, _, source = csgraph.dijkstra(
            geodesic_graph(mesh), directed=False, indices=known, min_only=True, return_predecessors=True
        )
        reached = np.flatnonzero(np.isfinite(distance))
        votes[place.start + reached, here[source[reached]]] = 1
        away[place] = distance
    return votes, away

"""Node classification over several brains: one task for training, baselines and scores brain by brain.

V nodes of one brain, N nodes of all brains end to end, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csgraph
from scipy.spatial import cKDTree

from meshgnn.data.inputs import CoordinateFrame, NodeInputs
from meshgnn.data.split import Folds, Split, validation_folds
from meshgnn.errors import InputError
from meshgnn.graph import MeshGraph
from meshgnn.mesh.operators import geodesic_graph, one_ring_average
from meshgnn.train.baselines import ROUNDS, BaselineInputs
from meshgnn.train.task import TrainingTask

PRIOR_NEIGHBOURS = 50


@dataclass(frozen=True, kw_only=True, eq=False)
class Cohort:
    """Several brains and which of them are trained on.

    Args:
        graphs: labels are those a mapper drew.
        unseen: one bool per brain.
    """

    graphs: tuple[MeshGraph, ...]
    unseen: tuple[bool, ...]

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

    def frame(self, inputs: NodeInputs.Config) -> CoordinateFrame:
        """The coordinate frame of the first training brain."""
        first = self.training[0]
        return inputs.build().frame(first, first.cortex)

    def coordinates_mm(self, frame: CoordinateFrame) -> list[NDArray[np.float32]]:
        """[V, 3] of each brain in the frame: mirrored, and (but for the first) fitted by rotation, shift and scale."""
        first = self.training[0]
        return [
            frame.coordinates_mm(graph, "similarity", graph.cortex if graph is first else None) for graph in self.graphs
        ]


def inner_edges(graph: MeshGraph) -> NDArray[np.int32]:
    """[2, E] edges inside cortex."""
    return np.ascontiguousarray(graph.edges[:, graph.cortex[graph.edges].all(0)])


def training_task(
    cohort: Cohort, inputs: NodeInputs.Config, names: Sequence[str], folds: int, how: Folds, seeds: Sequence[int]
) -> tuple[TrainingTask, CoordinateFrame]:
    """The training brains as one task; each fold validates on contiguous blocks of every brain.

    Raises:
        InputError: a brain has too few nodes to validate on.
    """
    maker = inputs.build()
    frame = cohort.frame(inputs)
    placed = [points for points, unseen in zip(cohort.coordinates_mm(frame), cohort.unseen) if not unseen]
    features, edges, coordinates, labels, start = [], [], [], [], 0
    train: list[list[NDArray[np.bool_]]] = [[] for _ in range(folds * len(seeds))]
    validation: list[list[NDArray[np.bool_]]] = [[] for _ in range(folds * len(seeds))]
    for graph, points in zip(cohort.training, placed):
        inner = inner_edges(graph)
        known = graph.cortex & (graph.labels >= 0)
        features.append(maker.features(graph, inner, maker.raw(graph, inner, names)))
        coordinates.append(frame.scaled(points) if inputs.coordinates else np.zeros((graph.n_nodes, 0), np.float32))
        edges.append(inner + start)
        labels.append(np.where(known, graph.labels, -1).astype(np.int32))
        whole = Split(
            train=graph.cortex, test=np.zeros(graph.n_nodes, bool), edges=inner, protocol="strict", name=graph.brain
        )
        for number, seed in enumerate(seeds):
            for k, fold in enumerate(validation_folds(graph, whole, folds, how, seed)):
                train[number * folds + k].append(fold.train & known)
                validation[number * folds + k].append(fold.validation & known)
        start += graph.n_nodes
    task = TrainingTask(
        features=np.concatenate(features),
        coordinates=np.concatenate(coordinates),
        unit_mm=frame.unit_mm,
        edges=np.concatenate(edges, axis=1).astype(np.int32),
        labels=np.concatenate(labels),
        n_classes=len(cohort.graphs[0].areas),
        train=np.stack([np.concatenate(parts) for parts in train]),
        validation=np.stack([np.concatenate(parts) for parts in validation]),
    )
    if not (task.train.any(1) & task.validation.any(1)).all():
        raise InputError(
            f"a validation fold holds no annotated node; lower trainer.folds (now {folds}) or annotate more sections"
        )
    return task, frame


def baseline_inputs(cohort: Cohort, inputs: NodeInputs.Config, names: Sequence[str]) -> BaselineInputs:
    """What the fixed recipes see: all brains end to end, labels of the training brains only."""
    maker = inputs.build()
    frame = cohort.frame(inputs)
    raws, smooths, labels = [], [], []
    for graph, unseen in zip(cohort.graphs, cohort.unseen):
        inner = inner_edges(graph)
        raw = maker.raw(graph, inner, names).values
        raws.append(raw)
        smooths.append(np.concatenate([raw, *one_ring_average(raw, graph.cortex, inner, ROUNDS)], axis=1))
        labels.append(np.where(graph.cortex & (not unseen), graph.labels, -1))
    joined = np.concatenate(labels)
    return BaselineInputs(
        coordinates_mm=np.concatenate(cohort.coordinates_mm(frame)),
        features=np.concatenate(raws),
        smoothed=np.concatenate(smooths),
        labels=joined,
        train=joined >= 0,
        n_classes=len(cohort.graphs[0].areas),
    )


def prior_map(inputs: BaselineInputs) -> NDArray[np.float32]:
    """[N, K] share of each area among the 50 nearest training nodes: a probabilistic atlas of the training brains."""
    labels = inputs.labels[inputs.train]
    count = min(PRIOR_NEIGHBOURS, len(labels))
    nearest = cKDTree(inputs.coordinates_mm[inputs.train]).query(inputs.coordinates_mm, k=count)[1]
    votes = np.zeros((len(inputs.labels), inputs.n_classes), np.float32)
    np.add.at(votes, (np.arange(len(votes))[:, None], labels[nearest.reshape(len(votes), -1)]), 1 / count)
    return votes


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


def shared_sections(training: Mapping[str, str], unseen: Mapping[str, str]) -> int:
    """How many section images (name -> content hash) of unseen brains are among those of training brains."""
    return len(set(training.values()) & set(unseen.values()))

"""What the models see of one brain that is split into a training and a test part."""

from collections.abc import Sequence

import numpy as np

from meshgnn.data.inputs import Alignment, CoordinateFrame, NodeInputs, registered_points
from meshgnn.data.model_inputs import FIXED_ROUNDS, ModelInputs
from meshgnn.data.split import Fold, Split
from meshgnn.graph import MeshGraph
from meshgnn.mesh.operators import one_ring_average


def single_brain_inputs(
    graph: MeshGraph,
    split: Split,
    frame: CoordinateFrame,
    inputs: NodeInputs.Config,
    names: Sequence[str],
    align: Alignment,
    folds: Sequence[Fold],
) -> ModelInputs:
    """Inputs of every node of `graph`, labels of the training part only.

    Args:
        names: the features in use, in order.
        align: how coordinates come into `frame`.
        folds: of all seeds, in order.

    Raises:
        InputError: a feature is missing, or a fold holds no labelled node.
    """
    maker = inputs.build()
    raw = maker.raw(graph, split.edges, names)
    coordinates = np.zeros((graph.n_nodes, 0), np.float32)
    if inputs.coordinates:
        coordinates = frame.scaled(frame.coordinates_mm(graph, align, split.train))
    labelled = split.train & (graph.labels >= 0)
    smoothed = one_ring_average(raw.values, graph.cortex, split.edges, FIXED_ROUNDS) if raw.names else []
    nothing = np.zeros((0, graph.n_nodes), bool)
    return ModelInputs(
        features=maker.features(graph, split.edges, raw),
        coordinates=coordinates,
        unit_mm=frame.unit_mm,
        edges=split.edges,
        brain=np.zeros(graph.n_nodes, np.int32),
        part=split.train,
        labels=np.where(labelled, graph.labels, -1).astype(np.int32),
        n_classes=len(graph.areas),
        train=np.stack([fold.train & labelled for fold in folds]) if folds else nothing,
        validation=np.stack([fold.validation & labelled for fold in folds]) if folds else nothing,
        raw=raw.values,
        smoothed=np.concatenate([raw.values, *smoothed], axis=1),
        mirrored_mm=frame.coordinates_mm(graph, "mirror", split.train),
        registered=registered_points(graph, frame.hemisphere),
    )

"""What a training run sees, as arrays on disk. Worker processes load the file and are given nothing else."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshgnn.data.model_inputs import ModelInputs
from meshgnn.store import read_arrays, write_arrays


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingTask:
    """Node classification on one graph.

    Args:
        features: [V, D] float32 standardised inputs.
        coordinates: [V, 3] float32 in units of `unit_mm`, or [V, 0].
        unit_mm: size of the coordinates' unit.
        edges: [2, E], already cut between the parts of the split.
        labels: [V] class numbers; -1 everywhere outside the training part (test labels are not even here).
        n_classes: K.
        train: [folds, V] bool, nodes that give a loss in each fold.
        validation: [folds, V] bool, nodes that the fold is judged on.
    """

    features: NDArray[np.float32]
    coordinates: NDArray[np.float32]
    unit_mm: float
    edges: NDArray[np.int32]
    labels: NDArray[np.int32]
    n_classes: int
    train: NDArray[np.bool_]
    validation: NDArray[np.bool_]

    @staticmethod
    def of(inputs: ModelInputs) -> "TrainingTask":
        """The training part of a run's inputs: no edge leaves it, so members need not see the rest."""
        return TrainingTask(
            features=inputs.features,
            coordinates=inputs.coordinates,
            unit_mm=inputs.unit_mm,
            edges=inputs.edges,
            labels=inputs.labels,
            n_classes=inputs.n_classes,
            train=inputs.train,
            validation=inputs.validation,
        ).restricted_to(inputs.part)

    def restricted_to(self, nodes: NDArray[np.bool_]) -> "TrainingTask":
        """The same task on these nodes [V] alone, renumbered; edges that leave them are dropped."""
        number = np.cumsum(nodes) - 1
        inside = nodes[self.edges].all(0)
        return TrainingTask(
            features=self.features[nodes],
            coordinates=self.coordinates[nodes],
            unit_mm=self.unit_mm,
            edges=number[self.edges[:, inside]].astype(np.int32),
            labels=self.labels[nodes],
            n_classes=self.n_classes,
            train=self.train[:, nodes],
            validation=self.validation[:, nodes],
        )

    def save(self, path: Path) -> None:
        sizes = np.array([self.unit_mm, self.n_classes], np.float64)
        write_arrays(
            path,
            {
                "features": self.features,
                "coordinates": self.coordinates,
                "edges": self.edges,
                "labels": self.labels,
                "train": self.train,
                "validation": self.validation,
                "sizes": sizes,
            },
        )

    @staticmethod
    def load(path: Path) -> "TrainingTask":
        """Raises InputError when the file is missing or damaged."""
        arrays = read_arrays(path)
        unit, classes = arrays.pop("sizes").tolist()
        return TrainingTask(unit_mm=unit, n_classes=int(classes), **arrays)

"""The task of node classification: a class for every node of one graph.

Its splits are those of `meshgnn.data.split`, its scores those of `metrics.py`, its baselines `baselines.py` and
`same_inputs.py`. V nodes, D inputs, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from meshgnn.confusion import macro_f1
from meshgnn.data.model_inputs import ModelInputs, edges_among
from meshgnn.nn import Adjacency, CoordinateEncoder, NodeModel, TrunkConfig
from meshgnn.nn.partition import Part, evaluated, gradient_by_parts, near_for
from meshgnn.store import read_arrays, write_arrays
from meshgnn.train.augment import Augment
from meshgnn.train.loss import Loss, log_frequency


@dataclass(frozen=True, kw_only=True, eq=False)
class NodeLabels:
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

    watched: ClassVar[str] = "validation_macro_f1"

    features: NDArray[np.float32]
    coordinates: NDArray[np.float32]
    unit_mm: float
    edges: NDArray[np.int32]
    labels: NDArray[np.int32]
    n_classes: int
    train: NDArray[np.bool_]
    validation: NDArray[np.bool_]

    @staticmethod
    def of(inputs: ModelInputs) -> "NodeLabels":
        """The training part of a run's inputs: no edge leaves it, so members need not see the rest."""
        return NodeLabels(
            features=inputs.features,
            coordinates=inputs.coordinates,
            unit_mm=inputs.unit_mm,
            edges=inputs.edges,
            labels=inputs.labels,
            n_classes=inputs.n_classes,
            train=inputs.train,
            validation=inputs.validation,
        ).restricted_to(inputs.part)

    def restricted_to(self, nodes: NDArray[np.bool_]) -> "NodeLabels":
        """The same task on these nodes [V] alone, renumbered; edges that leave them are dropped."""
        return NodeLabels(
            features=self.features[nodes],
            coordinates=self.coordinates[nodes],
            unit_mm=self.unit_mm,
            edges=edges_among(self.edges, nodes),
            labels=self.labels[nodes],
            n_classes=self.n_classes,
            train=self.train[:, nodes],
            validation=self.validation[:, nodes],
        )

    def model(self, trunk: TrunkConfig, coordinates: CoordinateEncoder.Config) -> NodeModel:
        return NodeModel(trunk, coordinates, self.features.shape[1], self.coordinates.shape[1], self.n_classes)

    def objective(self, member: int, loss: Loss) -> "NodeObjective":
        return NodeObjective(self, member, loss)

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
    def load(path: Path) -> "NodeLabels":
        """Raises InputError when the file is missing or damaged."""
        arrays = read_arrays(path)
        unit, classes = arrays.pop("sizes").tolist()
        return NodeLabels(unit_mm=unit, n_classes=int(classes), **arrays)


class NodeObjective:
    """Cross-entropy on the training nodes of one fold, macro-F1 on its validation nodes; full batch."""

    def __init__(self, task: NodeLabels, member: int, loss: Loss) -> None:
        self.shifted = loss
        self.edges, self.parts, self.taught = task.edges, list[Part](), list[tuple[Tensor, Tensor]]()
        self.features = torch.from_numpy(task.features)
        self.coordinates = torch.from_numpy(task.coordinates)
        self.unit_mm, self.n_classes = task.unit_mm, task.n_classes
        labels = torch.from_numpy(task.labels).long()
        self.train_nodes = torch.from_numpy(task.train[member]).nonzero().ravel()
        self.train_labels = labels[self.train_nodes]
        self.log_frequency = log_frequency(self.train_labels, task.n_classes)
        self.validation_nodes = torch.from_numpy(task.validation[member]).nonzero().ravel()
        self.validation_labels = labels[self.validation_nodes].numpy()

    def in_parts(self, model: nn.Module, parts: int) -> "NodeObjective":
        """The same gone through part by part; with 0 in as many as the graph's size asks for."""
        near = near_for(model, self.features, self.coordinates, self.edges, parts)
        if isinstance(near, Adjacency):
            self.adjacency = near
            return self
        labels = torch.full((len(self.features),), -1)
        labels[self.train_nodes] = self.train_labels
        for part in near:
            mine = labels[part.nodes[: part.own]]
            known = (mine >= 0).nonzero().ravel()
            self.taught.append((known, mine[known]))
        self.parts = near
        return self

    @cached_property
    def adjacency(self) -> Adjacency:
        """Of the whole graph; not made where it is gone through in parts."""
        return Adjacency(len(self.features), self.edges)

    def to(self, device: torch.device | str) -> "NodeObjective":
        if self.parts:
            self.parts = [part.to(device) for part in self.parts]
            self.taught = [(known.to(device), labels.to(device)) for known, labels in self.taught]
        else:
            self.adjacency = self.adjacency.to(device)
        for name in ("features", "coordinates", "train_nodes", "train_labels", "log_frequency", "validation_nodes"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def loss(self, model: nn.Module, augment: Augment) -> Tensor:
        features = augment.features(self.features)
        coordinates = self.coordinates
        if coordinates.shape[1]:
            coordinates = augment.coordinates(coordinates, self.unit_mm)
        if self.parts:
            return gradient_by_parts(model, self._losses(model, features, coordinates))
        logits = model(features, coordinates, self.adjacency)
        return self.shifted(logits[self.train_nodes], self.train_labels, self.log_frequency)

    def _losses(self, model: nn.Module, features: Tensor, coordinates: Tensor) -> Iterator[Tensor]:
        """What every part adds to the mean over the training nodes."""
        for part, (known, labels) in zip(self.parts, self.taught):
            if len(known):
                logits = model(features[part.nodes], coordinates[part.nodes], part.adjacency)[known]
                yield len(known) / len(self.train_nodes) * self.shifted(logits, labels, self.log_frequency)

    def validate(self, model: nn.Module) -> dict[str, float]:
        logits = evaluated(model, self.features, self.coordinates, self.parts or self.adjacency)
        logits = logits[self.validation_nodes].float().cpu()
        loss = F.cross_entropy(logits, torch.from_numpy(self.validation_labels))
        score = macro_f1(self.validation_labels, logits.argmax(1).numpy(), self.n_classes)
        return {NodeLabels.watched: score, "validation_loss": float(loss)}

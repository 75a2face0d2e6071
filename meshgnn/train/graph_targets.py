"""The task of traits of whole brains: several targets at once, numbers and classes, some of them missing.

The network has one head for all targets: K outputs for a target of K classes, one for a number. Its splits are those of
`meshgnn.data.subject_split`, its scores `target_scores.py`, its baselines `subject_baselines.py`. N nodes of all brains
end to end, G brains, D inputs, F features of whole brains, T targets, M members.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from meshgnn.config import from_plain, to_plain
from meshgnn.data.subject_inputs import BrainInputs
from meshgnn.errors import InputError
from meshgnn.nn import CoordinateEncoder, GraphBatch, GraphHead, GraphModel, TrunkConfig
from meshgnn.nn.graph_batch import BrainTensors
from meshgnn.store import read_arrays, write_arrays
from meshgnn.train.augment import Augment
from meshgnn.train.loss import Loss
from meshgnn.train.target_costs import TargetCosts


def brain_tensors(brain: BrainInputs, head: GraphHead.Config) -> BrainTensors:
    """One brain for a network with this head."""
    unit = brain.side if head.units == "hemispheres" else brain.area
    mask = brain.mask & (unit >= 0) if head.units != "nodes" else brain.mask
    return BrainTensors.of(brain.features, brain.coordinates, brain.edges, mask, unit, brain.whole)


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphTargets:
    """Targets of whole brains.

    Args:
        brains: the G subjects that members train and validate on, no others.
        values: [G, T] class numbers, and standardised numbers; NaN where missing.
        classes: T numbers of classes; 0 for a number.
        train: [M, G] bool, subjects that give a loss; validation: [M, G] bool, subjects a member is judged on.
        head: of the network.
        n_units: units that brains share.
        unit_mm: size of the coordinates' unit.
        batch: brains in a step; 0 for all.
    """

    watched: ClassVar[str] = "validation_skill"

    brains: tuple[BrainInputs, ...]
    values: NDArray[np.float32]
    classes: tuple[int, ...]
    train: NDArray[np.bool_]
    validation: NDArray[np.bool_]
    head: GraphHead.Config
    n_units: int
    unit_mm: float
    batch: int = 0

    @property
    def n_outputs(self) -> int:
        return sum(max(count, 1) for count in self.classes)

    def model(self, trunk: TrunkConfig, coordinates: CoordinateEncoder.Config) -> GraphModel:
        first = self.brains[0]
        n_features = first.features.shape[1] + len(first.whole)
        return GraphModel(
            trunk, coordinates, self.head, n_features, first.coordinates.shape[1], self.n_outputs, self.n_units
        )

    def objective(self, member: int, loss: Loss) -> "GraphObjective":
        return GraphObjective(self, member, loss)

    def save(self, path: Path) -> None:
        """One safetensors file; the head's settings lie in it as JSON text."""
        names = ("features", "coordinates", "mask", "area", "side")
        sizes = np.array([len(brain.features) for brain in self.brains])
        starts = np.cumsum([0, *sizes[:-1]])
        about = {
            "head": to_plain(self.head), "classes": self.classes, "n_units": self.n_units, "unit_mm": self.unit_mm,
            "batch": self.batch,
        }  # fmt: skip
        write_arrays(
            path,
            {
                **{name: np.concatenate([getattr(brain, name) for brain in self.brains]) for name in names},
                "edges": np.concatenate([brain.edges + start for brain, start in zip(self.brains, starts)], axis=1),
                "n_edges": np.array([brain.edges.shape[1] for brain in self.brains]),
                "n_nodes": sizes,
                "whole": np.stack([brain.whole for brain in self.brains]),
                "values": self.values,
                "train": self.train,
                "validation": self.validation,
                "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
            },
        )

    @staticmethod
    def load(path: Path) -> "GraphTargets":
        """Raises InputError when the file is missing or damaged."""
        arrays = read_arrays(path)
        try:
            about = json.loads(arrays["about"].tobytes())
            ends, edge_ends = np.cumsum(arrays["n_nodes"]), np.cumsum(arrays["n_edges"])
            brains = []
            for number, (end, edge_end) in enumerate(zip(ends.tolist(), edge_ends.tolist())):
                start, edge_start = end - arrays["n_nodes"][number], edge_end - arrays["n_edges"][number]
                names = ("features", "coordinates", "mask", "area", "side")
                brains.append(
                    BrainInputs(
                        edges=arrays["edges"][:, edge_start:edge_end] - start,
                        whole=arrays["whole"][number],
                        **{name: arrays[name][start:end] for name in names},
                    )
                )
            return GraphTargets(
                brains=tuple(brains), values=arrays["values"], classes=tuple(about["classes"]), train=arrays["train"],
                validation=arrays["validation"], head=from_plain(GraphHead.Config, about["head"]),
                n_units=about["n_units"], unit_mm=about["unit_mm"], batch=about["batch"],
            )  # fmt: skip
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"{path}: not a complete task of subjects ({error})") from None


class GraphObjective:
    """Losses of all targets on batches of training brains, and skill on the validation brains; see `TargetCosts`."""

    def __init__(self, task: GraphTargets, member: int, loss: Loss) -> None:
        self.n_units, self.unit_mm = task.n_units, task.unit_mm
        tensors = [brain_tensors(brain, task.head) for brain in task.brains]
        values = torch.from_numpy(np.array(task.values, np.float32))
        chosen = {name: np.flatnonzero(getattr(task, name)[member]) for name in ("train", "validation")}
        self.brains = [tensors[k] for k in chosen["train"]]
        self.values = values[chosen["train"]]
        self.judged = GraphBatch.of([tensors[k] for k in chosen["validation"]], task.n_units)
        self.judged_values = values[chosen["validation"]]
        self.batch = min(task.batch or len(self.brains), len(self.brains))
        self.costs = TargetCosts(self.values, task.classes, loss)

    def to(self, device: torch.device | str) -> "GraphObjective":
        self.brains = [brain.to(device) for brain in self.brains]
        self.judged = self.judged.to(device)
        self.values, self.judged_values = self.values.to(device), self.judged_values.to(device)
        self.costs.to(device)
        return self

    def loss(self, model: nn.Module, augment: Augment) -> Tensor:
        chosen = torch.randperm(len(self.brains))[: self.batch]
        batch = GraphBatch.of([self.brains[k] for k in chosen.tolist()], self.n_units)
        coordinates = batch.coordinates
        if coordinates.shape[1]:
            coordinates = augment.coordinates(coordinates, self.unit_mm)
        outputs = model(batch.with_inputs(augment.features(batch.features), coordinates))
        return self.costs.loss(outputs, self.values[chosen.to(self.values.device)])

    def validate(self, model: nn.Module) -> dict[str, float]:
        return {GraphTargets.watched: self.costs.skill(model(self.judged), self.judged_values)}

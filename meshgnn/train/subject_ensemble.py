"""Trained networks of a subject task: members by division of the subjects, seed and fold, and their common prediction.

On disk: model.safetensors (weights) and model.json (the rest). Nothing in either is ever executed; classes come from an
allow-list. G brains, T targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from meshgnn.config import from_plain, to_plain
from meshgnn.data.subject_inputs import BrainInputs
from meshgnn.errors import InputError
from meshgnn.nn import CoordinateEncoder, GraphBatch, GraphHead, GraphModel, NetworkConfig
from meshgnn.source.subjects import Target
from meshgnn.store import read_arrays, read_json, write_arrays, write_json
from meshgnn.train.graph_targets import brain_tensors
from meshgnn.train.own_networks import networks
from meshgnn.train.target_costs import outputs_by_target

FORMAT = 1
Weights = dict[str, torch.Tensor]
TOGETHER = 16  # brains in one forward pass


@dataclass(frozen=True, kw_only=True, eq=False)
class SubjectEnsemble:
    """Members, and what is needed to run them.

    Args:
        network, coordinates, head: configs of the members.
        targets: T of them.
        scale: [divisions, T, 2] mean and standard deviation of every target in the training part; 0 and 1 for classes.
        n_features, n_coordinates, n_units: sizes of the network's inputs.
        features: names, in order.
        weights: division -> seed -> one state dict per fold.
    """

    network: NetworkConfig
    coordinates: CoordinateEncoder.Config
    head: GraphHead.Config
    targets: tuple[Target, ...]
    scale: NDArray[np.float64]
    n_features: int
    n_coordinates: int
    n_units: int
    features: tuple[str, ...]
    weights: dict[int, dict[int, list[Weights]]]

    def _model(self) -> GraphModel:
        outputs = sum(max(len(target.classes), 1) for target in self.targets)
        return GraphModel(
            self.network, self.coordinates, self.head, self.n_features, self.n_coordinates, outputs, self.n_units
        )

    def predict(self, brains: Sequence[BrainInputs], division: int) -> dict[int, list[NDArray[np.float64]]]:
        """Seed -> one array per target: probabilities [G, K], or numbers [G, 1]. Members' log probabilities and numbers
        are averaged.

        Args:
            brains: made with the scaling of this division's training part.
        """
        tensors = [brain_tensors(brain, self.head) for brain in brains]
        batches = [
            GraphBatch.of(tensors[k : k + TOGETHER], self.n_units) for k in range(0, len(tensors), TOGETHER)
        ]  # fmt: skip
        found = {}
        model = self._model()
        for seed, members in self.weights[division].items():
            by_member = []
            for weights in members:
                model.load_state_dict(weights, strict=True)
                model.eval()
                with torch.no_grad():
                    by_member.append(torch.cat([model(batch) for batch in batches]))
            found[seed] = self._together(torch.stack(by_member), division)
        return found

    def _together(self, outputs: torch.Tensor, division: int) -> list[NDArray[np.float64]]:
        """Outputs [members, G, outputs] -> one array per target."""
        counts = [len(target.classes) for target in self.targets]
        each = [outputs_by_target(one, counts) for one in outputs.double()]
        found = []
        for column, target in enumerate(self.targets):
            own = torch.stack([member[column] for member in each])
            if target.classes:
                found.append(F.softmax(F.log_softmax(own, dim=2).mean(0), dim=1).numpy())
            else:
                mean, deviation = self.scale[division, column]
                found.append(own.mean(0).numpy() * deviation + mean)
        return found

    def save(self, folder: Path) -> list[str]:
        """Write model.safetensors and model.json."""
        arrays: dict[str, NDArray[Any]] = {"scale": self.scale}
        for division, seeds in self.weights.items():
            for seed, members in seeds.items():
                for fold, weights in enumerate(members):
                    start = f"{division}/{seed}/{fold}/"
                    arrays |= {start + name: value.numpy() for name, value in weights.items()}
        write_arrays(folder / "model.safetensors", arrays)
        write_json(
            folder / "model.json",
            {
                "format": FORMAT,
                "kind": "SubjectEnsemble",
                "network": to_plain(self.network),
                "coordinates": to_plain(self.coordinates),
                "head": to_plain(self.head),
                "targets": [{"name": target.name, "classes": target.classes} for target in self.targets],
                "features": self.features,
                "n_features": self.n_features,
                "n_coordinates": self.n_coordinates,
                "n_units": self.n_units,
                "members": [
                    [division, seed, len(members)]
                    for division, seeds in self.weights.items()
                    for seed, members in seeds.items()
                ],
            },
        )
        return ["model.safetensors", "model.json"]

    @staticmethod
    def load(folder: Path) -> "SubjectEnsemble":
        """Raises InputError when the files are missing, damaged, a pickle, or of another format."""
        about = read_json(folder / "model.json")
        arrays = read_arrays(folder / "model.safetensors")
        try:
            if about["kind"] != "SubjectEnsemble" or about["format"] != FORMAT:
                raise InputError(f"format {about['format']} of {about['kind']} is not known to this version")
            weights: dict[int, dict[int, list[Weights]]] = {}
            for division, seed, folds in about["members"]:
                starts = [f"{int(division)}/{int(seed)}/{fold}/" for fold in range(min(int(folds), len(arrays)))]
                weights.setdefault(int(division), {})[int(seed)] = [
                    {k.removeprefix(start): torch.from_numpy(v) for k, v in arrays.items() if k.startswith(start)}
                    for start in starts
                ]
            made = SubjectEnsemble(
                network=from_plain(networks(), about["network"], "network"),
                coordinates=from_plain(CoordinateEncoder.Config, about["coordinates"], "coordinates"),
                head=from_plain(GraphHead.Config, about["head"], "head"),
                targets=tuple(Target(name=str(one["name"]), classes=tuple(one["classes"])) for one in about["targets"]),
                scale=arrays["scale"],
                n_features=_size(about["n_features"]),
                n_coordinates=_size(about["n_coordinates"]),
                n_units=_size(about["n_units"]),
                features=tuple(map(str, about["features"])),
                weights=weights,
            )
            made._check()
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
            why = str(error) if isinstance(error, InputError) else f"does not describe a model of ours ({error})"
            raise InputError(f"{folder / 'model.json'}: {why}") from None
        return made

    def _check(self) -> None:
        """Raises InputError when the weights are not those of the network described."""
        with torch.device("meta"):  # shapes without memory
            shapes = {name: tuple(value.shape) for name, value in self._model().state_dict().items()}
        if self.scale.shape != (len(self.weights), len(self.targets), 2) or not np.isfinite(self.scale).all():
            raise InputError(f"scales of targets are {self.scale.shape}")
        for division, seeds in self.weights.items():
            for seed, members in seeds.items():
                for member in members:
                    fits = {name: tuple(value.shape) for name, value in member.items()} == shapes
                    if not fits or not all(bool(torch.isfinite(value).all()) for value in member.values()):
                        raise InputError(f"weights of a member of {division}/{seed} do not fit the network described")


def _size(value: Any) -> int:
    if not 0 <= int(value) <= 1 << 20:
        raise InputError(f"a size of {value} makes no sense")
    return int(value)

"""A trained model: members, how inputs are made for them, and how their votes become probabilities.

On disk: model.safetensors (weights and arrays) and model.json (the rest). Nothing in either is ever executed; classes
come from an allow-list.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from meshgnn.config import from_plain, to_plain
from meshgnn.data.derived import RIM_PREFIX, complete_features, rim_table
from meshgnn.data.inputs import Alignment, CoordinateFrame, NodeInputs, registered_points
from meshgnn.errors import InputError
from meshgnn.export.area_map import AreaMap
from meshgnn.graph import Areas, MeshGraph
from meshgnn.nn import Adjacency, CoordinateEncoder, NetworkConfig, NodeModel
from meshgnn.nn.partition import Part, evaluated, near_for
from meshgnn.sockets import FeatureMaker
from meshgnn.store import read_arrays, read_json, write_arrays, write_json
from meshgnn.train.calibration import Calibration, pooled
from meshgnn.train.model_check import check_frame, check_members
from meshgnn.train.own_networks import networks
from meshgnn.train.place_prior import On, PlacePrior

FORMAT = 3  # 2: without places
# In files of format 1 trunk and head of a network were one module.
RENAMED_SINCE_1 = {
    "network.last_norm.": "head.norm.",
    "network.leave.": "head.linear.",
    "network.": "trunk.",
}


def _current_name(name: str, stored_format: int) -> str:
    """The name of a weight in this version, for a file of the format given."""
    if stored_format == 1:
        for old, new in RENAMED_SINCE_1.items():
            if name.startswith(old):
                return new + name.removeprefix(old)
    return name


def _places(arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> PlacePrior | None:
    if about.get("places") is None:
        return None
    points, labels, count = arrays["places.points"], arrays["places.labels"], len(about["areas"]["names"])
    if points.shape != (len(labels), 3) or not len(labels) or not 0 <= labels.min() <= labels.max() < count:
        raise InputError("places and their labels do not fit")
    on, heat = from_plain(On, about["places"]["on"], "model.json: places"), float(about["places"]["temperature"])
    if not np.isfinite(heat) or heat <= 0:
        raise InputError("places need a positive temperature")
    return PlacePrior(on=on, points=points, labels=labels, n_classes=count, temperature=heat)


@dataclass(frozen=True, kw_only=True, eq=False)
class Ensemble:
    """Members per seed, and everything needed to feed them another brain.

    Args:
        network, coordinates: configs of the members.
        inputs: how features and coordinates are made.
        names: the features, in order.
        areas: the classes.
        prior: [K] class frequencies of the training part.
        frame: coordinate frame of the training part.
        align: how other hemispheres come into that frame.
        weights: seed -> one state dict per fold.
        calibration: seed -> calibration.
        n_features: input channels D.
        computed: features that were computed, not read from files, with the identity of what computed them.
        places: labelled places that maps of other brains are joined with; None: maps are the network's alone.
    """

    network: NetworkConfig
    coordinates: CoordinateEncoder.Config
    inputs: NodeInputs.Config
    names: tuple[str, ...]
    areas: Areas
    prior: NDArray[np.float32]
    frame: CoordinateFrame
    align: Alignment
    weights: dict[int, list[dict[str, torch.Tensor]]]
    calibration: dict[int, Calibration]
    n_features: int
    computed: Mapping[str, Any] = field(default_factory=dict)
    places: PlacePrior | None = None

    def member_log_p(
        self,
        weights: dict[str, torch.Tensor],
        features: NDArray[np.float32],
        coordinates: NDArray[np.float32],
        near: Adjacency | Sequence[Part],
    ) -> NDArray[np.float32]:
        """Log probabilities [V, K] of one member, on the whole graph or part by part."""
        model = self._model(coordinates)
        try:
            model.load_state_dict(weights, strict=True)
        except RuntimeError:
            raise InputError("the weights of this model do not fit its description; the run is damaged") from None
        model.eval()
        logits = evaluated(model, torch.from_numpy(features), torch.from_numpy(coordinates), near)
        return F.log_softmax(logits, dim=1).numpy()

    def _model(self, coordinates: NDArray[np.float32]) -> NodeModel:
        return NodeModel(self.network, self.coordinates, self.n_features, coordinates.shape[1], len(self.areas))

    def arrays(
        self, graph: MeshGraph, edges: NDArray[np.int32], align: Alignment
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Model inputs of a brain: features [V, D] and coordinates [V, 3] (or [V, 0])."""
        maker = self.inputs.build()
        features = maker.features(graph, edges, maker.raw(graph, edges, self.names))
        if features.shape[1] != self.n_features:
            raise InputError(
                f"the model expects {self.n_features} inputs per node, its description gives {features.shape[1]}; the "
                "run is damaged"
            )
        if not self.inputs.coordinates:
            return features, np.zeros((graph.n_nodes, 0), np.float32)
        return features, self.frame.scaled(self.frame.coordinates_mm(graph, align))

    def predict(
        self,
        graph: MeshGraph,
        *,
        edges: NDArray[np.int32] | None = None,
        align: Alignment | None = None,
    ) -> dict[int, NDArray[np.float32]]:
        """Probabilities [V, K] per seed.

        Args:
            graph: any brain with the features the model was trained on.
            edges: [2, E] if not the graph's own (a split cuts some).
            align: overrides the model's own choice.
        """
        edges = graph.edges if edges is None else edges
        return self.predict_arrays(*self.arrays(graph, edges, align or self.align), edges)

    def predict_arrays(
        self, features: NDArray[np.float32], coordinates: NDArray[np.float32], edges: NDArray[np.int32]
    ) -> dict[int, NDArray[np.float32]]:
        """`predict` on inputs that are made already (`ModelInputs`): [V, D], [V, 3] or [V, 0], [2, E]."""
        inputs = torch.from_numpy(features), torch.from_numpy(coordinates)
        near = near_for(self._model(coordinates), *inputs, edges)
        return {
            seed: pooled(
                (self.member_log_p(weights, features, coordinates, near) for weights in members),
                self.calibration[seed],
                self.prior,
            )
            for seed, members in self.weights.items()
        }

    def completed(
        self,
        graph: MeshGraph,
        makers: Sequence[FeatureMaker] = (),
        compute: Collection[str] = (),
        fitted: Path = Path(),
        series: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> tuple[MeshGraph, list[str]]:
        """`graph` with every feature that the model needs, and warnings; see `complete_features`."""
        if self.uses_rim and (rim := rim_table(graph, always=True)) is not None:
            graph = graph.without_features(rim.columns).with_table(rim)  # a file of that name is not the rim
        return complete_features(graph, self.names, self.computed, makers, compute, fitted, series)

    def map(self, graph: MeshGraph, align: Alignment | None = None, makers: Sequence[FeatureMaker] = ()) -> AreaMap:
        """The area map of another brain, mean over seeds.

        Args:
            graph: a brain with the features the model was trained on; its labels, if any, are not looked at.
            makers: asked for features that were computed in training (`features.geometry.Geometry.Config().build()`).
            align: how its coordinates come into the training brain's frame. By default what the model itself does in
                the same space, and a similarity (rotation, shift, scale) from any other.

        Raises:
            InputError: a feature is missing, or the alignment asked for cannot join the two spaces.
        """
        graph, _ = self.completed(graph, makers)
        inside = graph.cortex[graph.edges].all(0)
        edges = graph.edges[:, inside]
        features, coordinates = self.arrays(graph, edges, align or self.alignment_for(graph))
        by_seed = self.predict_arrays(features, coordinates, edges)
        if self.places is not None:
            places = self.places.places(coordinates, registered_points(graph, self.frame.hemisphere))
            if places is not None:
                log_prior = self.places.log_p(places)
                by_seed = {seed: self.places.joined(votes, log_prior) for seed, votes in by_seed.items()}
        index = {name: k for k, name in enumerate(self.areas.names)}
        number = np.array([*(index.get(name, -1) for name in graph.areas.names), -1])
        named = graph.relabelled(number[graph.labels], self.areas)
        return AreaMap(graph=named, probabilities=np.mean(list(by_seed.values()), axis=0))

    @property
    def uses_rim(self) -> bool:
        return any(name.startswith(RIM_PREFIX) for name in self.names)

    def alignment_for(self, graph: MeshGraph) -> Alignment:
        """What `map` does by default with the coordinates of `graph`."""
        same = graph.space == self.frame.space or self.align == "registered"  # spheres are made to correspond
        return self.align if same else "similarity"

    # -- on disk --------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> list[str]:
        """Write model.safetensors and model.json."""
        arrays: dict[str, NDArray[Any]] = {
            "prior": self.prior,
            "colours": self.areas.colours,
            "frame.centre_mm": self.frame.centre_mm,
            "frame.cloud_mm": self.frame.cloud_mm,
        }
        if self.places is not None:
            arrays |= {"places.points": self.places.points, "places.labels": self.places.labels}
        for seed, members in self.weights.items():
            for fold, weights in enumerate(members):
                arrays |= {f"{seed}/{fold}/{name}": value.numpy() for name, value in weights.items()}
        write_arrays(folder / "model.safetensors", arrays)
        write_json(
            folder / "model.json",
            {
                "format": FORMAT,
                "kind": "Ensemble",
                "network": to_plain(self.network),
                "coordinates": to_plain(self.coordinates),
                "inputs": to_plain(self.inputs),
                "features": self.names,
                "computed": self.computed,
                "n_features": self.n_features,
                "areas": {"names": self.areas.names, "keys": self.areas.keys},
                "align": self.align,
                "frame": {
                    "hemisphere": self.frame.hemisphere,
                    "space": self.frame.space,
                    "unit_mm": self.frame.unit_mm,
                },
                "places": {"on": self.places.on, "temperature": self.places.temperature} if self.places else None,
                "folds": {str(seed): len(members) for seed, members in self.weights.items()},
                "calibration": {
                    str(seed): {"prior_shift": c.prior_shift, "temperature": c.temperature}
                    for seed, c in self.calibration.items()
                },
            },
        )
        return ["model.safetensors", "model.json"]

    @staticmethod
    def load(folder: Path) -> "Ensemble":
        """Raises InputError when the files are missing, damaged, a pickle, or of another format."""
        folder = Path(folder)
        if not (folder / "model.safetensors").is_file():
            hint = sorted(folder.glob("*.pt")) + sorted(folder.glob("*.pkl")) + sorted(folder.glob("*.ckpt"))
            if folder.is_file() or hint:
                read_arrays(folder if folder.is_file() else hint[0])
            raise InputError(f"{folder}: holds no trained model (model.safetensors)")
        about = read_json(folder / "model.json")
        arrays = read_arrays(folder / "model.safetensors")
        try:
            if about["kind"] != "Ensemble" or about["format"] not in (1, 2, FORMAT):
                raise InputError(f"format {about['format']} is not known to this version")
            weights: dict[int, list[dict[str, torch.Tensor]]] = {}
            for seed, folds in about["folds"].items():
                if not 0 < int(folds) <= len(arrays):
                    raise InputError(f"seed {seed} has {folds} folds")
                starts = [f"{seed}/{fold}/" for fold in range(int(folds))]
                weights[int(seed)] = [
                    {
                        _current_name(name.removeprefix(start), about["format"]): torch.from_numpy(values)
                        for name, values in arrays.items()
                        if name.startswith(start)
                    }
                    for start in starts
                ]
            made = Ensemble(
                network=from_plain(networks(), about["network"], "model.json: network"),
                coordinates=from_plain(CoordinateEncoder.Config, about["coordinates"], "model.json: coordinates"),
                inputs=from_plain(NodeInputs.Config, about["inputs"], "model.json: inputs"),
                names=tuple(map(str, about["features"])),
                areas=Areas(
                    names=tuple(about["areas"]["names"]),
                    colours=arrays["colours"],
                    keys=tuple(about["areas"]["keys"]),
                ),
                prior=arrays["prior"],
                frame=CoordinateFrame(
                    hemisphere=str(about["frame"]["hemisphere"]),
                    space=str(about["frame"]["space"]),
                    centre_mm=arrays["frame.centre_mm"],
                    unit_mm=float(about["frame"]["unit_mm"]),
                    cloud_mm=arrays["frame.cloud_mm"],
                ),
                align=from_plain(Alignment, about["align"], "model.json: align"),
                weights=weights,
                calibration={
                    int(seed): Calibration(prior_shift=float(c["prior_shift"]), temperature=float(c["temperature"]))
                    for seed, c in about["calibration"].items()
                },
                n_features=int(about["n_features"]),
                computed={str(name): dict(identity) for name, identity in about.get("computed", {}).items()},
                places=_places(arrays, about),
            )
            made._check()
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
            why = str(error) if isinstance(error, InputError) else f"does not describe a model of ours ({error})"
            raise InputError(f"{folder / 'model.json'}: {why.removeprefix('model.json: ')}") from None
        return made

    def _check(self) -> None:
        """Raises InputError when the parts do not make a model."""
        check_members(self.network, self.coordinates, self.n_features, len(self.areas), self.weights)
        check_frame(self.frame, self.prior, len(self.areas))
        if set(self.calibration) != set(self.weights):
            raise InputError("not every seed has a calibration")

"""Applies a trained run to another brain's folder and writes its label files."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from meshgnn.config import Config as BaseConfig
from meshgnn.config import to_plain
from meshgnn.errors import InputError
from meshgnn.experiment.feature_tables import FITTED, paths_in
from meshgnn.experiment.run_folder import RunFolder, read_config
from meshgnn.experiment.runner import SCORES, Experiment, Stage
from meshgnn.experiment.trained_run import own_features
from meshgnn.export.area_map import AreaMap
from meshgnn.export.gifti import write_area_map
from meshgnn.export.tables import write_csv, write_graphml
from meshgnn.graph import MeshGraph
from meshgnn.registration.brains import REGISTERED
from meshgnn.results import MappedNodes, Measures, PredictionMetrics
from meshgnn.sockets import FeatureMaker
from meshgnn.source.socket import Reading
from meshgnn.source.surface_folder import SurfaceFolder
from meshgnn.store import file_hash, read_json, write_json
from meshgnn.train.ensemble import Ensemble
from meshgnn.train.metrics import score


class Predict(Experiment):
    """A trained run on a surface folder. Labels of that folder, if any, are used to judge, never to predict."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            run: folder of a finished `surface` run.
            source: the brain to map; its atlas, if it has one with the same area names, judges the map.
            features: configs of makers that are asked for features that were computed in training, after those of the
                run itself. What the run learnt is taken from the run, whichever is asked.
            compute: features that the model was trained on from files, but that may be computed from this brain's
                surfaces where it has no such file (`compute=thickness`). The map is worse for it.
            align: how its coordinates come into the training brain's frame; auto does what the run does in the same
                space, or on registered spheres, and fits a similarity (rotation, shift, scale) to any other.
        """

        moved: ClassVar[dict[str, str]] = {"geometry": "features", "geometry.*": "features.Geometry"}

        run: Path = Path()
        source: SurfaceFolder.Config = field(default_factory=SurfaceFolder.Config)
        features: tuple[Any, ...] = ()
        compute: tuple[str, ...] = ()
        align: Literal["auto", "mirror", "rigid", "similarity", "registered"] = "auto"

        def build(self) -> "Predict":
            return Predict(self)

    def __init__(self, config: Config) -> None:
        if config.run == Path():
            raise InputError("no trained run given; add --set run=RUN")
        self.config = config
        self.ensemble = Ensemble.load(config.run)
        if read_config(config.run)["config"].get("connect"):
            raise InputError(
                f"{config.run}: was trained with edges between nodes of its own run (connect), and maps no other brain"
            )
        for name in config.compute:
            if name not in self.ensemble.names:
                listed = ", ".join(self.ensemble.names) or "none"
                raise InputError(f"compute={name}: the model was not trained on it; its features: {listed}")
        self.reading: Reading = config.source.build().read()
        self._computed: list[str] = []  # warnings about features that had to be computed

    def input_files(self) -> dict[str, str]:
        files = [*self.reading.files, self.config.run / "model.safetensors", self.config.run / "model.json"]
        return {str(path): file_hash(path) for path in files}

    def seeds(self) -> list[int]:
        return list(self.ensemble.weights)

    def stages(self) -> list[Stage]:
        return [Stage(name="predict", run=self._predict, after=(), depends=to_plain(self.config), files=self.files)]

    @cached_property
    def _mapped(self) -> tuple[AreaMap, str]:
        align = None if self.config.align == "auto" else self.config.align
        c, makers = self.config, self._makers()
        try:
            own, fitted = self.reading, c.run / FITTED
            graph, self._computed = self.ensemble.completed(own.graph, makers, c.compute, fitted, own.series)
        except InputError as error:
            why = [
                warning for warning in self.reading.warnings if warning.startswith("feature") and "left out" in warning
            ]
            raise InputError("; ".join([str(error), *why[:1]])) from None
        used = align or self.ensemble.alignment_for(graph)
        self._check_scale(graph, used)
        return self.ensemble.map(graph, align), used

    def _makers(self) -> list[FeatureMaker]:
        """Those of the run, then those that were asked for.

        Raises:
            InputError: one of the run reads a file, which is the training brain's, and none was asked for instead.
        """
        asked: list[FeatureMaker] = [one.build() for one in self.config.features]
        own: list[FeatureMaker] = []
        for number, config in enumerate(own_features(self.config.run)):
            maker: FeatureMaker = config.build()  # type: ignore[attr-defined]
            files = paths_in(config)
            if not files:
                own.append(maker)
            elif maker.name not in [one.name for one in asked]:
                kind = to_plain(config)["_"]
                raise InputError(
                    f"features.{number} of the run read {files[0]}, which belongs to the brain that it was trained on; "
                    f"name that of this brain: --set features={kind} and the settings of the run"
                )
        return [*own, *asked]

    def _check_scale(self, graph: MeshGraph, used: str) -> None:
        """Raises InputError when coordinates of quite another scale would go in as they are."""
        if used == "registered":
            return  # all spheres have one radius
        here = graph.cortex & (graph.hemisphere == graph.meshes[0].hemisphere)
        cloud = self.ensemble.frame.cloud_mm
        spread = [float(np.linalg.norm(points.std(0))) for points in (graph.vertices_mm[here], cloud)]
        ratio = spread[0] / max(spread[1], 1e-9)
        if self.ensemble.inputs.coordinates and used != "similarity" and not 1 / 3 < ratio < 3:
            raise InputError(
                f"{graph.brain}: its coordinates spread {ratio:.3g} times as far as those of the training brain: are "
                "they mm? A brain of another size needs --set align=similarity"
            )

    def check(self) -> None:
        """Maps the brain, so that whatever is wrong with it is reported before anything is written."""
        self._mapped  # noqa: B018

    def _warnings(self) -> list[str]:
        graph, found = self.reading.graph, [*self.reading.warnings, *self._computed]
        if self.ensemble.uses_rim and graph.cortex.all():
            found.append("this brain has no cortex mask, but the model was trained with one: expect a worse map")
        places = self.ensemble.places
        if places is not None and places.on == "registered" and REGISTERED not in graph.surfaces:
            found.append(
                "this brain has no registered sphere, on which the run knows where areas lie: the map is the network's "
                "alone; make one with python -m meshgnn.registration"
            )
        unknown = sorted(set(graph.areas.names) - set(self.ensemble.areas.names))
        if unknown:
            listed = ", ".join(unknown[:5])
            found.append(
                f"{len(unknown)} areas of this atlas are not the model's and do not count in the score: {listed}"
            )
        return found

    def _predict(self, run: RunFolder) -> list[str]:
        area_map, used = self._mapped
        graph = area_map.graph
        for warning in self._warnings():
            run.warn(warning)
        if self.ensemble.inputs.coordinates:
            run.say(f"  {graph.brain} into the frame of the training brain by: {used}")
        written = write_area_map(run / "predictions", area_map)
        write_csv(run / "predictions" / "nodes.csv", area_map)
        write_graphml(run / "export" / "graph.graphml", area_map)
        judged = int((graph.labels >= 0).sum())
        metrics = PredictionMetrics(
            task=f"{graph.brain}: prediction of {self.config.run}",
            protocol="strict",
            classes=len(graph.areas),
            seeds=tuple(self.seeds()),
            alignment=used if self.ensemble.inputs.coordinates else None,
            nodes=MappedNodes(mapped=int(graph.cortex.sum()), judged=judged),
            test=Measures(**score(graph, graph.cortex, area_map.probabilities).plain()) if judged else None,
        )
        write_json(run / SCORES, metrics.to_json())
        files = [str(path.relative_to(run.path)) for path in written]
        return [*files, "predictions/nodes.csv", "export/graph.graphml", SCORES]

    def summary(self, run: RunFolder) -> str:
        path = run / "metrics.json"
        metrics = PredictionMetrics.from_json(read_json(path), str(path))
        text = f"{metrics.nodes.mapped} nodes mapped to {metrics.classes} areas; files in {run / 'predictions'}"
        if metrics.test:
            text += f"\nagainst the folder's own labels: macro-F1 {metrics.test.macro_f1:.3f}"
        return text

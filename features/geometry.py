"""Features that the surfaces alone give: thickness, curvature, pial-to-white area ratio."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.graph import FeatureTable, MeshGraph
from meshgnn.mesh.metric import mean_curvature, vertex_areas
from meshgnn.progress import Progress
from meshgnn.sockets import Brain

Measure = Literal["thickness", "curvature", "areaRatio"]
_UNITS = {"thickness": "mm", "curvature": "1/mm", "areaRatio": ""}


class Geometry:
    """Makes a table of geometric measures; a `meshgnn.sockets.FeatureMaker` that learns nothing.

    thickness: distance between matching pial and white vertices, mm. curvature: mean curvature of the midthickness,
    1/mm, + where the faces bulge outward. areaRatio: log of pial over white vertex area, > 0 on gyri.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            measures: which to compute, in this order.
        """

        measures: tuple[Measure, ...] = get_args(Measure)

        def __post_init__(self) -> None:
            if not self.measures:
                raise SettingError(f"<measures> is empty; name some of {', '.join(get_args(Measure))}")

        def build(self) -> "Geometry":
            return Geometry(self)

    name = "geometry"

    def __init__(self, config: Config) -> None:
        self.config = config

    def identity(self) -> dict[str, Any]:
        return {"maker": "Geometry", "measures": list(self.config.measures)}

    def inputs(self, brain: Brain) -> Sequence[Path]:
        """Raises InputError when a measure needs surfaces that the brain has not."""
        for measure in self.config.measures:
            if measure != "curvature":
                self._need(brain.graph, measure)
        return []

    def fit(self, brains: Sequence[Brain], folder: Path, progress: Progress) -> list[str]:
        return []

    def make(self, brain: Brain, folder: Path, progress: Progress) -> FeatureTable:
        """[V, measures]. Raises InputError when a measure needs surfaces that the brain has not."""
        graph = brain.graph
        columns = [getattr(self, f"_{name}")(graph) for name in self.config.measures]
        return FeatureTable(
            name="geometry",
            values=np.stack(columns, axis=1).astype(np.float32),
            mask=np.ones(graph.n_nodes, bool),
            columns=tuple(self.config.measures),
            units=tuple(_UNITS[name] for name in self.config.measures),
            encoder=self.identity(),
        )

    def _need(self, graph: MeshGraph, measure: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if "pial" not in graph.surfaces or "white" not in graph.surfaces:
            raise InputError(
                f"{graph.brain}: {measure} needs pial and white surfaces of both hemispheres; add them, or "
                "compute less: --set features.Geometry.measures=curvature"
            )
        return graph.surfaces["pial"], graph.surfaces["white"]

    def _thickness(self, graph: MeshGraph) -> NDArray[np.floating]:
        pial, white = self._need(graph, "thickness")
        return np.linalg.norm(pial - white, axis=1)

    def _curvature(self, graph: MeshGraph) -> NDArray[np.floating]:
        return np.concatenate([mean_curvature(mesh) for mesh in graph.meshes])

    def _areaRatio(self, graph: MeshGraph) -> NDArray[np.floating]:
        pial, white = self._need(graph, "areaRatio")
        areas = [
            np.concatenate([
                vertex_areas(mesh.with_vertices(points[place]))
                for mesh, place in zip(graph.meshes, graph.slices().values())
            ])
            for points in (pial, white)
        ]  # fmt: skip
        return np.log((areas[0] + 1e-6) / (areas[1] + 1e-6))

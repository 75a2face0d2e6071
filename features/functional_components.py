"""Functional components: how much of the main time courses of a resting run lies in the series of each node."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from features.node_data.vertex_series import VertexSeries
from meshgnn.config import Config as BaseConfig
from meshgnn.config import at, to_plain
from meshgnn.errors import InputError, SettingError
from meshgnn.graph import FeatureTable
from meshgnn.progress import Progress
from meshgnn.sockets import Brain


class FunctionalComponents:
    """Loadings of the nodes on the first principal components over time of the brain's run; a
    `meshgnn.sockets.FeatureMaker` that learns nothing of labels.

    Nodes whose series rise and fall together have like loadings: in short, the functional connectivity of a node to all
    others (Margulies et al. 2016, doi:10.1073/pnas.1608282113, with principal components instead of diffusion maps).
    Both hemispheres of a run share the components. Other runs have others: a model of one brain does not carry over.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            data: the series, and how they are smoothed on the surface.
            components: number of loadings.
            name: of the table.
        """

        data: VertexSeries.Config = field(default_factory=lambda: VertexSeries.Config(rounds=3))
        components: int = 16
        name: str = "functional"

        def __post_init__(self) -> None:
            if self.components < 1 or not self.name.isidentifier():
                raise SettingError("<components> must be at least 1, <name> a word")

        def build(self) -> "FunctionalComponents":
            return FunctionalComponents(self)

    def __init__(self, config: Config) -> None:
        self.config, self.name = config, config.name

    def identity(self) -> dict[str, Any]:
        return {"maker": "FunctionalComponents", "config": to_plain(self.config)}

    def inputs(self, brain: Brain) -> Sequence[Path]:
        """Raises InputError when the brain has no such series."""
        with at("data"):
            return list(self.config.data.files(brain))

    def fit(self, brains: Sequence[Brain], folder: Path, progress: Progress) -> list[str]:
        return []

    def make(self, brain: Brain, folder: Path, progress: Progress) -> FeatureTable:
        """[V, components], of variance 1; masked where a node has no series. Raises InputError for too short series."""
        c = self.config
        with at("data"):
            data = c.data.build(brain)
        seen = np.flatnonzero(data.observed & brain.graph.cortex)
        if len(seen) <= c.components or data.shape[0] <= c.components:
            raise InputError(
                f"{brain.graph.brain}: {len(seen)} nodes with series of {data.shape[0]} values; lower the number of "
                f"components ({c.components})"
            )
        values = data.read(seen).astype(np.float64)
        values -= values.mean(0)
        over_time, vectors = np.linalg.eigh(values.T @ values)
        courses = vectors[:, ::-1][:, : c.components]
        # The sign of an eigenvector is arbitrary; its largest value is made positive.
        courses *= np.sign(courses[np.abs(courses).argmax(0), np.arange(c.components)])
        scale = np.sqrt(np.maximum(over_time[::-1][: c.components], 1e-12) / len(seen))
        table = np.zeros((brain.graph.n_nodes, c.components), np.float32)
        table[seen] = values @ courses / scale
        mask = np.zeros(brain.graph.n_nodes, bool)
        mask[seen] = True
        names = tuple(f"{c.name}_{k:02d}" for k in range(c.components))
        return FeatureTable(
            name=c.name, values=table, mask=mask, columns=names, units=("",) * c.components, encoder=self.identity()
        )

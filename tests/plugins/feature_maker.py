"""Features of another modality: the first components of a resting-state run, time series per vertex in GIfTI files."""

from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from meshgnn.config import Config
from meshgnn.errors import InputError
from meshgnn.graph import FeatureTable


class Components:
    """Scores of every node on the run's strongest principal components over time."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Config):
        files: tuple[Path, ...] = ()
        count: int = 3

        def build(self):
            return Components(self)

    name = "components"

    def __init__(self, config):
        self.config = config

    def inputs(self, brain):
        missing = [path for path in self.config.files if not Path(path).is_file()]
        if missing or len(self.config.files) != len(brain.graph.meshes):
            raise InputError(f"{brain.graph.brain}: name one time series file for each hemisphere; missing: {missing}")
        return list(self.config.files)

    def fit(self, brains, folder, progress):
        return []

    def make(self, brain, folder, progress):
        series = [np.stack([frame.data for frame in nibabel.load(path).darrays], axis=1) for path in self.config.files]
        values = np.concatenate(series).astype(np.float64)
        values -= values.mean(1, keepdims=True)
        scores, sizes, _ = np.linalg.svd(values, full_matrices=False)
        count = self.config.count
        return FeatureTable(
            name=self.name, values=scores[:, :count] * sizes[:count], mask=values.std(1) > 0,
            columns=tuple(f"component_{k}" for k in range(count)),
        )  # fmt: skip

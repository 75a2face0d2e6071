"""Features of a whole volume at several scales, read where the nodes lie: no cube per node, one pass per brain.

V nodes, C columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.locations import towards_pial
from features.maps.derivatives import DerivativeBank
from features.maps.network import NetworkMaps
from features.node_data.volume_patches import Mni152T1, NiftiVolume, OwnVolume, standardised
from features.subject_data.grid import Cube
from meshgnn.config import Config as BaseConfig
from meshgnn.config import at
from meshgnn.errors import InputError, SettingError
from meshgnn.graph import FeatureTable
from meshgnn.progress import Progress, silent
from meshgnn.sockets import Brain
from meshgnn.source.volume import between_spaces
from meshgnn.store import content_hash, read_arrays, write_arrays

COMPONENTS = "components.safetensors"
MOST = 200_000  # nodes that components are fitted on


class VolumeMaps:
    """Samples maps of a volume at every node; a `meshgnn.sockets.FeatureMaker`.

    The volume is standardised (median and interquartile range of what is not 0), brought to a grid of even spacing,
    filtered once, and every map is interpolated trilinearly at the nodes' positions in mm. Learns nothing but, by
    choice, principal components of the columns, on training nodes.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            source: the volume: Mni152T1, NiftiVolume or OwnVolume.
            maps: DerivativeBank, which needs no training, or NetworkMaps: the stages of a 3D network.
            spacing_mm: of the grid; 0 keeps the volume's own.
            components: principal components that the columns are brought down to; 0 keeps the columns.
            name: of the table.
        """

        source: Mni152T1.Config | NiftiVolume.Config | OwnVolume.Config = field(default_factory=Mni152T1.Config)
        maps: DerivativeBank.Config | NetworkMaps.Config = field(default_factory=DerivativeBank.Config)
        spacing_mm: float = 2.0
        components: int = 0
        name: str = "maps"

        def __post_init__(self) -> None:
            if not self.name.isidentifier():
                raise SettingError(f"<name>={self.name!r} must be a plain word")
            if self.spacing_mm < 0 or self.components < 0:
                raise SettingError("<spacing_mm> and <components> must not be negative")

        def build(self) -> "VolumeMaps":
            return VolumeMaps(self)

    def __init__(self, config: Config) -> None:
        self.config, self.name = config, config.name

    def inputs(self, brain: Brain) -> Sequence[Path]:
        """Raises InputError when there is no volume, or one in a space that the surfaces cannot be brought into."""
        with at("source"):
            files = self.config.source.files(brain)
            between_spaces(brain.graph.space, self.config.source.volume(brain).space)
        return [*files, *self.config.maps.files()]

    def fit(self, brains: Sequence[Brain], folder: Path, progress: Progress) -> list[str]:
        """Principal components, if any are asked for; by training nodes in cortex.

        Raises:
            InputError: fewer columns or nodes than components.
        """
        if not self.config.components:
            return []
        rows = []
        for brain in brains:
            values, inside, _, _ = self._columns(brain, progress)
            rows.append(values[inside & brain.graph.cortex & brain.train])
        known = np.concatenate(rows).astype(np.float64)
        known = known[np.linspace(0, len(known) - 1, min(MOST, len(known))).astype(np.int64)]
        count = self.config.components
        if min(known.shape) < count:
            raise SettingError(f"<components>={count}: there are {known.shape[1]} columns of {len(known)} nodes")
        centre, spread = known.mean(0), known.std(0)
        spread = np.where(spread > 1e-9, spread, 1)
        _, axes = np.linalg.eigh(np.cov(((known - centre) / spread).T))
        axes = axes[:, ::-1][:, :count]
        axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(count)])  # a sign of their own
        write_arrays(folder / COMPONENTS, {"centre": centre, "spread": spread, "axes": np.ascontiguousarray(axes)})
        return [COMPONENTS]

    def make(self, brain: Brain, folder: Path, progress: Progress) -> FeatureTable:
        """[V, C], masked where a node lies outside the volume.

        Raises:
            InputError: no node lies in the volume, or components of another network.
        """
        values, inside, names, identity = self._columns(brain, progress)
        if self.config.components:
            stored = read_arrays(folder / COMPONENTS)
            if stored["axes"].shape != (values.shape[1], self.config.components):
                raise InputError(f"{folder / COMPONENTS}: made for other columns; run again with --resume")
            values = ((values - stored["centre"]) / stored["spread"] @ stored["axes"]).astype(np.float32)
            names = tuple(f"{self.name}_{k}" for k in range(self.config.components))
            identity = {**identity, "components": content_hash(stored["axes"].tolist())}
        return FeatureTable(name=self.name, values=values, mask=inside, columns=names, encoder=identity)

    def _columns(
        self, brain: Brain, progress: Progress = silent
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[str, ...], dict[str, Any]]:
        """Values [V, C], which nodes [V] lie in the volume, names, what made them."""
        graph, c = brain.graph, self.config
        with at("source"):
            volume = c.source.volume(brain)
            there = between_spaces(graph.space, volume.space)
        points = graph.vertices_mm.astype(np.float64) @ there[:3, :3].T + there[:3, 3]
        normals = towards_pial(graph) @ there[:3, :3].T
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        back = np.linalg.inv(volume.affine)
        voxels = points @ back[:3, :3].T + back[:3, 3]
        inside = ((voxels >= 0) & (voxels <= np.array(volume.values.shape) - 1)).all(1)
        if not inside.any():
            raise InputError(f"{graph.brain}: no node lies in the volume; are both in one space?")
        values, affine = standardised(volume.values), volume.affine
        if c.spacing_mm:
            cube = Cube.Config(size=0, fit="crop", spacing_mm=c.spacing_mm).build()
            x, y, z = values.shape
            shape, target = cube.target((x, y, z), affine)
            values, affine = cube.resample(values, affine, shape, target), target
        with at("maps"):
            maps = c.maps.build()
            found, names = maps.at(values, affine, points, normals, progress)
        identity = {**maps.identity(), "volume": volume.key(), "spacing_mm": c.spacing_mm}
        return np.where(inside[:, None], found, 0), inside, names, identity

"""Cubes of an image volume around the nodes, in mm, upright to the cortical normal, at several scales at once."""

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from features.augment_volume import VolumeAugment
from features.locations import towards_pial
from features.node_data.blocks import blocks
from features.node_data.trilinear import sampled
from meshgnn.config import Config as BaseConfig
from meshgnn.config import at
from meshgnn.errors import SettingError
from meshgnn.optional import data_folder
from meshgnn.sockets import Brain
from meshgnn.source.volume import Volume, between_spaces, read_volume


class Mni152T1:
    """The T1-weighted MNI152 average at 1 mm, skull-stripped (Fonov et al. 2011), as nilearn ships it."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        def files(self, brain: Brain) -> tuple[Path, ...]:
            folder = data_folder("nilearn") / "datasets" / "data"
            return (folder / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",)

        def volume(self, brain: Brain) -> Volume:
            return read_volume(self.files(brain)[0], "MNI152NLin2009aSym")


class NiftiVolume:
    """A NIfTI file of one's own."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            path: of the file.
            space: that its affine leads to; that of the surfaces if empty.
        """

        path: Path = Path()
        space: str = ""

        def files(self, brain: Brain) -> tuple[Path, ...]:
            """Raises InputError when no file is named, or it is not there."""
            if not self.path.is_file():
                raise SettingError(f"<path>={self.path}: is no file; name the volume")
            return (self.path,)

        def volume(self, brain: Brain) -> Volume:
            return read_volume(self.files(brain)[0], self.space or brain.graph.space)


class OwnVolume:
    """A volume that the brain brings."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            name: in `Brain.volumes`.
        """

        name: str = "T1w"

        def files(self, brain: Brain) -> tuple[Path, ...]:
            brain.volume(self.name)
            return ()

        def volume(self, brain: Brain) -> Volume:
            return brain.volume(self.name)


class VolumePatches:
    """Items [scales, S, S, S] float32 around every node that lies in the volume; a `meshgnn.sockets.NodeData`.

    One channel per spacing: the same number of samples, further apart. The volume is first smoothed for each scale (a
    Gaussian of half the spacing, less what a voxel already averages), so that nothing is aliased, then sampled
    trilinearly. Values are standardised per volume: the median of all voxels that are not 0 is taken away, and what is
    left divided by their interquartile range / 1.349, which is the standard deviation of a normal distribution; neither
    minds outliers or the share of background. Samples outside the volume are 0, the median.

    The first axis of an upright cube points from white matter to pial; the turn about it is arbitrary but fixed: the
    second axis is the part of the space's anterior (or, where the normal points there, superior) direction across it.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            source: the volume: Mni152T1, NiftiVolume or OwnVolume.
            size: samples along a side of the cube.
            spacing_mm: between samples, one channel each.
            upright: turn cubes so that their first axis is the cortical normal; otherwise they lie as the space does.
            block_mm: nodes of a cell of this side are held out together, since their cubes overlap.
            augment: how cubes are changed in pretraining.
        """

        source: Mni152T1.Config | NiftiVolume.Config | OwnVolume.Config = field(default_factory=Mni152T1.Config)
        size: int = 8
        spacing_mm: tuple[float, ...] = (1.0, 2.0, 4.0)
        upright: bool = True
        block_mm: float = 20.0
        augment: VolumeAugment.Config = field(default_factory=VolumeAugment.Config)

        def __post_init__(self) -> None:
            if self.size < 2 or not self.spacing_mm or min(self.spacing_mm) <= 0 or not self.block_mm > 0:
                raise SettingError(
                    "<size> must be at least 2, <spacing_mm> name spacings above 0, <block_mm> be above 0"
                )

        def build(self, brain: Brain) -> "VolumePatches":
            """Raises InputError when there is no volume, or one in a space that the surfaces cannot be brought into."""
            with at("source"):
                return VolumePatches(self, brain, self.source.volume(brain))

        def files(self, brain: Brain) -> tuple[Path, ...]:
            """Raises InputError as `build` does."""
            with at("source"):
                files = self.source.files(brain)
                between_spaces(brain.graph.space, self.source.volume(brain).space)
            return files

        def item_format(self) -> dict[str, Any]:
            """What a cube looks like; an encoder fits cubes of the same look only."""
            return {"size": self.size, "spacing_mm": list(self.spacing_mm), "upright": self.upright}

    def __init__(self, config: Config, brain: Brain, volume: Volume) -> None:
        graph = brain.graph
        self.config, self._volume = config, volume
        there = between_spaces(graph.space, volume.space)
        self._points = graph.vertices_mm.astype(np.float64) @ there[:3, :3].T + there[:3, 3]
        self._axes = _axes(towards_pial(graph) @ there[:3, :3].T) if config.upright else np.eye(3)[None]
        self._to_voxels = np.linalg.inv(volume.affine)
        voxels = self._points @ self._to_voxels[:3, :3].T + self._to_voxels[:3, 3]
        self.observed = ((voxels >= 0) & (voxels <= np.array(volume.values.shape) - 1)).all(1)
        self.groups = blocks(graph.vertices_mm, config.block_mm)
        self._scales: list[NDArray[np.float32]] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.config.spacing_mm), *(self.config.size,) * 3)

    def read(self, nodes: NDArray[np.integer]) -> NDArray[np.float32]:
        return self.read_masked(nodes)[0]

    def read_masked(self, nodes: NDArray[np.integer]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Cubes and where they lie inside the volume, both [B, scales, S, S, S]."""
        nodes, size = np.asarray(nodes, np.int64), self.config.size
        if self._scales is None:
            self._scales = self._smoothed()
        axes = self._axes[nodes] if len(self._axes) > 1 else np.repeat(self._axes, len(nodes), axis=0)
        step = np.arange(size) - (size - 1) / 2
        grid = np.stack(np.meshgrid(step, step, step, indexing="ij"), axis=-1).reshape(-1, 3)
        out = np.empty((len(nodes), *self.shape), np.float32)
        inside = np.empty(out.shape, np.bool_)
        for k, (spacing, values) in enumerate(zip(self.config.spacing_mm, self._scales)):
            points = self._points[nodes, None] + spacing * np.einsum("gk,bkx->bgx", grid, axes)
            voxels = points @ self._to_voxels[:3, :3].T + self._to_voxels[:3, 3]
            found, within = sampled(values, voxels)
            out[:, k] = np.where(within, found, 0).reshape(-1, size, size, size)
            inside[:, k] = within.reshape(-1, size, size, size)
        return out, inside

    def _smoothed(self) -> list[NDArray[np.float32]]:
        """The standardised volume, smoothed for every scale."""
        values, voxel = standardised(self._volume.values), self._volume.voxel_mm
        sigmas = [np.sqrt(np.maximum(spacing**2 - voxel**2, 0)) / 2 / voxel for spacing in self.config.spacing_mm]
        return [ndimage.gaussian_filter(values, sigma, truncate=3) if sigma.any() else values for sigma in sigmas]

    def key(self) -> str:
        digest = sha256(self._points.tobytes() + self._axes.tobytes())
        digest.update(repr((self._volume.key(), self.config.item_format(), self.config.block_mm)).encode())
        return digest.hexdigest()[:16]


def standardised(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(values - median) / (interquartile range / 1.349), both of the voxels that are not 0."""
    inside = values[values != 0]
    if not len(inside):
        return np.zeros_like(values)
    low, middle, high = np.percentile(inside, [25, 50, 75])
    return ((values - middle) / max((high - low) / 1.349, 1e-6)).astype(np.float32)


def _axes(normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """[V, 3, 3] right-handed axes in rows, the first along each normal."""
    first = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    first = np.where(np.linalg.norm(normals, axis=1, keepdims=True) > 0, first, [0.0, 0.0, 1.0])
    towards = np.where(np.abs(first[:, 1:2]) < 0.9, [[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]])
    second = towards - (towards * first).sum(1, keepdims=True) * first
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    return np.stack([first, second, np.cross(first, second)], axis=1)

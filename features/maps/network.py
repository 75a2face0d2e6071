"""Maps of the stages of a 3D network that a whole volume goes through once."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from features.encoders.biobank_cnn import BiobankCNN
from features.encoders.item_encoder import ItemEncoder
from features.encoders.naive_cnn import NaiveCNN
from features.encoders.resnet3d import ResNet3D
from features.encoders.volume_cnn import VolumeCNN
from features.encoders.weights import weights_hash
from features.maps.lattice import placed_maps
from features.node_data.trilinear import sampled
from features.transfer.pretrained import Pretrained
from meshgnn.config import Config as BaseConfig
from meshgnn.config import at, to_plain
from meshgnn.errors import SettingError
from meshgnn.progress import Progress

MapEncoder = ResNet3D.Config | BiobankCNN.Config | NaiveCNN.Config | VolumeCNN.Config


class NetworkMaps:
    """The maps behind the stages of an encoder, each sampled trilinearly where the nodes lie in it.

    Weights come from a local file. Without one they are drawn at random: what an untrained network gives is a fixed
    random filter bank, which `DerivativeBank` beats in what it means.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            encoder: with maps; linear layers behind them are not used.
            size: of the cubes that the encoder was trained for; only linear layers depend on it.
            pretrained: a local file of weights; none for random ones.
            stages: which maps, counted from 0; all if none are named.
            seed: of random weights.
        """

        encoder: MapEncoder = field(default_factory=lambda: ResNet3D.Config(depth=18, stem="image"))
        size: int = 64
        pretrained: Pretrained.Config = field(default_factory=Pretrained.Config)
        stages: tuple[int, ...] = ()
        seed: int = 0

        def __post_init__(self) -> None:
            if not 1 <= self.size <= 512 or self.seed < 0 or min(self.stages, default=0) < 0:
                raise SettingError("<size> must lie between 1 and 512, <seed> and <stages> not be negative")

        def build(self) -> "NetworkMaps":
            """Raises InputError: a network that cannot be built, or a file that does not fit it."""
            return NetworkMaps(self)

        def files(self) -> tuple[Path, ...]:
            return (self.pretrained.file,) if self.pretrained.file is not None else ()

    def __init__(self, config: Config) -> None:
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            with at("encoder"):
                encoder = config.encoder.build((1, config.size, config.size, config.size))
        if config.pretrained.file is not None:
            with at("pretrained"):
                config.pretrained.build().into(encoder)
        self._encoder: nn.Module = encoder.eval()

    def identity(self) -> dict[str, Any]:
        """Config and a hash of the weights."""
        plain = to_plain(self.config)
        plain["pretrained"].pop("file")  # its hash says which, wherever it lies
        return {"maps": "NetworkMaps", "config": plain, "weights": weights_hash(self._encoder)}

    def at(
        self, values: NDArray[np.float32], affine: NDArray[np.float64], points_mm: NDArray[np.float64],
        normals: NDArray[np.float64], progress: Progress,
    ) -> tuple[NDArray[np.float32], tuple[str, ...]]:  # fmt: skip
        """Every channel of every stage at points, [V, C], and names of the columns.

        Points beyond the outermost values of a map, which unpadded convolutions pull in, take the nearest ones.

        Args:
            values: [X, Y, Z] standardised; affine: [4, 4] voxel -> mm.
            points_mm: [V, 3]; normals: not used.

        Raises:
            InputError: a stage that is not there, or a volume that is too small for the network.
        """
        maps = placed_maps(map_stages(self._encoder), torch.from_numpy(np.ascontiguousarray(values))[None])
        wanted = self.config.stages or tuple(range(len(maps)))
        if max(wanted) >= len(maps):
            raise SettingError(f"<stages> names {max(wanted)}; the stages with maps are 0 to {len(maps) - 1}")
        back = np.linalg.inv(affine)
        voxels = points_mm @ back[:3, :3].T + back[:3, 3]
        columns: list[NDArray[np.float32]] = []
        names: list[str] = []
        for done, stage in enumerate(wanted, 1):
            one = maps[stage]
            places = (voxels - one.lattice.start) / one.lattice.step
            columns += _channels(one.values.numpy(), places)
            names += [f"stage{stage}_{channel}" for channel in range(len(one.values))]
            progress("stages", done, len(wanted))
        return np.stack(columns, axis=1), tuple(names)


def map_stages(encoder: Any) -> tuple[nn.Module, ...]:
    """Parts of an encoder whose composition begins its forward pass, cut where maps are read; up to where space is
    flattened into columns."""
    if isinstance(encoder, VolumeCNN):
        first, *others = encoder.blocks
        return (nn.Sequential(encoder.stem, first), *others)
    assert isinstance(encoder, ItemEncoder)
    return tuple(takewhile(lambda stage: not any(isinstance(p, nn.Flatten) for p in stage.modules()), encoder.stages()))


def _channels(values: NDArray[np.float32], places: NDArray[np.float64]) -> Iterator[NDArray[np.float32]]:
    for channel in values:
        yield sampled(channel, places)[0]

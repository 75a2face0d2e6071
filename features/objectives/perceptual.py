"""The error of an autoencoder of runs in the eyes of another network."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from features.encoders.frame_encoder import FrameEncoder
from features.encoders.item_encoder import check_counts
from features.objectives.run_objective import RunOutputs, check_factor, drawn
from features.transfer.pretrained import Pretrained
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError


class RandomFeatures(nn.Module):
    """Strided convolutions with frozen random kernels, which need no file: [N, 1, X, Y, Z] -> maps of every layer."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            channels: of the layers, each at half the resolution of the one before.
            seed: of the kernels.
        """

        channels: tuple[int, ...] = (8, 16)
        seed: int = 0

        def __post_init__(self) -> None:
            check_counts(channels=self.channels)

        def build(self, shape: Sequence[int]) -> "RandomFeatures":
            """For volumes (X, Y, Z) of any sides."""
            return RandomFeatures(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(config.seed)
        for number, (before, width) in enumerate(zip((1, *config.channels), config.channels)):
            kernel = torch.randn(width, before, 3, 3, 3, generator=generator) * (2 / (27 * before)) ** 0.5
            self.register_buffer(f"kernel{number}", kernel, persistent=False)

    def forward(self, volumes: Tensor) -> list[Tensor]:
        maps = []
        for kernel in self.buffers():
            volumes = F.relu(F.conv3d(volumes, kernel, stride=2, padding=1))
            maps.append(volumes)
        return maps


class EncoderFeatures(nn.Module):
    """The maps of a `FrameEncoder` of one channel that was trained before, frozen: [N, 1, X, Y, Z] -> its maps."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            encoder: as it was trained.
            weights: a file of it, or of an autoencoder of runs.
        """

        encoder: FrameEncoder.Config = field(default_factory=FrameEncoder.Config)
        weights: Pretrained.Config = field(default_factory=Pretrained.Config)

        def build(self, shape: Sequence[int]) -> "EncoderFeatures":
            """For volumes (X, Y, Z).

            Raises:
                SettingError: no file is named.
                InputError: it has another hash, or is of another encoder.
            """
            return EncoderFeatures(self, shape)

    def __init__(self, config: Config, shape: Sequence[int]) -> None:
        super().__init__()
        self.encoder = config.encoder.build((1, *shape))
        start = config.weights.build()
        start.weights = {name.removeprefix("frames."): weight for name, weight in start.weights.items()}
        start.into(self.encoder)
        self.requires_grad_(False)

    def forward(self, volumes: Tensor) -> list[Tensor]:
        maps = []
        self.encoder.eval()  # no dropout, whatever the mode of the training
        for stage in self.encoder.down:
            volumes = stage(volumes)
            maps.append(volumes)
        return maps


FeatureNet = RandomFeatures.Config | EncoderFeatures.Config


class Perceptual(nn.Module):
    """Mean squared difference of the maps that a frozen network makes of a frame and of its reconstruction (Johnson et
    al. 2016, arXiv 1603.08155, section 3.2), at some frames of every window."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            factor: in the sum of all objectives.
            network: that looks.
            share: of the frames of a window that it looks at, drawn anew every time, at least one.
        """

        transformer: ClassVar[bool] = False
        channels: ClassVar[int] = 1
        windows: ClassVar[int] = 1
        joint: ClassVar[bool] = False

        factor: float = 1.0
        network: FeatureNet = field(default_factory=RandomFeatures.Config)
        share: float = 0.25

        def __post_init__(self) -> None:
            check_factor(self.factor)
            if not 0 < self.share <= 1:
                raise SettingError(f"<share> must be above 0 and at most 1, got {self.share}")

        def build(self, shape: Sequence[int], features: int) -> "Perceptual":
            return Perceptual(self, shape)

    def __init__(self, config: Config, shape: Sequence[int]) -> None:
        super().__init__()
        self.network = config.network.build(shape[1:4])
        self.share = config.share

    def forward(self, outputs: RunOutputs) -> Tensor:
        count = outputs.window.shape[-1]
        wanted = ceil(self.share * count)
        places = torch.stack([
            torch.from_numpy(drawn(numbers, 0x9E).permutation(count)[:wanted].copy()) for numbers in outputs.draws
        ]).to(outputs.window.device)  # fmt: skip
        return perceptual_loss(outputs.rebuilt, outputs.window, places, self.network)


def perceptual_loss(rebuilt: Tensor, window: Tensor, places: Tensor, network: nn.Module) -> Tensor:
    """Mean over the chosen frames and over the layers of the mean squared difference of maps.

    Args:
        rebuilt: [B, 1, X, Y, Z, F].
        window: [B, C, X, Y, Z, F], of which channel 0 is looked at.
        places: [B, n] chosen frames of every window.
        network: [N, 1, X, Y, Z] -> maps.

    Returns:
        [B].
    """
    count, chosen = places.shape
    row = torch.arange(count, device=places.device)[:, None]
    seen, wanted = (one[:, 0].movedim(-1, 1)[row, places].flatten(0, 1)[:, None] for one in (rebuilt, window))
    with torch.no_grad():
        targets = network(wanted)
    pairs = zip(network(seen), targets)
    errors = [(made.float() - target.float()).square().flatten(1).mean(1) for made, target in pairs]
    return torch.stack(errors).mean(0).view(count, chosen).mean(1)

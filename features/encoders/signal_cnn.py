"""A small convolutional network for one-dimensional items: depth profiles, time series."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from features.encoders.weights import weights_hash
from meshgnn.config import Config as BaseConfig
from meshgnn.config import to_plain
from meshgnn.errors import InputError, SettingError


class SignalCNN(nn.Module):
    """Convolutions of width 5 with group norm, each stage at half the resolution; means over `bands` equal parts.

    With bands > 1 a feature knows where along the signal it was seen (depth profiles); 1 forgets it (time series).
    Inputs [B, T] float, features [B, out_channels].
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            out_channels: features per item.
            widths: channels of the stages.
            bands: parts of the signal that the last maps are averaged over.
        """

        out_channels: int = 16
        widths: tuple[int, ...] = (16, 32)
        bands: int = 1

        def __post_init__(self) -> None:
            if not self.widths or any(width < 8 or width % 8 for width in self.widths):
                raise SettingError(f"<widths> must be multiples of 8, got {self.widths}")
            if self.out_channels < 1 or self.bands < 1:
                raise SettingError("<out_channels> and <bands> must be at least 1")

        def build(self, shape: tuple[int, ...]) -> "SignalCNN":
            """An encoder of signals (T,); weights from torch's random state.

            Raises:
                InputError: not signals, or shorter than the stages halve them.
            """
            if len(shape) != 1:
                raise InputError(f"a SignalCNN encodes signals, not items of shape {shape}; choose another encoder")
            if shape[0] < self.bands * 2 ** len(self.widths):
                raise SettingError(f"signals of {shape[0]} values are too short for so many <widths> and <bands>")
            return SignalCNN(self, shape)

    level: Literal["node", "graph"] = "node"

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.config, self.shape, self.out_channels = config, shape, config.out_channels
        stages: list[nn.Module] = []
        for before, width in zip((1, *config.widths), config.widths):
            stages += [nn.Conv1d(before, width, 5, 2, 2, bias=False), nn.GroupNorm(8, width), nn.ReLU()]
        self.stages = nn.Sequential(*stages)
        self.features = nn.Linear(config.widths[-1] * config.bands, config.out_channels)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, T] -> [B, out_channels]. Raises InputError for signals of another length."""
        if tuple(inputs.shape[1:]) != tuple(self.shape):
            raise InputError(f"this encoder takes signals [B, {self.shape[0]}], got {tuple(inputs.shape)}")
        maps = F.adaptive_avg_pool1d(self.stages(inputs[:, None]), self.config.bands)
        return self.features(maps.flatten(1))

    def identity(self) -> dict[str, Any]:
        """Config and a hash of the weights."""
        about = {"encoder": "SignalCNN", "config": to_plain(self.config), "shape": list(self.shape)}
        return {**about, "weights": weights_hash(self)}

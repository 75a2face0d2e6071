"""A small residual network for cubes of image volumes, with the scales of sampling as channels."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from features.encoders.residual_block import ResidualBlock
from features.encoders.weights import weights_hash
from meshgnn.config import Config as BaseConfig
from meshgnn.config import to_plain
from meshgnn.errors import InputError, SettingError


class VolumeCNN(nn.Module):
    """Pre-activation residual blocks (He et al. 2016) of 3 x 3 x 3 convolutions with group norm, mean over the cube.

    Every stage but the first halves the resolution. Inputs [B, C, S, S, S] float, features [B, out_channels].
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            out_channels: features per cube.
            widths: channels of the stages.
        """

        out_channels: int = 16
        widths: tuple[int, ...] = (16, 32, 64)

        def __post_init__(self) -> None:
            if not self.widths or any(width < 8 or width % 8 for width in self.widths):
                raise SettingError(f"<widths> must be multiples of 8, got {self.widths}")
            if self.out_channels < 1:
                raise SettingError("<out_channels> must be at least 1")

        def build(self, shape: tuple[int, ...]) -> "VolumeCNN":
            """An encoder of cubes (C, S, S, S); weights from torch's random state.

            Raises:
                InputError: not cubes, or nothing would be left of them.
            """
            if len(shape) != 4 or len(set(shape[1:])) != 1:
                raise InputError(f"a VolumeCNN encodes cubes, not items of shape {shape}; choose another encoder")
            if shape[1] // 2 ** (len(self.widths) - 1) < 1:
                raise SettingError(
                    f"cubes of {shape[1]} voxels shrink to nothing in {len(self.widths)} stages; use fewer <widths> or "
                    "larger cubes"
                )
            return VolumeCNN(self, shape)

    level: Literal["node", "graph"] = "node"

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.config, self.shape, self.out_channels = config, shape, config.out_channels
        self.stem = nn.Conv3d(shape[0], config.widths[0], 3, 1, 1, bias=False)
        widths = [config.widths[0], *config.widths]
        self.blocks = nn.Sequential(*(
            ResidualBlock(nn.Conv3d, before, width, 2 if stage else 1)
            for stage, (before, width) in enumerate(zip(widths, config.widths))
        ))  # fmt: skip
        self.norm = nn.GroupNorm(8, widths[-1])
        self.features = nn.Linear(widths[-1], config.out_channels)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, S, S, S] -> [B, out_channels]. Raises InputError for cubes of another shape."""
        if tuple(inputs.shape[1:]) != tuple(self.shape):
            raise InputError(f"this encoder takes cubes [B, {self.shape}], got {tuple(inputs.shape)}")
        x = F.relu(self.norm(self.blocks(self.stem(inputs))))
        return self.features(x.mean((2, 3, 4)))

    def identity(self) -> dict[str, Any]:
        """Config and a hash of the weights."""
        about = {"encoder": "VolumeCNN", "config": to_plain(self.config), "shape": list(self.shape)}
        return {**about, "weights": weights_hash(self)}

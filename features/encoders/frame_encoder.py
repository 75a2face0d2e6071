"""The convolutional encoder of one frame of a run, after arXiv 2112.05761, and what its decoder shares with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from features.encoders.item_encoder import ItemConfig, ItemEncoder, check_counts, check_shares, check_volume
from features.encoders.layout import channels_last
from meshgnn.errors import SettingError


class FrameEncoder(ItemEncoder):
    """Pre-activation residual blocks between convolutions of stride 2, then a narrow map that is read as a vector.

    As published (2 channels, 75 x 93 x 81 voxels) the maps have 38 x 47 x 41, 19 x 24 x 21 and 10 x 12 x 11 voxels, the
    vector 2,640 values, and all but the bottleneck 276,108 parameters; of one channel 276,000. Volumes of any size are
    taken: an odd side is halved upwards. Inputs [B, C, X, Y, Z] float, features [B, out_channels].
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(ItemConfig):
        """
        Args:
            level: whether a volume belongs to a node or to a whole brain.
            channels: of the maps at every resolution, multiples of 4.
            blocks: residual blocks at every resolution.
            squeeze: channels of the last map, which is read as a vector.
            features: values per volume: a linear map follows where that vector has another length; 0 takes it as it is.
            dropout: share of values dropped at the end of a block in training.
        """

        channels: tuple[int, ...] = (4, 8, 16, 32)
        blocks: tuple[int, ...] = (1, 2, 2, 4)
        squeeze: int = 2
        features: int = 64
        dropout: float = 0.0

        def __post_init__(self) -> None:
            check_counts(channels=self.channels, blocks=self.blocks, squeeze=self.squeeze)
            check_shares(dropout=self.dropout)
            if any(width % 4 for width in self.channels):
                raise SettingError(f"<channels> must be multiples of 4, got {self.channels}")
            if len(self.blocks) != len(self.channels):
                raise SettingError(
                    f"<blocks> needs one number per entry of <channels>: {len(self.blocks)} for {len(self.channels)}"
                )
            if self.features < 0:
                raise SettingError(f"<features> must not be negative, got {self.features}")

        def build(self, shape: tuple[int, ...]) -> "FrameEncoder":
            """An encoder of volumes (C, X, Y, Z); weights from torch's random state.

            Raises:
                InputError: not volumes.
            """
            check_volume("FrameEncoder", shape)
            return FrameEncoder(self, shape)

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        self.sides = halved(shape[1:], len(config.channels))
        x, y, z = self.sides[-1]
        self.flat = config.squeeze * x * y * z
        super().__init__(config, shape, config.features or self.flat)
        widths, share = config.channels, config.dropout
        self.down = nn.ModuleList()
        for level, (width, after) in enumerate(pairwise(widths)):
            first = [Convolution(shape[0], width, 3, padding=1)] if not level else []
            blocks = [GreenBlock(width, share) for _ in range(config.blocks[level])]
            self.down.append(nn.Sequential(*first, *blocks, nn.Conv3d(width, after, 3, stride=2, padding=1)))
        first = [Convolution(shape[0], widths[0], 3, padding=1)] if len(widths) == 1 else []
        self.last = nn.Sequential(*first, *(GreenBlock(widths[-1], share) for _ in range(config.blocks[-1])))
        self.squeeze = nn.Sequential(
            nn.GroupNorm(widths[-1] // 4, widths[-1]), nn.LeakyReLU(),
            nn.Conv3d(widths[-1], config.squeeze, 3, padding=1), nn.Flatten(),
            nn.Identity() if self.out_channels == self.flat else nn.Linear(self.flat, self.out_channels),
        )  # fmt: skip

    def stages(self) -> tuple[nn.Module, ...]:
        """One per resolution, then the bottleneck."""
        return (*self.down, self.last, self.squeeze)


class GreenBlock(nn.Module):
    """Group norm, leaky ReLU and a 3 x 3 x 3 convolution, twice, then dropout; added to what came in.

    [B, C, X, Y, Z] -> the same; four channels per group (He et al. 2016, Identity mappings; Myronenko 2018, arXiv
    1810.11654).
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.GroupNorm(width // 4, width), nn.LeakyReLU(), nn.Conv3d(width, width, 3, padding=1)]
        self.main = nn.Sequential(*layers, nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.main(x)


class Convolution(nn.Conv3d):
    """A convolution of few channels, quick on a CPU too."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(channels_last(input))


def halved(sides: Sequence[int], levels: int) -> tuple[tuple[int, ...], ...]:
    """Sides in voxels at so many resolutions, the full one first."""
    found = [tuple(sides)]
    for _ in range(levels - 1):
        found.append(tuple((side + 1) // 2 for side in found[-1]))
    return tuple(found)

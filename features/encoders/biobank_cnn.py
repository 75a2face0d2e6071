"""The volume network of the biobank study on the legibility of the brain."""

from dataclasses import dataclass

from torch import Tensor, nn

from features.encoders.batch_norm import BatchNorm
from features.encoders.dense import dense_layers
from features.encoders.item_encoder import ItemConfig, ItemEncoder, check_counts, check_shares, check_volume
from features.encoders.layout import channels_last
from meshgnn.errors import SettingError


class BiobankCNN(ItemEncoder):
    """Residual units and a linear map, after "Computational limits to the legibility of the human brain" (NeuroImage
    2024, 10.1016/j.neuroimage.2024.120600).

    Image types are channels. Of 3 channels, volumes of 64^3 with the defaults have 7,427,680 parameters; volumes of
    128^3 with channels 32, 64, 128, 256, 256, 256 and 256 features 11,295,968. Inputs [B, C, X, Y, Z] float of any size
    that the units leave something of, features [B, out_channels].
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(ItemConfig):
        """
        Args:
            level: whether a volume belongs to a node or to a whole brain.
            channels: of the units, each at half the resolution of the one before.
            out_channels: features per volume.
            dropout: share of values dropped after every unit in training.
        """

        channels: tuple[int, ...] = (32, 64, 128, 256, 256)
        out_channels: int = 128
        dropout: float = 0.1

        def __post_init__(self) -> None:
            check_counts(channels=self.channels, out_channels=self.out_channels)
            check_shares(dropout=self.dropout)

        def build(self, shape: tuple[int, ...]) -> "BiobankCNN":
            """An encoder of volumes (C, X, Y, Z); weights from torch's random state.

            Raises:
                InputError: not volumes.
                SettingError: nothing is left of a volume after the units.
            """
            check_volume("BiobankCNN", shape)
            if min(shape[1:]) >> len(self.channels) < 1:
                raise SettingError(
                    f"volumes of {' x '.join(map(str, shape[1:]))} voxels shrink to nothing in {len(self.channels)} "
                    "units; use fewer <channels> or larger volumes"
                )
            return BiobankCNN(self, shape)

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        super().__init__(config, shape, config.out_channels)
        widths = (shape[0], *config.channels)
        self.units = nn.ModuleList(
            _Unit(before, width, config.dropout) for before, width in zip(widths, config.channels)
        )
        left = config.channels[-1]
        for side in shape[1:]:
            left *= side >> len(config.channels)
        (layer,) = dense_layers(left, (config.out_channels,), activation="gelu", dropout=0, norm=True)
        self.features = nn.Sequential(nn.Flatten(), *layer)

    def stages(self) -> tuple[nn.Module, ...]:
        """The units, then the linear map."""
        return (*self.units, self.features)


class _Unit(nn.Module):
    """Two 3x3x3 convolutions beside a 1x1x1 one, added; batch norm, GELU, max-pooling by 2, dropout."""

    def __init__(self, before: int, width: int, dropout: float) -> None:
        super().__init__()
        self.skip = nn.Conv3d(before, width, 1)
        first, second = nn.Conv3d(before, width, 3, padding=1), nn.Conv3d(width, width, 3, padding=1)
        self.main = nn.Sequential(first, nn.GELU(), second)
        self.after = nn.Sequential(BatchNorm(width), nn.GELU(), nn.MaxPool3d(2), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        x = channels_last(x)
        return self.after(self.skip(x) + self.main(x))

"""Naive-CNN: four unpadded convolutions and wide linear layers on a whole brain volume."""

from dataclasses import dataclass

from torch import Tensor, nn

from features.encoders.batch_norm import BatchNorm
from features.encoders.dense import Activation, activation_layers
from features.encoders.item_encoder import ItemConfig, ItemEncoder, check_counts, check_shares, check_volume
from features.encoders.layout import channels_last
from meshgnn.errors import SettingError


class NaiveCNN(ItemEncoder):
    """The Naive-CNN of the poster "Training a Large-Scale 3D CNN Predicting Human Intelligence in ABCD".

    Per stage: convolution (stride 1, no padding), max-pooling by 2, ReLU, dropout of channels; batch norm after the
    last one; then linear maps, by default without an activation between them, as published. Inputs [B, C, X, Y, Z]
    float of any size that the stages leave something of, features [B, linear[-1]]. For one channel of 240^3 voxels and
    with one output behind it the network has 527,685,041 parameters (527,694,721 with the unused batch norm).
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(ItemConfig):
        """
        Args:
            level: whether a volume belongs to a node or to a whole brain.
            channels: of the convolutions.
            kernels: their sizes in voxels.
            linear: widths of the linear maps; the last is the number of features.
            activation: after every linear map.
            dropout: share of channels dropped after a convolution and of values after a linear map but the last.
            unused_batch_norm: carry the batch norm that the original builds and never calls. It gets no gradient:
                data-parallel training then has to look for unused parameters.
        """

        channels: tuple[int, ...] = (10, 20, 40, 80)
        kernels: tuple[int, ...] = (5, 5, 6, 5)
        linear: tuple[int, ...] = (4840, 2420)
        activation: Activation = "none"
        dropout: float = 0.5
        unused_batch_norm: bool = False

        def __post_init__(self) -> None:
            check_counts(channels=self.channels, kernels=self.kernels, linear=self.linear)
            check_shares(dropout=self.dropout)
            if len(self.channels) != len(self.kernels):
                raise SettingError(
                    f"<kernels> needs one size per entry of <channels>: {len(self.kernels)} for {len(self.channels)}"
                )

        def build(self, shape: tuple[int, ...]) -> "NaiveCNN":
            """An encoder of volumes (C, X, Y, Z); weights from torch's random state.

            Raises:
                InputError: not volumes.
                SettingError: nothing is left of a volume after the stages.
            """
            check_volume("NaiveCNN", shape)
            return NaiveCNN(self, shape)

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        super().__init__(config, shape, config.linear[-1])
        sides, before = shape[1:], shape[0]
        convolutions: list[nn.Module] = []
        for width, kernel in zip(config.channels, config.kernels):
            layers = [nn.Conv3d(before, width, kernel), nn.MaxPool3d(2), nn.ReLU(), nn.Dropout3d(config.dropout)]
            sides, before = tuple((side - kernel + 1) // 2 for side in sides), width
            if min(sides) < 1:
                raise SettingError(
                    f"volumes of {' x '.join(map(str, shape[1:]))} voxels shrink to nothing in {len(config.channels)} "
                    "unpadded stages; use fewer <channels>, smaller <kernels> or larger volumes"
                )
            convolutions.append(nn.Sequential(*layers))
        convolutions[-1] = nn.Sequential(convolutions[-1], BatchNorm(before))
        self.convolutions = nn.ModuleList(convolutions)
        before *= sides[0] * sides[1] * sides[2]
        linear: list[nn.Module] = []
        for number, width in enumerate(config.linear, 1):
            dropout = [nn.Dropout(config.dropout)] if number < len(config.linear) else []
            layers = [nn.Flatten(), nn.Linear(before, width), *activation_layers(config.activation), *dropout]
            linear.append(nn.Sequential(*layers))
            before = width
        self.linear = nn.ModuleList(linear)
        if config.unused_batch_norm:
            self.unused_norm = BatchNorm(config.linear[0])

    def forward(self, inputs: Tensor) -> Tensor:
        self.check(inputs)
        return super().forward(channels_last(inputs))

    def stages(self) -> tuple[nn.Module, ...]:
        """The convolutions, then the linear maps."""
        return (*self.convolutions, *self.linear)

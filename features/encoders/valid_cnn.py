"""A plain network of unpadded convolutions for patches of sections."""

from dataclasses import dataclass

from torch import Tensor, nn

from features.encoders.item_encoder import ItemConfig, ItemEncoder, Level, check_counts
from features.encoders.section_items import as_images, check_patches, side_by_side
from meshgnn.errors import SettingError


class ValidCNN(ItemEncoder):
    """Rows of convolution without padding, group norm and ReLU, then the mean over what is left and a linear map.

    The `base` network of the literature on contrastive cytoarchitecture (known second hand; its widths are not known to
    us). Nothing beyond the border of a patch is made up. The `res` network beside it is `SectionCNN` with two blocks a
    stage and one depth band. Inputs [B, S, S] or [B, C, S, S], features [B, out_channels].
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(ItemConfig):
        """
        Args:
            level: whether a patch belongs to a node or to a whole brain.
            out_channels: features per patch.
            widths: channels of the rows, multiples of 8.
            kernels, strides: of the rows' convolutions.
            pooled: numbers of the rows (from 0) behind which a max-pooling by 2 stands.
        """

        level: Level = "node"
        out_channels: int = 128
        widths: tuple[int, ...] = (16, 32, 64, 64, 128, 128)
        kernels: tuple[int, ...] = (5, 3, 3, 3, 3, 3)
        strides: tuple[int, ...] = (4, 1, 1, 1, 1, 1)
        pooled: tuple[int, ...] = ()

        def __post_init__(self) -> None:
            check_counts(out_channels=self.out_channels, widths=self.widths, kernels=self.kernels, strides=self.strides)
            if any(width % 8 for width in self.widths):
                raise SettingError(f"<widths> must be multiples of 8, got {self.widths}")
            if not len(self.widths) == len(self.kernels) == len(self.strides):
                raise SettingError("<widths>, <kernels> and <strides> need one number per row each")
            if any(not 0 <= row < len(self.widths) for row in self.pooled):
                raise SettingError(f"<pooled> names rows from 0 to {len(self.widths) - 1}, got {self.pooled}")

        def build(self, shape: tuple[int, ...]) -> "ValidCNN":
            """An encoder of patches (S, S) or (C, S, S); weights from torch's random state.

            Raises:
                InputError: not square patches.
                SettingError: nothing would be left of them.
            """
            check_patches("ValidCNN", shape)
            return ValidCNN(self, shape)

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        super().__init__(config, shape, config.out_channels)
        before, side = 1 if len(shape) == 2 else shape[0], shape[-1]
        rows: list[nn.Module] = []
        for number, (width, kernel, stride) in enumerate(zip(config.widths, config.kernels, config.strides)):
            pooling = [nn.MaxPool2d(2)] if number in config.pooled else []
            convolution = nn.Conv2d(before, width, kernel, stride, bias=False)
            rows.append(nn.Sequential(convolution, nn.GroupNorm(8, width), nn.ReLU(), *pooling))
            before, side = width, ((side - kernel) // stride + 1) // (2 if pooling else 1)
            if side < 1:
                raise SettingError(
                    f"patches of {shape[-1]} px shrink to nothing in row {number}; use fewer <widths>, smaller "
                    "<strides> or larger patches"
                )
        self.rows = nn.ModuleList(rows)
        self.out = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, config.out_channels))
        side_by_side(self)

    def stages(self) -> tuple[nn.Module, ...]:
        return (*self.rows, self.out)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, S, S] or [B, C, S, S] -> [B, out_channels]. Raises InputError for patches of another size."""
        self.check(inputs)
        return self.chain(as_images(inputs))

    def receptive_px(self) -> int:
        """Side of what one place of the last maps sees."""
        config = self.config
        assert isinstance(config, ValidCNN.Config)
        side = 1
        for number in reversed(range(len(config.widths))):
            side = side * 2 if number in config.pooled else side
            side = (side - 1) * config.strides[number] + config.kernels[number]
        return side

"""The narrow ResNet-50 that CL-3D published, for patches of sections."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from features.encoders.item_encoder import ItemConfig, ItemEncoder, Level, check_counts
from features.encoders.resnet import features, resnet, resnet_stages
from features.encoders.section_items import as_images, check_patches, side_by_side
from meshgnn.errors import SettingError


class NarrowResNet(ItemEncoder):
    """ResNet-50 with stages of 8, 16, 32 and 64 channels (times 4 at their ends) and a stem of 5 x 5 with stride 4
    (Oberstrass et al. 2024, 10.1162/imag_a_00351): 256 features.

    With 3 channels and their projection of 256-90-32 (`NTXent` with `hidden=90`, `projection=32`) it has 399,496
    parameters. Batch norms see the batch of all ranks; `micro` needs `norm=group`. Inputs [B, S, S] or [B, C, S, S].
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(ItemConfig):
        """
        Args:
            level: whether a patch belongs to a node or to a whole brain.
            widths: channels of the four stages.
            norm: batch as published; or group, which leaves every patch to itself.
        """

        level: Level = "node"
        widths: tuple[int, int, int, int] = (8, 16, 32, 64)
        norm: Literal["batch", "group"] = "batch"

        def __post_init__(self) -> None:
            check_counts(widths=self.widths)
            if self.norm == "group" and any(width % 8 for width in self.widths):
                raise SettingError(f"<widths> must be multiples of 8 for <norm>=group, got {self.widths}")

        def build(self, shape: tuple[int, ...]) -> "NarrowResNet":
            """An encoder of patches (S, S) or (C, S, S); weights from torch's random state.

            Raises:
                InputError: not square patches.
            """
            check_patches("NarrowResNet", shape)
            return NarrowResNet(self, shape)

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        super().__init__(config, shape, features(50, config.widths))
        channels = 1 if len(shape) == 2 else shape[0]
        self.backbone = resnet(50, 2, channels, "section", config.widths, config.norm)
        side_by_side(self)

    def stages(self) -> tuple[nn.Module, ...]:
        return resnet_stages(self.backbone)

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, S, S] or [B, C, S, S] -> [B, out_channels]. Raises InputError for patches of another size."""
        self.check(inputs)
        return self.chain(as_images(inputs))

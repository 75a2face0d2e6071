"""Residual networks on volumes: ResNet-50, 101, 152 and 18 in three dimensions."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import nn

from features.encoders.item_encoder import ItemConfig, ItemEncoder, check_counts, check_volume
from features.encoders.resnet import Depth, Stem, features, resnet, resnet_stages


class ResNet3D(ItemEncoder):
    """Residual networks (He et al. 2016) with three-dimensional convolutions, by MONAI's class.

    Depths 50, 101 and 152 are the bottleneck networks of the ABCD study (7x7x7 stem, max-pooling, a linear map to 512
    features); with one output behind them they have 47,204,673, 86,250,817 and 118,409,537 parameters on one channel.
    Depth 18 has blocks of two 3x3x3 convolutions and the stem of video networks (3x7x7, Tran et al. 2018): the first
    axis stands where time stood; 33,166,785 parameters on three channels, 33,147,969 on one. Inputs [B, C, X, Y, Z]
    float of any size, features [B, out_channels].
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(ItemConfig):
        """
        Args:
            level: whether a volume belongs to a node or to a whole brain.
            depth: of the network.
            stem: image (7x7x7, stride 2, max-pooling) or video (3x7x7, stride 1, 2, 2); none for that of the depth.
            linear: widths of linear maps after the average over space; none for that of the depth: 512 for the
                bottleneck networks, nothing for depth 18.
        """

        depth: Depth = 50
        stem: Stem | None = None
        linear: tuple[int, ...] | None = None

        def __post_init__(self) -> None:
            if self.linear:
                check_counts(linear=self.linear)

        def build(self, shape: tuple[int, ...]) -> "ResNet3D":
            """An encoder of volumes (C, X, Y, Z); weights from torch's random state.

            Raises:
                InputError: not volumes.
            """
            check_volume("ResNet3D", shape)
            return ResNet3D(self, shape)

    new_stages: ClassVar[int] = 1

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        linear = config.linear if config.linear is not None else () if config.depth == 18 else (512,)
        widths = (features(config.depth), *linear)
        super().__init__(config, shape, widths[-1])
        self.backbone = resnet(config.depth, 3, shape[0], config.stem or ("video" if config.depth == 18 else "image"))
        self.linear = nn.Sequential(*(nn.Linear(before, width) for before, width in pairwise(widths)))

    def stages(self) -> tuple[nn.Module, ...]:
        """Stem; pooling and stage 1; stages 2 to 4; average and linear maps."""
        return resnet_stages(self.backbone, *self.linear)

"""The residual networks of MONAI as published: layouts, stems, stages.

MONAI's class gives the layer tables of He et al. 2016 in two and three dimensions exactly, and names its weights as
torchvision names those of its two-dimensional networks. MONAI takes seconds to import and is imported when the first
network is built.
"""

from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from features.encoders.batch_norm import with_own_batch_norm

Depth = Literal[18, 50, 101, 152]
Stem = Literal["image", "video", "section"]
# Blocks per stage: He et al. 2016, Deep residual learning for image recognition, table 1.
BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
WIDTHS = (64, 128, 256, 512)
# Kernel, stride and whether a max-pooling by 2 follows. The video stem keeps the first axis (Tran et al. 2018, R3D);
# that of sections is CL-3D's (Oberstrass et al. 2024).
_STEMS: dict[str, tuple[Any, Any, bool]] = {
    "image": (7, 2, True), "video": ((3, 7, 7), (1, 2, 2), False), "section": (5, 4, False),
}  # fmt: skip


def resnet(
    depth: Depth, dimensions: Literal[2, 3], channels: int, stem: Stem = "image", widths: Sequence[int] = WIDTHS,
    norm: Literal["batch", "group"] = "batch",
) -> Any:  # fmt: skip
    """A residual network without its last linear map: [B, channels, ...] -> [B, `features(depth, widths)`].

    Convolutions start from Kaiming's normal draw by fan-out, batch norms from 1 and 0.
    """
    from monai.networks.nets import ResNet

    kernel, stride, pooled = _STEMS[stem]
    network = ResNet(
        "basic" if depth == 18 else "bottleneck", list(BLOCKS[depth]), list(widths), spatial_dims=dimensions,
        n_input_channels=channels, conv1_t_size=kernel, conv1_t_stride=stride, no_max_pool=not pooled,
        feed_forward=False, bias_downsample=False, norm="batch" if norm == "batch" else ("group", {"num_groups": 8}),
    )  # fmt: skip
    return with_own_batch_norm(network)


def features(depth: Depth, widths: Sequence[int] = WIDTHS) -> int:
    """Channels of the last stage."""
    return widths[-1] * (1 if depth == 18 else 4)


def resnet_stages(network: Any, *last: nn.Module) -> tuple[nn.Module, ...]:
    """Stem; pooling and stage 1; stages 2 to 4; average over space with the layers `last` behind it."""
    pooling = [] if network.no_max_pool else [network.maxpool]
    return (
        nn.Sequential(network.conv1, network.bn1, network.act),
        nn.Sequential(*pooling, network.layer1),
        network.layer2,
        network.layer3,
        network.layer4,
        nn.Sequential(network.avgpool, nn.Flatten(), *last),
    )

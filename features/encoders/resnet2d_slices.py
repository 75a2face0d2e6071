"""ResNet-18 on slices of a volume: the middle ones as channels, or many through one shared network."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from features.encoders.item_encoder import ItemConfig, ItemEncoder, check_counts, check_volume
from features.encoders.resnet import features, resnet, resnet_stages
from meshgnn.errors import SettingError

Plane = Literal["axial", "coronal", "sagittal"]
# The axis of (x, y, z) in RAS that a slice of the plane holds fixed.
_AXIS = {"sagittal": 0, "coronal": 1, "axial": 2}


class ResNet2DSlices(ItemEncoder):
    """ResNet-18 (He et al. 2016, by MONAI's class) on slices of volumes whose axes point right, anterior, superior.

    `triplet` reads the middle slice of every plane as a channel; with one output behind it the three planes of a volume
    of one channel have 11,177,025 parameters, a single plane 11,170,753. `multi` reads several slices per plane through
    one shared network and pools their features: by their mean, or by attention over features and place of the slices
    (Ilse et al. 2018, eq. 7 and 8; Gupta et al., arXiv 2303.01491). Slices of volumes that are not cubes are padded to
    squares by their border. Inputs [B, C, X, Y, Z] float, features [B, 512].
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(ItemConfig):
        """
        Args:
            level: whether a volume belongs to a node or to a whole brain.
            mode: triplet or multi.
            planes: to cut.
            slices: per plane, of multi.
            coverage: central share of every axis that the slices of multi spread over.
            pool: of the features of the slices of multi.
        """

        mode: Literal["triplet", "multi"] = "triplet"
        planes: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
        slices: int = 8
        coverage: float = 0.8
        pool: Literal["mean", "attention"] = "attention"

        def __post_init__(self) -> None:
            check_counts(slices=self.slices)
            if not self.planes or len(set(self.planes)) != len(self.planes):
                raise SettingError(f"<planes> must be one or more different planes, got {', '.join(self.planes)}")
            if not 0 < self.coverage <= 1:
                raise SettingError(f"<coverage> must be above 0 and at most 1, got {self.coverage}")

        def build(self, shape: tuple[int, ...]) -> "ResNet2DSlices":
            """An encoder of volumes (C, X, Y, Z); weights from torch's random state.

            Raises:
                InputError: not volumes.
            """
            check_volume("ResNet2DSlices", shape)
            return ResNet2DSlices(self, shape)

    new_stages: ClassVar[int] = 1

    def __init__(self, config: Config, shape: tuple[int, ...]) -> None:
        super().__init__(config, shape, features(18))
        self.cut = _Cut(config, shape)
        single = config.mode == "triplet"
        self.backbone = resnet(18, 2, shape[0] * (len(config.planes) if single else 1))
        count = 1 if single else len(config.planes) * config.slices
        attention = config.pool == "attention" and not single
        self.pool: nn.Module = _SliceAttention(count, self.out_channels) if attention else _SliceMean(count)

    def stages(self) -> tuple[nn.Module, ...]:
        """Cut and stem; pooling and stage 1; stages 2 to 4; average and pooling of slices."""
        stem, *others = resnet_stages(self.backbone, self.pool)
        return (nn.Sequential(self.cut, stem), *others)


class _Cut(nn.Module):
    """[B, C, X, Y, Z] -> [B, planes C, S, S] of a triplet, else [B slices, C, S, S]; S is the longest side."""

    def __init__(self, config: ResNet2DSlices.Config, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.config, self.side = config, max(shape[1:])

    def places(self, size: int) -> list[int]:
        """Indices of the slices along an axis of this size."""
        count = 1 if self.config.mode == "triplet" else self.config.slices
        share = self.config.coverage
        return [int(size * ((1 - share) / 2 + share * (k + 0.5) / count)) for k in range(count)]

    def forward(self, volumes: Tensor) -> Tensor:
        found = []
        for plane in self.config.planes:
            axis = _AXIS[plane]
            for place in self.places(volumes.shape[2 + axis]):
                image = volumes.select(2 + axis, place)
                rows, columns = (self.side - length for length in image.shape[2:])
                around = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
                found.append(F.pad(image, around, mode="replicate"))
        if self.config.mode == "triplet":
            return torch.cat(found, 1)
        return torch.stack(found, 1).flatten(0, 1)


class _SliceMean(nn.Module):
    """[B slices, C] -> [B, C]; the order of the slices does not matter."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, features: Tensor) -> Tensor:
        return features.unflatten(0, (-1, self.count)).mean(1)


class _SliceAttention(nn.Module):
    """[B slices, C] -> [B, C]: a mean weighted by the softmax of w tanh(V (h + p)), p learnt for every place."""

    def __init__(self, count: int, width: int, hidden: int = 128) -> None:
        super().__init__()
        self.count = count
        self.position = nn.Parameter(torch.randn(count, width) * 0.02)
        self.score = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False))

    def forward(self, features: Tensor) -> Tensor:
        placed = features.unflatten(0, (-1, self.count)) + self.position
        return (self.score(placed).softmax(1) * placed).sum(1)

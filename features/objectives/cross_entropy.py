"""The control arm of contrastive pretraining: an encoder trained from scratch on area labels."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from features.objectives.contrastive import joint_cross_entropy, with_class
from features.objectives.rows import Rows
from meshgnn.config import Config as BaseConfig


class CrossEntropy(nn.Module):
    """A linear layer on the features and cross-entropy; batches are class-balanced by their sampler."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        labelled: ClassVar[bool] = True
        views: ClassVar[int] = 1

        def build(self, in_channels: int, n_classes: int) -> "CrossEntropy":
            return CrossEntropy(in_channels, n_classes)

    def __init__(self, in_channels: int, n_classes: int) -> None:
        super().__init__()
        self.classify = nn.Linear(in_channels, n_classes)

    def forward(self, features: Tensor, rows: Rows) -> Tensor:
        """This rank's features [R, C] and what is known of them -> scalar; its mean over ranks is the joint loss."""
        features, labels = with_class(features, rows)
        return joint_cross_entropy(self.classify(features), labels)

"""The control arm of contrastive pretraining: an encoder trained from scratch on area labels."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError


class CrossEntropy(nn.Module):
    """A linear layer on the features and cross-entropy; batches are class-balanced by their sampler."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            smoothing: of the labels.
        """

        smoothing: float = 0.0

        def __post_init__(self) -> None:
            if not 0 <= self.smoothing < 1:
                raise InputError(f"objective.smoothing must lie in [0, 1), got {self.smoothing}")

        def build(self, in_channels: int, n_classes: int) -> "CrossEntropy":
            return CrossEntropy(self, in_channels, n_classes)

    def __init__(self, config: Config, in_channels: int, n_classes: int) -> None:
        super().__init__()
        self.smoothing = config.smoothing
        self.classify = nn.Linear(in_channels, n_classes)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """This rank's features [B, C] and classes [B] -> scalar; its mean over ranks is the joint loss."""
        return F.cross_entropy(self.classify(features), labels, label_smoothing=self.smoothing)

"""Heads of traits: shared layers, then one linear map per target."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from features.encoders.dense import Activation, dense_layers
from features.encoders.item_encoder import check_shares
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError


class TraitHead(nn.Module):
    """[B, C] -> [B, outputs]: K logits for a target of K classes, one value for a number, in the order of the targets.

    Every target has a linear map of its own behind the shared layers; `meshgnn.train.target_costs.outputs_by_target`
    takes the outputs apart. The defaults are those of the biobank study (10.1016/j.neuroimage.2024.120600).
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            widths: of the shared layers; nothing for linear maps of the features alone.
            norm: batch norm in the shared layers.
            activation: of the shared layers.
            dropout: share of values dropped after every shared layer in training.
        """

        widths: tuple[int, ...] = (256, 256)
        norm: bool = True
        activation: Activation = "gelu"
        dropout: float = 0.1

        def __post_init__(self) -> None:
            check_shares(dropout=self.dropout)
            if any(width < 1 for width in self.widths):
                raise SettingError(f"<widths> must be at least 1, got {self.widths}")

        def build(self, in_channels: int, classes: Sequence[int]) -> "TraitHead":
            """A head.

            Args:
                in_channels: features in.
                classes: of every target; 0 for a number.

            Raises:
                InputError: no target, or one of a single class.
            """
            return TraitHead(self, in_channels, classes)

    def __init__(self, config: Config, in_channels: int, classes: Sequence[int]) -> None:
        super().__init__()
        if not classes or any(count < 0 or count == 1 for count in classes):
            raise InputError(f"targets have two classes or more, or 0 for a number; got {list(classes)}")
        self.classes = tuple(classes)
        self.shared = nn.Sequential(
            *dense_layers(
                in_channels, config.widths, activation=config.activation, dropout=config.dropout, norm=config.norm
            )
        )
        before = config.widths[-1] if config.widths else in_channels
        self.targets = nn.ModuleList(nn.Linear(before, max(count, 1)) for count in classes)

    def forward(self, features: Tensor) -> Tensor:
        """[B, C] -> [B, outputs]."""
        shared = self.shared(features)
        return torch.cat([target(shared) for target in self.targets], 1)

"""An objective of pretraining that needs no label."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from meshgnn.config import Config


class Agreement(nn.Module):
    """Views of an item agree, channels vary: the invariance and variance terms of VICReg (Bardes et al. 2022)."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Config):
        labelled: ClassVar[bool] = False
        views: ClassVar[int] = 2

        def build(self, in_channels, n_classes):
            return Agreement()

    def forward(self, features, rows):
        one, two = features.chunk(2)
        return ((one - two) ** 2).mean() + torch.relu(1 - features.std(0)).mean()

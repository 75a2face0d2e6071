"""Siamese distance regression: how far apart on the brain are two patches? No labels."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from features.objectives.contrastive import standardised
from features.objectives.full_precision import full_precision
from features.objectives.gathered import gather_rows, joint_count, rows_before, world
from features.objectives.rows import Rows
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError


class DistanceRegression(nn.Module):
    """The distance of two patches from the difference of their features, the task of Spitzer et al. (MICCAI 2018, arXiv
    1806.05104); loss and head are ours.

    The head sees |f_i - f_j| of standardised features, so that swapping the two changes nothing. The target is
    log(1 + mm), standardised on training pairs; Huber loss. `DistancePairs` draws the pairs and chooses the metric.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            hidden: units of the head.
            huber: where the loss turns from square to linear, in standard deviations of the target.
        """

        labelled: ClassVar[bool] = False
        views: ClassVar[int] = 1
        needs: ClassVar[tuple[str, ...]] = ("place", "pairs")

        hidden: int = 64
        huber: float = 1.0

        def __post_init__(self) -> None:
            if self.hidden < 1 or not self.huber > 0:
                raise SettingError("<hidden> must be at least 1, <huber> above 0")

        def build(self, in_channels: int, n_classes: int) -> "DistanceRegression":
            return DistanceRegression(self, in_channels)

    mean: Tensor
    sd: Tensor

    def __init__(self, config: Config, in_channels: int) -> None:
        super().__init__()
        self.huber = config.huber
        self.hidden = nn.Linear(in_channels, config.hidden)
        self.out = nn.Linear(config.hidden, 1)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("sd", torch.ones(()))

    def standardise(self, apart_mm: NDArray[np.floating]) -> None:
        """Take mean and sd of log(1 + mm) from training pairs."""
        target = np.log1p(np.asarray(apart_mm, np.float64))
        self.mean.fill_(float(target.mean()))
        self.sd.fill_(float(target.std()) or 1.0)

    def forward(self, features: Tensor, rows: Rows) -> Tensor:
        """This rank's features [R, C] and their partners' distances -> scalar; its mean over ranks is the joint loss.

        A pair may lie on two ranks: each row looks for its partner among those of all. Rows without one are left out.
        """
        features = standardised(features)
        everyone, first = gather_rows(features), rows_before(len(features))
        together, item = gather_rows(rows.together), gather_rows(rows.item)
        itself = torch.arange(first, first + len(features), device=features.device)
        partner = (rows.together[:, None] == together[None, :]) & (rows.item[:, None] != item[None, :])
        partner[torch.arange(len(features), device=features.device), itself] = False
        known = partner.any(1) & rows.apart_mm.isfinite()
        found = self.estimate(features[known], everyone[partner.int().argmax(1)[known]])
        target = (rows.apart_mm[known].to(found).log1p() - self.mean) / self.sd
        loss = _huber(found, target, self.huber)
        return loss * world() / max(joint_count(known.sum(), features.device), 1)

    def estimate(self, one: Tensor, other: Tensor) -> Tensor:
        """[B, C], [B, C] standardised features -> [B] standardised log distances; symmetric."""
        return self.out(F.relu(self.hidden((one - other).abs())))[:, 0]


@full_precision
def _huber(found: Tensor, target: Tensor, delta: float) -> Tensor:
    return F.huber_loss(found, target.to(found), reduction="sum", delta=delta)

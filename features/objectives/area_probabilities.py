"""Contrast by a probability map: two patches are as alike as their distributions over areas."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from features.objectives.contrastive import Projection, weighted_contrastive
from features.objectives.gathered import gather_rows
from features.objectives.rows import Rows
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError


class AreaProbabilities(nn.Module):
    """Supervised contrast whose positives count as much as their area distributions agree (`weighted_contrastive`).

    Distributions come from a graph's soft labels, or from a table whose columns are the areas. Where all are certain
    it is the supervised contrast by label (Khosla et al. 2020, eq. 2). Rows without a distribution are left out.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            temperature: of the loss.
            projection: channels of the space in which items are compared.
            views: augmented views of each item.
            similarity: of two distributions p and q: product is sum p q, the probability that both lie in the same
                area; bhattacharyya is sum sqrt(p q), 1 for equal distributions however broad they are.
            least: similarities below this count as 0.
        """

        labelled: ClassVar[bool] = True
        needs: ClassVar[tuple[str, ...]] = ("soft",)

        temperature: float = 0.1
        projection: int = 64
        views: int = 1
        similarity: Literal["product", "bhattacharyya"] = "product"
        least: float = 0.01

        def __post_init__(self) -> None:
            if not self.temperature > 0 or min(self.projection, self.views) < 1 or not 0 <= self.least < 1:
                raise SettingError(
                    "<temperature> must be above 0, <projection> and <views> at least 1, <least> at least 0 and below 1"
                )

        def build(self, in_channels: int, n_classes: int) -> "AreaProbabilities":
            return AreaProbabilities(self, in_channels)

    def __init__(self, config: Config, in_channels: int) -> None:
        super().__init__()
        self.config = config
        self.projection = Projection(in_channels, config.projection)

    def forward(self, features: Tensor, rows: Rows) -> Tensor:
        """This rank's features [R, C] and what is known of them -> scalar; its mean over ranks is the joint loss."""
        there = rows.soft.sum(1) > 0
        features = features[there]
        soft = rows.soft[there].to(torch.promote_types(features.dtype, torch.float32))
        weights = agreement(soft, gather_rows(soft), self.config.similarity)
        weights = weights.masked_fill(weights < self.config.least, 0)
        return weighted_contrastive(self.projection(features), weights, self.config.temperature)


def agreement(one: Tensor, other: Tensor, similarity: str) -> Tensor:
    """[A, K], [B, K] distributions -> [A, B] similarity between 0 and 1; see `AreaProbabilities`."""
    one, other = (value / value.sum(1, keepdim=True).clamp(min=1e-12) for value in (one, other))
    return one @ other.T if similarity == "product" else one.sqrt() @ other.sqrt().T

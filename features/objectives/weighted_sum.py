"""Several objectives in one run, each on the rows that it can use: labelled and unlabelled data mixed."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from features.objectives.area_probabilities import AreaProbabilities
from features.objectives.contrastive import SupervisedContrastive
from features.objectives.cross_entropy import CrossEntropy
from features.objectives.distance_regression import DistanceRegression
from features.objectives.nt_xent import NTXent
from features.objectives.rows import Rows
from features.objectives.spatial_contrast import SpatialContrast
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError

SingleConfig = (
    SupervisedContrastive.Config | NTXent.Config | CrossEntropy.Config | AreaProbabilities.Config
    | SpatialContrast.Config | DistanceRegression.Config
)  # fmt: skip


class WeightedSum(nn.Module):
    """The weighted sum of the losses of its parts, whose heads and projections are their own.

    Rows without a class are left out by the parts that need one; unlabelled ones learn from the others.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            parts: the objectives.
            weights: of each; all 1 if there are none.
        """

        parts: tuple[SingleConfig, ...] = (SupervisedContrastive.Config(), NTXent.Config(views=1))
        weights: tuple[float, ...] = ()

        def __post_init__(self) -> None:
            if not self.parts:
                raise SettingError("<parts> names no objective")
            if self.weights and (len(self.weights) != len(self.parts) or min(self.weights) <= 0):
                raise SettingError(f"<weights> needs a number above 0 for each of {len(self.parts)} <parts>")

        @property
        def labelled(self) -> bool:
            """Whether one of them learns from labels."""
            return any(part.labelled for part in self.parts)

        @property
        def views(self) -> int:
            """As many as the part that needs most."""
            return max(part.views for part in self.parts)

        @property
        def needs(self) -> tuple[str, ...]:
            """What the parts need; "any" if one of them learns from items without labels."""
            found = [need for part in self.parts for need in needs_of(part)]
            return tuple(dict.fromkeys(found + ["any"] * any(not part.labelled for part in self.parts)))

        @property
        def reach_mm(self) -> float:
            """The longest that a part looks."""
            return max((part.reach_mm for part in self.parts if isinstance(part, SpatialContrast.Config)), default=0.0)

        def build(self, in_channels: int, n_classes: int) -> "WeightedSum":
            return WeightedSum(self, in_channels, n_classes)

    def __init__(self, config: Config, in_channels: int, n_classes: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList([part.build(in_channels, n_classes) for part in config.parts])
        self.weights = config.weights or (1.0,) * len(config.parts)

    def forward(self, features: Tensor, rows: Rows) -> Tensor:
        """This rank's features [R, C] and what is known of them -> scalar; its mean over ranks is the joint loss."""
        losses = [weight * part(features, rows) for weight, part in zip(self.weights, self.parts)]
        return torch.stack(losses).sum()


def needs_of(objective: Any) -> tuple[str, ...]:
    """What the config of an objective needs to know of an item: label, soft, place, geodesic, pairs; see the socket."""
    return tuple(getattr(objective, "needs", ("label",) if objective.labelled else ()))

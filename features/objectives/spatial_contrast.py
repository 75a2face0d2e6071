"""Contrast by distance: a patch's positives are the patches near it, the nearer the more. No labels."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from features.objectives.contrastive import Projection, weighted_contrastive
from features.objectives.gathered import gather_rows
from features.objectives.rows import Rows
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError

CUT = 3.0  # standard deviations; beyond, a patch without a near one would take a far one for its positive


class SpatialContrast(nn.Module):
    """Weights w = exp(-d^2 / 2 s^2) of the distance d between two patches of one hemisphere, 0 beyond 3 s and between
    hemispheres (`weighted_contrastive`).

    The idea is that of CytoNet (arXiv 2511.01870), whose loss is not published in full; the Gaussian is ours. Batches
    must bring near patches together: `SpatialPairs` or `NeighbourBatches`.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            metric: straight through space, or along the cortex.
            sigma_mm: s, in mm.
            temperature: of the loss.
            projection: channels of the space in which items are compared.
            views: augmented views of each item; views of one patch are 0 mm apart.
        """

        labelled: ClassVar[bool] = False

        metric: Literal["euclidean", "geodesic"] = "euclidean"
        sigma_mm: float = 1.0
        temperature: float = 0.2
        projection: int = 64
        views: int = 1

        @property
        def needs(self) -> tuple[str, ...]:
            """What must be known of an item."""
            return ("place",) if self.metric == "euclidean" else ("place", "geodesic")

        @property
        def reach_mm(self) -> float:
            """Distances beyond this are not looked at."""
            return CUT * self.sigma_mm

        def __post_init__(self) -> None:
            if not self.temperature > 0 or not self.sigma_mm > 0 or min(self.projection, self.views) < 1:
                raise SettingError("<temperature> and <sigma_mm> must be above 0, <projection> and <views> at least 1")

        def build(self, in_channels: int, n_classes: int) -> "SpatialContrast":
            return SpatialContrast(self, in_channels)

    def __init__(self, config: Config, in_channels: int) -> None:
        super().__init__()
        self.config = config
        self.projection = Projection(in_channels, config.projection)

    def forward(self, features: Tensor, rows: Rows) -> Tensor:
        """This rank's features [R, C] and where they lie -> scalar; its mean over ranks is the joint loss."""
        apart = distances_mm(rows, self.config.metric)
        weights = torch.exp(-0.5 * (apart / self.config.sigma_mm) ** 2).masked_fill(apart > self.config.reach_mm, 0)
        return weighted_contrastive(self.projection(features), weights, self.config.temperature)


def distances_mm(rows: Rows, metric: str) -> Tensor:
    """[R, N] distance from this rank's rows to those of all ranks; inf between hemispheres, brains, or unknown."""
    if metric == "geodesic":
        found = rows.geodesic_mm[:, gather_rows(rows.seat)].double()
    else:
        place, everyone = rows.place_mm.double(), gather_rows(rows.place_mm).double()
        found = torch.cdist(place, everyone, compute_mode="donot_use_mm_for_euclid_dist")
    same = rows.part[:, None] == gather_rows(rows.part)[None, :]
    return found.masked_fill(~same | ~found.isfinite(), torch.inf)

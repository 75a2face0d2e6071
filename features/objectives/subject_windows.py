"""Windows of one subject are views of the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from features.encoders.item_encoder import check_counts
from features.objectives.contrastive import Projection, supervised_contrastive
from features.objectives.run_objective import RunOutputs, check_factor
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError


class SubjectWindows(nn.Module):
    """NT-Xent (Chen et al. 2020, arXiv 2002.05709, eq. 1) between two windows of every subject of the batch of all
    ranks, as in SwiFT (arXiv 2307.05916). The projection is dropped afterwards."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            factor: in the sum of all objectives.
            temperature: divides the cosine similarities.
            projection: channels of the space in which windows are compared.
        """

        transformer: ClassVar[bool] = True
        channels: ClassVar[int] = 1
        windows: ClassVar[int] = 2
        joint: ClassVar[bool] = True

        factor: float = 1.0
        temperature: float = 0.1
        projection: int = 32

        def __post_init__(self) -> None:
            check_factor(self.factor)
            check_counts(projection=self.projection)
            if not self.temperature > 0:
                raise SettingError(f"<temperature> must be above 0, got {self.temperature}")

        def build(self, shape: Sequence[int], features: int) -> "SubjectWindows":
            return SubjectWindows(self, features)

    def __init__(self, config: Config, features: int) -> None:
        super().__init__()
        self.temperature = config.temperature
        self.projection = Projection(features, config.projection)

    def forward(self, outputs: RunOutputs) -> Tensor:
        """Scalar; its mean over ranks is the joint loss."""
        return supervised_contrastive(self.projection(outputs.embedding), outputs.subjects, self.temperature)

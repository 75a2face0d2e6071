"""Batches put together of several samplers' batches: labelled and unlabelled items side by side. numpy only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.samplers.balanced import BalancedBatches
from features.samplers.distance_pairs import DistancePairs
from features.samplers.neighbours import NeighbourBatches
from features.samplers.pool import Pool, Sampler, apart, joined
from features.samplers.spatial_pairs import SpatialPairs
from features.samplers.uniform import UniformBatches
from meshgnn.config import Config as BaseConfig
from meshgnn.config import at
from meshgnn.errors import SettingError

SingleConfig = (
    BalancedBatches.Config | UniformBatches.Config | NeighbourBatches.Config | SpatialPairs.Config
    | DistancePairs.Config
)  # fmt: skip


class MixedBatches:
    """A batch of each part, end to end; an item that two parts draw stands there twice."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            parts: the samplers.
        """

        parts: tuple[SingleConfig, ...] = (BalancedBatches.Config(), SpatialPairs.Config())

        def __post_init__(self) -> None:
            if not self.parts:
                raise SettingError("<parts> names no sampler")

        def build(self, pool: Pool, seed: int) -> "MixedBatches":
            return MixedBatches(self, pool, seed)

    def __init__(self, config: Config, pool: Pool, seed: int) -> None:
        """Raises InputError when one of the parts finds nothing to draw."""
        self.parts: list[Sampler] = []
        for number, one in enumerate(config.parts):
            with at(f"parts.{number}"):
                self.parts.append(one.build(pool, seed + number))
        self.size = sum(part.size for part in self.parts)
        self.together = max(part.together for part in self.parts)
        numbers, first = [], 0
        for part in self.parts:
            numbers.append(joined(part) + first)
            first += int(numbers[-1].max()) - first + 1
        self.joined = np.concatenate(numbers)

    def draw(self, step: int) -> NDArray[np.int64]:
        """[size] item numbers of batch `step`, part after part."""
        return np.concatenate([part.draw(step) for part in self.parts])

    def apart_mm(self, items: NDArray[np.integer]) -> NDArray[np.float32]:
        """[size] of each item to the one that it was drawn with; NaN where a part does not say."""
        ends = np.cumsum([part.size for part in self.parts])
        return np.concatenate([apart(part, own) for part, own in zip(self.parts, np.split(items, ends[:-1]))])

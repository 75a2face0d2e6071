"""Batches of any items, each as likely as the other. numpy only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.samplers.pool import Pool
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError


class UniformBatches:
    """`size` different items, drawn from (seed, step) alone."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            size: items of a batch (all of them if there are fewer).
        """

        size: int = 128

        def __post_init__(self) -> None:
            if self.size < 2:
                raise SettingError("<size> must be at least 2")

        def build(self, pool: Pool, seed: int) -> "UniformBatches":
            return UniformBatches(self, pool, seed)

    together = 1

    def __init__(self, config: Config, pool: Pool, seed: int) -> None:
        """Raises InputError when there are fewer than two items."""
        self.items, self.seed = np.flatnonzero(~pool.held), seed
        if len(self.items) < 2:
            raise InputError(f"{len(self.items)} node to learn from; at least 2 are needed to tell apart")
        self.size = min(config.size, len(self.items))

    def draw(self, step: int) -> NDArray[np.int64]:
        """[size] item numbers of batch `step`, no item twice."""
        rng = np.random.default_rng((abs(self.seed), step, 0x0F))
        return self.items[rng.permutation(len(self.items))[: self.size]]

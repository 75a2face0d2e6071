"""Batches that go through all items once per epoch, in a new order each time. numpy only."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from features.samplers.pool import Pool
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError


class EpochBatches:
    """Every item once in an epoch; the order comes from (seed, epoch) alone, so that any step can be drawn first.

    There is no state to keep in a checkpoint, and numpy's global generator is not used. The last batch of an epoch is
    filled up with the first items of the next one: all batches are of one size.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            size: items of a batch (all of them if there are fewer).
            balance: undersample takes as many items of every class as the rarest one has, others in every epoch;
                oversample as many as the commonest one has; none takes all items as they are. Items without a class
                are then left out.
        """

        size: int = 64
        balance: Literal["none", "undersample", "oversample"] = "none"

        def __post_init__(self) -> None:
            if self.size < 1:
                raise SettingError("<size> must be at least 1")

        def build(self, pool: Pool, seed: int) -> "EpochBatches":
            return EpochBatches(self, pool, seed)

    together = 1

    def __init__(self, config: Config, pool: Pool, seed: int) -> None:
        """Raises InputError when there is no item, or less than two classes to balance."""
        self.config, self.seed = config, seed
        free = np.flatnonzero(~pool.held)
        self._classes = [free]
        if config.balance != "none":
            labels = pool.labels[free]
            self._classes = [free[labels == label] for label in np.unique(labels[labels >= 0])]
            if len(self._classes) < 2:
                raise InputError(f"{len(self._classes)} class to balance; at least 2 are needed")
        counts = [len(items) for items in self._classes]
        self._each = (
            counts[0] if config.balance == "none" else (min if config.balance == "undersample" else max)(counts)
        )
        self.epoch_items = self._each * len(self._classes)
        if not self.epoch_items:
            raise InputError("no item to learn from")
        self.size = min(config.size, self.epoch_items)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """[epoch_items] item numbers of an epoch."""
        rng = np.random.default_rng((abs(self.seed), epoch, 0xE0))
        chosen = []
        for items in self._classes:
            times, rest = divmod(self._each, len(items))
            chosen += [*[items] * times, rng.permutation(items)[:rest]]
        return rng.permutation(np.concatenate(chosen)).astype(np.int64)

    def draw(self, step: int) -> NDArray[np.int64]:
        """[size] item numbers of batch `step`."""
        first, last = step * self.size, (step + 1) * self.size - 1
        epochs = range(first // self.epoch_items, last // self.epoch_items + 1)
        items = np.concatenate([self.order(epoch) for epoch in epochs])
        start = first - epochs[0] * self.epoch_items
        return items[start : start + self.size]

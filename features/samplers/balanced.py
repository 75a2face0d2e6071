"""Class-balanced batches whose items of one class come from different sections and brains. numpy only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.samplers.pool import Pool
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError


class BalancedBatches:
    """Batches of `classes` x `patches` items, drawn from (seed, step) alone, so that any step can be drawn first."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            classes: different ones in a batch (all of them if there are fewer).
            patches: of each class, each from another section as long as there are enough.
            rare: what to do with classes of a single patch, which has no positive: refuse, or leave them out.
        """

        classes: int = 40
        patches: int = 4
        rare: str = "refuse"

        def __post_init__(self) -> None:
            if self.classes < 2 or self.patches < 2:
                raise SettingError("<classes> and <patches> (of each class) must be at least 2")
            if self.rare not in ("refuse", "skip"):
                raise SettingError(f"<rare>={self.rare!r} is not one of refuse, skip")

        def build(self, pool: Pool, seed: int) -> "BalancedBatches":
            return BalancedBatches(self, pool, seed)

    together = 1

    def __init__(self, config: Config, pool: Pool, seed: int) -> None:
        """
        Raises:
            InputError: fewer than two classes, or a class with a single item. A class that only lost items to what is
                held out is left out instead.
        """
        groups = pool.groups
        present, counts = np.unique(pool.labels[pool.labels >= 0], return_counts=True)
        single = present[counts < 2]
        if len(single) and config.rare == "refuse":
            raise SettingError(
                f"area {pool.names[int(single[0])]} is labelled at a single node; annotate more of it, or leave such "
                "areas out with <rare>=skip"
            )
        labels = np.where(pool.held, -1, pool.labels)
        present, counts = np.unique(labels[labels >= 0], return_counts=True)
        self.classes = present[counts >= 2]
        if len(self.classes) < 2:
            raise InputError(f"{len(self.classes)} area with labelled nodes; at least 2 are needed to tell apart")
        self.config, self.seed = config, seed
        self._items: list[list[NDArray[np.int64]]] = []
        for label in self.classes:
            mine = np.flatnonzero(labels == label)
            self._items.append([mine[groups[mine] == group] for group in np.unique(groups[mine])])
        self.n_classes = min(config.classes, len(self.classes))
        self.size = self.n_classes * config.patches

    def draw(self, step: int) -> NDArray[np.int64]:
        """[size] item numbers of batch `step`; items of one class follow each other."""
        rng = np.random.default_rng((abs(self.seed), step, 0xBA))
        chosen = rng.permutation(len(self.classes))[: self.n_classes]
        return np.concatenate([self._of_class(self._items[k], rng) for k in chosen])

    def _of_class(self, groups: list[NDArray[np.int64]], rng: np.random.Generator) -> NDArray[np.int64]:
        wanted = self.config.patches
        order = np.resize(rng.permutation(len(groups)), wanted)
        out = np.array([rng.choice(groups[k]) for k in order], np.int64)
        if len(groups) < wanted:  # a section serves twice: not with the same patch if it has another
            for k in range(len(groups), wanted):
                others = np.setdiff1d(groups[order[k]], out[:k])
                out[k] = rng.choice(others) if len(others) else out[k]
        return out

"""Batches of pairs of patches of one hemisphere, stratified over the distance between them. numpy only."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from features.samplers.pool import Pool
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError

CANDIDATES = 4096  # looked at for the partners of a batch


class DistancePairs:
    """Pairs whose log(1 + mm) is spread evenly between the nearest and the farthest, so that near pairs are not rare.

    Drawn from (seed, step) alone; both items lie in one hemisphere of one brain, and are never the same.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            pairs: of a batch.
            metric: straight through space, or along the cortex.
            anchors: of geodesic distances: one item of each pair is among so many of its hemisphere, whose distances to
                all others are computed once.
        """

        pairs: int = 64
        metric: Literal["euclidean", "geodesic"] = "euclidean"
        anchors: int = 256

        def __post_init__(self) -> None:
            if min(self.pairs, self.anchors) < 1:
                raise SettingError("<pairs> and <anchors> must be at least 1")

        def build(self, pool: Pool, seed: int) -> "DistancePairs":
            return DistancePairs(self, pool, seed)

    together = 2

    def __init__(self, config: Config, pool: Pool, seed: int) -> None:
        """Raises InputError when no hemisphere holds two items with a known place, or there is no mesh to go along."""
        self.config, self.seed, self.pool = config, seed, pool
        items = pool.placed()
        parts, counts = np.unique(pool.parts[items], return_counts=True)
        self.items = {int(p): items[pool.parts[items] == p] for p in parts[counts > 1]}
        if not self.items:
            raise InputError("no hemisphere holds two items to learn from; distances need pairs within one")
        self._anchors = self.items
        self._fields: dict[int, NDArray[np.float32]] = {}  # from each anchor to all items
        self._row = np.full(len(pool.labels), -1)
        if config.metric == "geodesic":
            if pool.geodesic is None:
                raise InputError("geodesic distances need a mesh; use <metric>=euclidean")
            rng, everyone = np.random.default_rng((abs(seed), 0xD1)), np.arange(len(pool.labels))
            self._anchors = {p: np.sort(rng.permutation(mine)[: config.anchors]) for p, mine in self.items.items()}
            for part, mine in self._anchors.items():
                self._fields[part] = pool.geodesic(mine, everyone, np.inf)
                self._row[mine] = np.arange(len(mine))
        self.size = 2 * config.pairs

    def draw(self, step: int) -> NDArray[np.int64]:
        """[size] item numbers of batch `step`: patch, its partner, patch, its partner, ..."""
        rng = np.random.default_rng((abs(self.seed), step, 0xD2))
        parts = list(self.items)
        share = np.array([len(self.items[part]) for part in parts], float)
        chosen = np.sort(rng.choice(parts, self.config.pairs, p=share / share.sum()))
        out = np.empty((self.config.pairs, 2), np.int64)
        for part in np.unique(chosen).tolist():
            places, mine = np.flatnonzero(chosen == part), self.items[part]
            anchors = rng.choice(self._anchors[part], len(places))
            others = np.sort(rng.permutation(mine)[:CANDIDATES])
            apart = np.log1p(self.between(anchors, others))
            apart[anchors[:, None] == others[None, :]] = np.inf
            low = apart.min(1)
            high = np.where(np.isfinite(apart), apart, -np.inf).max(1)
            wanted = low + rng.random(len(places)) * (high - low)
            with np.errstate(invalid="ignore"):
                near = np.nan_to_num(np.abs(apart - wanted[:, None]), nan=np.inf)
            out[places] = np.stack([anchors, others[near.argmin(1)]], axis=1)
        return rng.permutation(out).ravel()

    def between(self, anchors: NDArray[np.integer], others: NDArray[np.integer]) -> NDArray[np.float64]:
        """[A, B] mm between anchors [A] and others [B] of one hemisphere; of geodesic distances the former must be
        among `anchors` of the config."""
        if self.config.metric == "geodesic":
            field = self._fields[int(self.pool.parts[anchors[0]])]
            return field[self._row[anchors]][:, others].astype(np.float64)
        one, other = (self.pool.places_mm[these].astype(np.float64) for these in (anchors, others))
        return np.sqrt(((one[:, None] - other[None]) ** 2).sum(-1))

    def apart_mm(self, items: NDArray[np.integer]) -> NDArray[np.float32]:
        """[size] of each item of a batch to its partner."""
        pairs = np.asarray(items).reshape(-1, 2)
        found = [self.between(one[None], other[None])[0, 0] for one, other in pairs]
        return np.repeat(np.array(found, np.float32), 2)

    def typical_mm(self, batches: int = 16) -> NDArray[np.float32]:
        """Distances of the pairs of the first batches: what a target is standardised by."""
        return np.concatenate([self.apart_mm(self.draw(step))[::2] for step in range(batches)])

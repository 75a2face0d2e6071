"""Batches of pairs of patches that lie near each other in space, on different sections. numpy only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from features.samplers.pool import Pool
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError


class SpatialPairs:
    """Pairs of patches at most `radius_um` apart, drawn from (seed, step) alone; never a patch with itself.

    The positives of CL-3D (Oberstrass et al. 2024, 10.1162/imag_a_00351): another patch within a sphere, across
    sections. No labels: sections without any annotation serve as well.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            pairs: of a batch (fewer if there are not as many items with a partner).
            radius_um: between the two items of a pair, at most, straight through space.
            across: partners lie on another section than the item; otherwise anywhere within the radius.
            sections: between the two items of a pair, at most, counted over those that hold items; 0 = any number.
        """

        pairs: int = 64
        radius_um: float = 2000.0
        across: bool = True
        sections: int = 0

        def __post_init__(self) -> None:
            if self.pairs < 2 or not self.radius_um > 0 or self.sections < 0:
                raise SettingError("<pairs> must be at least 2, <radius_um> above 0, <sections> not negative")

        def build(self, pool: Pool, seed: int) -> "SpatialPairs":
            return SpatialPairs(self, pool, seed)

    together = 2

    def __init__(self, config: Config, pool: Pool, seed: int) -> None:
        """
        Raises:
            InputError: fewer than two items have a known place.
            SettingError: fewer than two have a partner.
        """
        self.config, self.seed, self.pool = config, seed, pool
        items = pool.placed()
        self._trees = {}
        has = np.zeros(len(pool.labels), bool)
        for part in np.unique(pool.parts[items]).tolist():
            mine = items[pool.parts[items] == part]
            tree = cKDTree(pool.places_mm[mine])
            self._trees[part] = (mine, tree)
            pairs = tree.query_pairs(config.radius_um / 1000, output_type="ndarray")
            one, other = mine[pairs[:, 0]], mine[pairs[:, 1]]
            fits = self._fits(one, other)
            has[one[fits]] = has[other[fits]] = True
        self.anchors = np.flatnonzero(has)
        if len(self.anchors) < 2:
            where = "on another section " if config.across else ""
            raise SettingError(
                f"no two patches have a partner {where}within <radius_um>={config.radius_um:g}; make it larger"
            )
        self.size = 2 * min(config.pairs, len(self.anchors))

    def _fits(self, one: NDArray[np.integer], other: NDArray[np.integer]) -> NDArray[np.bool_]:
        between = np.abs(self.pool.groups[one] - self.pool.groups[other])
        return (one != other) & (between >= self.config.across) & (between <= (self.config.sections or np.inf))

    def draw(self, step: int) -> NDArray[np.int64]:
        """[size] item numbers of batch `step`: patch, its partner, patch, its partner, ..."""
        rng = np.random.default_rng((abs(self.seed), step, 0x5A))
        chosen = self.anchors[rng.permutation(len(self.anchors))[: self.size // 2]]
        luck, out = rng.random(len(chosen)), np.empty((len(chosen), 2), np.int64)
        for place, anchor in enumerate(chosen):
            mine, tree = self._trees[int(self.pool.parts[anchor])]
            near = mine[sorted(tree.query_ball_point(self.pool.places_mm[anchor], self.config.radius_um / 1000))]
            near = near[self._fits(np.full(len(near), anchor), near)]
            out[place] = anchor, near[int(luck[place] * len(near))]
        return out.ravel()

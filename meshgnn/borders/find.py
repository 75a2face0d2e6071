"""Borders along a series of profiles: places that many block sizes agree on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from meshgnn.borders.hotelling import block_distances, check_block, hotelling_p
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Border:
    """A border along a series.

    Args:
        place: between profiles `place` and `place` + 1.
        blocks: sizes of the blocks that put it there.
        p: median of their p values, times the number of tests, at most 1.
        distance2, shrunk2: mean squared distance over these sizes, by the pooled and the shrunk covariance.
        q: share of false ones expected among those that stand out as much from surrogates
            (`meshgnn.borders.surrogates`); NaN where these were not asked for.
    """

    place: int
    blocks: tuple[int, ...]
    p: float
    distance2: float
    shrunk2: float
    q: float = float("nan")


@dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """What the test says along one series of N profiles.

    Args:
        distance2, shrunk2: [N - 1] squared distances, mean over the block sizes that fit there; NaN where none does.
        evidence: [N - 1] -log10 p of Hotelling's T2, uncorrected, mean over the same sizes.
        borders: in order of place.
    """

    distance2: Floats
    shrunk2: Floats
    evidence: Floats
    borders: tuple[Border, ...]


class BorderTest:
    """Sliding blocks of all sizes, and what they agree on."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            smallest, largest: numbers of profiles in a block; all sizes between are tried.
            level: a border's p value, corrected for the number of places and block sizes (Bonferroni), lies below.
            agreeing: share of the block sizes that must put a border at one place, within half a block.
        """

        smallest: int = 8
        largest: int = 24
        level: float = 0.05
        agreeing: float = 0.5

        def __post_init__(self) -> None:
            if not 2 <= self.smallest <= self.largest:
                raise SettingError("<smallest> must be at least 2 and at most <largest>")
            if not 0 < self.level < 1 or not 0 < self.agreeing <= 1:
                raise SettingError("<level> must lie in (0, 1) and <agreeing> in (0, 1]")
            try:
                check_block(self.smallest, 10)
            except InputError as error:
                raise SettingError(f"<smallest>: {error}") from None

        def build(self) -> "BorderTest":
            return BorderTest(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def sizes(self) -> range:
        return range(self.config.smallest, self.config.largest + 1)

    def tests(self, count: int) -> int:
        """How many tests a series of `count` profiles makes."""
        return sum(max(count - 2 * size + 1, 0) for size in self.sizes)

    def __call__(self, features: Floats, tests: int = 0, *, agree: bool = True) -> Series:
        """Borders of one series.

        Args:
            features: [N, p]; those that do not vary are left out.
            tests: number of tests in all, where several series are one family; those of this series if 0.
            agree: look for borders; without, distances and evidence alone.
        """
        count = len(features)
        if not self.tests(count):
            empty = np.full(max(count - 1, 0), np.nan)
            return Series(distance2=empty, shrunk2=empty, evidence=empty, borders=())
        varying = features.std(0) > 1e-9 * np.maximum(np.abs(features).max(0), 1e-12)
        features = features[:, varying]
        p, tests = features.shape[1], tests or self.tests(count)
        empty = np.full(count - 1, np.nan)
        if not p:
            return Series(distance2=empty, shrunk2=empty, evidence=empty, borders=())
        both = np.stack([block_distances(features, size) for size in self.sizes], axis=1)  # [2, sizes, N - 1]
        chance = np.stack([hotelling_p(both[0, k], size, p) for k, size in enumerate(self.sizes)]) * tests
        fits = np.isfinite(both[0])
        surprise = -np.log10(np.maximum(chance / tests, 1e-300))
        mean = [np.divide(np.where(fits, one, 0).sum(0), fits.sum(0), out=empty.copy(), where=fits.any(0))
                for one in (*both, surprise)]  # fmt: skip
        return Series(
            distance2=mean[0], shrunk2=mean[1], evidence=mean[2], borders=self._agreed(both, chance) if agree else ()
        )

    def _agreed(self, both: Floats, chance: Floats) -> tuple[Border, ...]:
        """Borders by greedy choice: the place that most sizes put a maximum near, then the next."""
        sizes = np.array(self.sizes)
        peaks = np.full(chance.shape, -np.inf)  # squared distance where it is a significant maximum over half a block
        for k, size in enumerate(sizes.tolist()):
            height = np.where(chance[k] < self.config.level, both[0, k], -np.inf)
            top = maximum_filter1d(height, 2 * (size // 2) + 1, mode="constant", cval=-np.inf)
            peaks[k] = np.where(height == top, height, -np.inf)
        needed = self.config.agreeing * len(sizes)
        found = []
        while True:
            near = np.stack(
                [maximum_filter1d(one, 2 * (size // 2) + 1, mode="constant", cval=-np.inf)
                 for one, size in zip(peaks, sizes.tolist())]
            )  # fmt: skip
            votes = np.isfinite(near).sum(0)
            if not len(votes) or votes.max() < needed or not votes.max():
                break
            best = np.flatnonzero(votes == votes.max())
            middle = int(best[np.where(np.isfinite(near), near, 0).sum(0)[best].argmax()])
            chosen = np.flatnonzero(np.isfinite(near[:, middle]))
            places = []
            for number in chosen.tolist():
                there = np.flatnonzero(np.isfinite(peaks[number]))
                places.append(int(there[np.abs(there - middle).argmin()]))
            place, at = int(np.median(places)), np.array(places, np.intp)
            found.append(
                Border(
                    place=place,
                    blocks=tuple(sizes[chosen].tolist()),
                    p=min(float(np.median(chance[chosen, at])), 1.0),
                    distance2=float(both[0, chosen, at].mean()),
                    shrunk2=float(both[1, chosen, at].mean()),
                )
            )
            # What lies within half a block of the border is that border, whichever size says so.
            away = np.abs(np.arange(len(votes)) - place)
            peaks = np.where(away <= sizes.reshape(-1, 1) / 2, -np.inf, peaks)
            peaks[chosen, at] = -np.inf
        return tuple(sorted(found, key=lambda border: border.place))

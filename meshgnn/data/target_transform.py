"""Transforms of a target before training, with their exact inverses; what they need is taken from training subjects.

`y` is [N] in the target's own unit, `z` is [N] as the network sees it. NaN (missing) stays NaN.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import Config as BaseConfig
from meshgnn.config import from_plain, to_plain
from meshgnn.errors import InputError, SettingError
from meshgnn.store import FORMAT, read_json, write_json

Values = NDArray[np.float64]
RECORD = "TargetTransform"


@dataclass(frozen=True, kw_only=True)
class LogTarget(BaseConfig):
    """z = log(y + offset), as the ABCD study trained; y = factor * exp(z) - offset.

    A network that learns z by absolute error predicts a median of y. `smeared` gives the factor that turns it into an
    estimate of the mean (Duan 1983, doi:10.1080/01621459.1983.10478017).

    Args:
        offset: added before the logarithm.
        factor: of the inverse; 1 makes it exact.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            offset: added before the logarithm; if none, so much that the smallest training value comes to lie `margin`
                standard deviations above 0.
            margin: how much room below the smallest training value is left.
        """

        offset: float | None = None
        margin: float = 1.0

        def __post_init__(self) -> None:
            if not self.margin > 0:
                raise SettingError("<margin> must be above 0")

        def build(self, y: Values) -> "LogTarget":
            """Of the training subjects' values. Raises InputError when one of them has no logarithm."""
            known = _known(y)
            offset = self.offset
            if offset is None:
                offset = max(0.0, self.margin * float(known.std()) - float(known.min()))
            if known.min() + offset <= 0:
                raise SettingError(f"<offset>={offset:g}: the smallest training value is {known.min():g}; raise it")
            return LogTarget(offset=offset)

    offset: float = 0.0
    factor: float = 1.0

    def apply(self, y: Values) -> Values:
        """Raises InputError when a value + offset is not above 0."""
        shifted = np.asarray(y, np.float64) + self.offset
        if (wrong := shifted <= 0).any():
            raise InputError(
                f"{int(wrong.sum())} values are at or below -{self.offset:g} and have no logarithm; set a larger offset"
            )
        return np.log(shifted)

    def invert(self, z: Values) -> Values:
        return self.factor * np.exp(np.asarray(z, np.float64)) - self.offset

    def smeared(self, y: Values, predicted: Values) -> "LogTarget":
        """The same with the mean of exp(residual) of these (validation) subjects as its factor."""
        away = self.apply(y) - np.asarray(predicted, np.float64)
        return LogTarget(offset=self.offset, factor=float(np.nanmean(np.exp(away))))


@dataclass(frozen=True, kw_only=True)
class RangeTarget(BaseConfig):
    """Clamped to two values, z-scored and brought into [-1, 1], as the megamodeller trained: one linear map in the end.

    The inverse is exact for values that were not clamped.

    Args:
        low, high: values that become -1 and 1.
        mean, sd: of the clamped training values, for errors in units of them.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            percentiles: of the training values that they are clamped to.
        """

        percentiles: tuple[float, float] = (0.5, 99.5)

        def __post_init__(self) -> None:
            if not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
                raise SettingError("<percentiles> needs two, the lower one first, from 0 to 100")

        def build(self, y: Values) -> "RangeTarget":
            """Of the training subjects' values. Raises InputError when they are all alike."""
            known = _known(y)
            low, high = np.percentile(known, self.percentiles).tolist()
            if not high > low:
                raise InputError(f"the target is {low:g} for (nearly) all training subjects; there is nothing to learn")
            inside = known.clip(low, high)
            return RangeTarget(low=low, high=high, mean=float(inside.mean()), sd=float(inside.std()))

    low: float = -1.0
    high: float = 1.0
    mean: float = 0.0
    sd: float = 1.0

    def apply(self, y: Values) -> Values:
        clamped = np.clip(np.asarray(y, np.float64), self.low, self.high)
        return 2 * (clamped - self.low) / (self.high - self.low) - 1

    def invert(self, z: Values) -> Values:
        return self.low + (np.asarray(z, np.float64) + 1) / 2 * (self.high - self.low)


@dataclass(frozen=True, kw_only=True)
class ScoreTarget(BaseConfig):
    """z = (y - mean) / sd.

    Args:
        mean, sd: of the training values.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        def build(self, y: Values) -> "ScoreTarget":
            """Of the training subjects' values. Raises InputError when they are all alike."""
            known = _known(y)
            if not known.std() > 0:
                raise InputError(f"the target is {known[0]:g} for all training subjects; there is nothing to learn")
            return ScoreTarget(mean=float(known.mean()), sd=float(known.std()))

    mean: float = 0.0
    sd: float = 1.0

    def apply(self, y: Values) -> Values:
        return (np.asarray(y, np.float64) - self.mean) / self.sd

    def invert(self, z: Values) -> Values:
        return np.asarray(z, np.float64) * self.sd + self.mean


TargetTransform = LogTarget | RangeTarget | ScoreTarget
TransformConfig = LogTarget.Config | RangeTarget.Config | ScoreTarget.Config


def save_transform(path: Path, transform: LogTarget | RangeTarget | ScoreTarget) -> None:
    """A fitted transform as JSON, beside the checkpoint: evaluation takes this one and makes none of its own."""
    write_json(path, {"format": FORMAT, "record": RECORD, "transform": to_plain(transform)})


def load_transform(path: Path) -> LogTarget | RangeTarget | ScoreTarget:
    """Raises InputError when the file is missing, damaged or of another kind."""
    about = read_json(path)
    if not isinstance(about, dict) or about.get("record") != RECORD or about.get("format") != FORMAT:
        raise InputError(f"{path}: not a stored transform of format {FORMAT}")
    return from_plain(TargetTransform, about.get("transform"), str(path))


def _known(y: Values) -> Values:
    known = np.asarray(y, np.float64)
    known = known[np.isfinite(known)]
    if len(known) < 2:
        raise InputError(f"the target is known for {len(known)} training subjects; at least 2 are needed")
    return known

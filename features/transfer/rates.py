"""How the learning rate goes with the steps of a training: functions of the step alone, so that a training that goes on
needs no state of theirs."""

from dataclasses import dataclass
from math import cos, pi

import torch

from features.encoders.item_encoder import check_counts
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError


@dataclass(frozen=True, kw_only=True)
class Constant(BaseConfig):
    """The rate of the optimiser throughout."""

    def at(self, step: int, steps: int, rate: float) -> float:
        """Of a step (from 0) of so many."""
        return rate


@dataclass(frozen=True, kw_only=True)
class StepDecay(BaseConfig):
    """The rate times `factor` after every `every` steps.

    Args:
        factor: above 0, at most 1.
        every: steps.
        floor: the rate never falls below it.
    """

    factor: float = 0.97
    every: int = 500
    floor: float = 1e-5

    def __post_init__(self) -> None:
        check_counts(every=self.every)
        if not 0 < self.factor <= 1 or self.floor < 0:
            raise SettingError("<factor> must be above 0 and at most 1, <floor> not negative")

    def at(self, step: int, steps: int, rate: float) -> float:
        """Of a step (from 0) of so many."""
        return max(rate * self.factor ** (step // self.every), min(self.floor, rate))


@dataclass(frozen=True, kw_only=True)
class WarmUpCosine(BaseConfig):
    """A linear rise, then half a cosine down, again and again (Loshchilov & Hutter 2017, arXiv 1608.03983, eq. 5).

    Args:
        warm_up: share of a period in which the rate rises from nearly 0.
        period: steps of the first period; 0 for a single one over the whole training.
        growth: length of a period in units of the one before.
        decay: highest rate of a period in units of that of the one before.
        floor: rate at the end of a period.
    """

    warm_up: float = 0.1
    period: int = 0
    growth: int = 1
    decay: float = 1.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        check_counts(growth=self.growth)
        if not 0 <= self.warm_up < 1 or self.period < 0 or not 0 < self.decay <= 1 or self.floor < 0:
            raise SettingError(
                "<warm_up> must be at least 0 and below 1, <decay> above 0 and at most 1, <period> and <floor> not "
                "negative"
            )

    def at(self, step: int, steps: int, rate: float) -> float:
        """Of a step (from 0) of so many."""
        length = self.period or max(steps, 1)
        while step >= length:
            step, length, rate = step - length, length * self.growth, rate * self.decay
        rise, floor = int(self.warm_up * length), min(self.floor, rate)
        if step < rise:
            return rate * (step + 1) / (rise + 1)
        return floor + (rate - floor) * (1 + cos(pi * (step - rise) / (length - rise))) / 2


@dataclass(frozen=True, kw_only=True)
class OneCycle(BaseConfig):
    """Up and down once by half cosines (Smith & Topin 2018, arXiv 1708.07120), as in torch's `OneCycleLR`.

    Args:
        rise: share of the steps in which the rate rises.
        start: the highest rate is so many times the first one.
        end: the first rate is so many times the last one.
    """

    rise: float = 0.3
    start: float = 25.0
    end: float = 1e4

    def __post_init__(self) -> None:
        if not 0 < self.rise < 1 or min(self.start, self.end) < 1:
            raise SettingError("<rise> must be between 0 and 1, <start> and <end> at least 1")

    def at(self, step: int, steps: int, rate: float) -> float:
        """Of a step (from 0) of so many."""
        first, peak = rate / self.start, max(self.rise * steps - 1, 1e-9)
        if step <= peak:
            return rate + (first - rate) * (1 + cos(pi * step / peak)) / 2
        share = min((step - peak) / max(steps - 1 - peak, 1e-9), 1.0)
        return first / self.end + (rate - first / self.end) * (1 + cos(pi * share)) / 2


Rate = Constant | StepDecay | WarmUpCosine | OneCycle


def set_rates(optimiser: torch.optim.Optimizer, rate: Rate, step: int, steps: int) -> None:
    """Give every group of an optimiser its rate of a step (from 0) of so many; the highest is the one it was made with.

    That one is kept under torch's own name for it, so that a state that is loaded later holds it.
    """
    if isinstance(rate, Constant):
        return
    for group in optimiser.param_groups:
        group["lr"] = rate.at(step, steps, group.setdefault("initial_lr", group["lr"]))

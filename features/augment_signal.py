"""Changes of one-dimensional items that leave their meaning as it is, drawn from (seed, step, view, place) alone."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from features.augment import random_numbers
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError


class SignalAugment:
    """A factor, an offset, noise, and a stretch of the signal that is replaced by the item's mean."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            gain: sd of the log of a factor.
            offset: sd of what is added, in standard deviations of the item.
            noise: sd of noise at every value, in standard deviations of the item.
            drop: largest share of the signal that is replaced.
        """

        gain: float = 0.1
        offset: float = 0.1
        noise: float = 0.1
        drop: float = 0.2

        def __post_init__(self) -> None:
            if min(self.gain, self.offset, self.noise, self.drop) < 0 or self.drop >= 1:
                raise SettingError("<gain>, <offset>, <noise> and <drop> must not be negative, <drop> be below 1")

        def build(self) -> "SignalAugment":
            return SignalAugment(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, items: Tensor, *, seed: int, step: int, places: slice, batch: int, view: int = 0) -> Tensor:
        """Changed items [B, T]; arguments as those of `features.augment.PatchAugment`."""
        c, rng, length = self.config, random_numbers(seed, step, view), items.shape[1]
        factor = np.exp(c.gain * rng.standard_normal((batch, 1)))
        offset = c.offset * rng.standard_normal((batch, 1))
        noise = c.noise * rng.standard_normal((batch, length))
        wide = c.drop * rng.random((batch, 1)) * length
        first = rng.random((batch, 1)) * (length - wide)
        dropped = (np.arange(length) >= first) & (np.arange(length) < first + wide)
        mine = [torch.from_numpy(np.asarray(one[places], np.float32)).to(items) for one in (factor, offset, noise)]
        mean, deviation = items.mean(1, keepdim=True), items.std(1, keepdim=True, correction=0)
        kept = torch.where(torch.from_numpy(dropped[places]).to(items.device), mean, items)
        return kept * mine[0] + deviation * (mine[1] + mine[2])

"""Changes of cubes of volumes that leave their meaning as it is, drawn from (seed, step, view, place) alone."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from features.augment import random_numbers
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError


class VolumeAugment:
    """Quarter turns and flips about the axis that cubes stand on, a factor, an offset and noise; no interpolation."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            turn: turn by quarters about the first axis (the cortical normal of upright cubes), and mirror along it.
            gain: sd of the log of a factor.
            offset: sd of what is added.
            noise: sd of noise at every voxel. All in standard deviations of the volume, as items are.
        """

        turn: bool = True
        gain: float = 0.1
        offset: float = 0.1
        noise: float = 0.1

        def __post_init__(self) -> None:
            if min(self.gain, self.offset, self.noise) < 0:
                raise SettingError("<gain>, <offset> and <noise> must not be negative")

        def build(self) -> "VolumeAugment":
            return VolumeAugment(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, items: Tensor, *, seed: int, step: int, places: slice, batch: int, view: int = 0) -> Tensor:
        """Changed cubes [B, C, S, S, S]; arguments as those of `features.augment.PatchAugment`."""
        c, rng = self.config, random_numbers(seed, step, view)
        motion = rng.integers(0, 8 if c.turn else 1, batch)[places]
        factor = np.exp(c.gain * rng.standard_normal(batch))[places]
        offset = c.offset * rng.standard_normal(batch)[places]
        noise = rng.standard_normal((batch, *items.shape[1:]), np.float32)[places]
        out = torch.empty_like(items)
        for one in np.unique(motion).tolist():
            here = torch.from_numpy(motion == one).to(items.device)
            turned = torch.rot90(items[here], one % 4, (3, 4))
            out[here] = turned.flip(4) if one >= 4 else turned
        shape = (-1, 1, 1, 1, 1)
        scale, shift = (torch.from_numpy(one.astype(np.float32)).to(items).view(shape) for one in (factor, offset))
        return out * scale + shift + c.noise * torch.from_numpy(noise).to(items)

"""Changes of whole-brain volumes on the fly, by MONAI, drawn from (seed, step, view, place in the batch) alone."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError
from meshgnn.optional import need


class HeadAugment:
    """Affine and smooth elastic motion, mirroring, bias field, contrast, blur and noise of MRI volumes.

    The changes are MONAI's (Cardoso et al. 2022, arXiv 2211.02701). Each volume gets a generator of its own, so that
    its changes depend neither on what else stands in the batch nor on the number of ranks. No copies are kept on disk.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            chance: that each of the changes is made.
            rotation_deg: uniform within +- this, about each axis.
            scale: uniform within 1 +- this, along each axis.
            shift: uniform within +- this share of the side, along each axis.
            flip: mirror left and right.
            elastic: of the displacement of an elastic motion, in voxels; 0 does without (it takes the longest).
            bias: largest coefficient of a smooth bias field.
            contrast: gamma within 1 +- this.
            blur: largest standard deviation of a Gaussian, in voxels.
            noise: standard deviation of noise, in units of the volume's own.
        """

        chance: float = 0.5
        rotation_deg: float = 8.0
        scale: float = 0.08
        shift: float = 0.04
        flip: bool = False
        elastic: float = 0.0
        bias: float = 0.2
        contrast: float = 0.15
        blur: float = 0.7
        noise: float = 0.05

        def __post_init__(self) -> None:
            sizes = (self.rotation_deg, self.scale, self.shift, self.elastic, self.bias, self.contrast, self.blur)
            if not 0 <= self.chance <= 1 or min(*sizes, self.noise) < 0 or max(self.scale, self.contrast) >= 1:
                raise SettingError(
                    "<chance> must lie in [0, 1], the sizes of changes not be negative, <scale> and <contrast> below 1"
                )

        def build(self) -> "HeadAugment":
            return HeadAugment(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    @cached_property
    def _changes(self) -> Any:
        """MONAI's transforms, one after another. Raises InputError when MONAI is not installed."""
        c, monai = self.config, need("monai.transforms", "monai")
        angle, sizes = (np.radians(c.rotation_deg),) * 3, (c.scale,) * 3
        found: list[Any] = []
        if c.flip:
            found.append(monai.RandFlip(prob=c.chance, spatial_axis=0))
        if c.rotation_deg or c.scale:
            found.append(
                monai.RandAffine(
                    prob=c.chance, rotate_range=angle, scale_range=sizes, padding_mode="border", mode="bilinear"
                )
            )
        if c.elastic:
            found.append(
                monai.Rand3DElastic(
                    prob=c.chance, sigma_range=(4, 6), magnitude_range=(0, 100 * c.elastic), padding_mode="border"
                )
            )
        if c.bias:
            found.append(monai.RandBiasField(prob=c.chance, degree=3, coeff_range=(0.0, c.bias)))
        if c.contrast:
            found.append(monai.RandAdjustContrast(prob=c.chance, gamma=(1 - c.contrast, 1 + c.contrast)))
        if c.blur:
            found.append(
                monai.RandGaussianSmooth(
                    prob=c.chance, sigma_x=(0.0, c.blur), sigma_y=(0.0, c.blur), sigma_z=(0.0, c.blur)
                )
            )
        if c.noise:
            found.append(monai.RandGaussianNoise(prob=c.chance, std=c.noise))
        return monai.Compose(found)

    def __call__(self, items: Tensor, *, seed: int, step: int, places: slice, batch: int, view: int = 0) -> Tensor:
        """Changed volumes [B, C, X, Y, Z]; arguments as those of `features.augment.PatchAugment`."""
        changes, out = self._changes, torch.empty_like(items)
        for row, place in enumerate(range(batch)[places]):
            words = np.random.SeedSequence((abs(seed), step, 0xAE, view, place)).generate_state(1)
            changes.set_random_state(seed=int(words[0]))
            item = items[row]
            shift = self._shift(int(words[0]), item)
            out[row] = torch.as_tensor(changes(shift)).as_subclass(Tensor).to(items)
        return out

    def _shift(self, word: int, item: Tensor) -> Tensor:
        """Moved by whole voxels; what comes in at the other side is the volume's smallest value."""
        c = self.config
        if not c.shift:
            return item
        rng = np.random.default_rng((word, 0x5F))
        most = [c.shift * side for side in item.shape[1:]]
        by = [round(float(rng.uniform(-one, one))) if rng.random() < c.chance else 0 for one in most]
        moved = torch.roll(item, by, (1, 2, 3))
        for axis, one in enumerate(by, 1):
            if one:
                gone = slice(0, one) if one > 0 else slice(item.shape[axis] + one, None)
                moved[(slice(None),) * axis + (gone,)] = item.min()
        return moved

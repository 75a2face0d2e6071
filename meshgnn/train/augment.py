"""Random changes of the inputs, drawn anew at every training step: what another hemisphere or brain could look like."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError


class Augment:
    """Noise on features; jitter, small affine changes and a smooth warp of coordinates."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            noise: standard deviation added to the standardised features.
            drop: share of feature channels set to zero, whole columns at a time.
            jitter_mm: standard deviation added to every coordinate.
            affine: standard deviation of the entries of a random matrix added to the identity.
            warp_mm: amplitude of a smooth displacement field of eight random waves.
        """

        noise: float = 0.1
        drop: float = 0.1
        jitter_mm: float = 1.0
        affine: float = 0.02
        warp_mm: float = 1.0

        def __post_init__(self) -> None:
            if not 0 <= self.drop < 1 or min(self.noise, self.jitter_mm, self.affine, self.warp_mm) < 0:
                raise SettingError(
                    "<drop> must lie in [0, 1), <noise>, <jitter_mm>, <affine> and <warp_mm> not be negative"
                )

        def build(self) -> "Augment":
            return Augment(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def features(self, x: Tensor) -> Tensor:
        """[V, D] -> [V, D], from torch's global generator."""
        if self.config.noise:
            x = torch.randn_like(x).mul_(self.config.noise).add_(x)
        if self.config.drop:
            keep = torch.rand(1, x.shape[1], device=x.device) > self.config.drop
            x = x * (keep / (1 - self.config.drop))
        return x

    def coordinates(self, points: Tensor, unit_mm: float) -> Tensor:
        """[V, 3] in units of `unit_mm` -> [V, 3]."""
        if self.config.warp_mm:
            directions = 1.2 * torch.randn(3, 8, device=points.device)
            phases = 2 * torch.pi * torch.rand(8, device=points.device)
            amplitudes = torch.randn(8, 3, device=points.device) * (self.config.warp_mm / unit_mm / 2)
            points = points + torch.sin(points @ directions + phases) @ amplitudes
        if self.config.affine:
            change = self.config.affine * torch.randn(4, 3, device=points.device)
            points = points + points @ change[:3] + change[3]
        if self.config.jitter_mm:
            points = points + torch.randn_like(points) * (self.config.jitter_mm / unit_mm)
        return points

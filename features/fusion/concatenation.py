"""Fusion by concatenation, zeros where a subject lacks a block."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from features.fusion.parts import FusionConfig, Parts, placed


class Concatenation(nn.Module):
    """Features of all blocks side by side; those of an absent block are zeros, as in the biobank study
    (10.1016/j.neuroimage.2024.120600). It has no weights."""

    @dataclass(frozen=True, kw_only=True)
    class Config(FusionConfig):
        """
        Args:
            say_present: append one value per block, 1 where the subject has it. Without it zeros alone tell absence, as
                published.
        """

        say_present: bool = False

        def build(self, widths: Sequence[int]) -> "Concatenation":
            """For blocks of these channels."""
            return Concatenation(self, widths)

    def __init__(self, config: Config, widths: Sequence[int]) -> None:
        super().__init__()
        self.config, self.widths = config, tuple(widths)
        self.out_channels = sum(widths) + (len(widths) if config.say_present else 0)

    def forward(self, parts: Parts, present: Tensor) -> Tensor:
        """[B, out_channels]."""
        batch = len(present)
        first = next(part.values for part in parts if part is not None)
        found = [
            first.new_zeros((batch, width)) if part is None else placed(part, batch)
            for part, width in zip(parts, self.widths)
        ]
        return torch.cat([*found, present.to(first.dtype)] if self.config.say_present else found, 1)

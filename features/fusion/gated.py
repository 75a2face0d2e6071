"""Fusion by gates: every channel is a weighted mean over the blocks that a subject has."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from features.encoders.item_encoder import check_counts
from features.fusion.parts import FusionConfig, Part, Parts, stacked


class Gated(nn.Module):
    """Gated multimodal unit (Arevalo et al. 2017, eq. 1 to 5) for any number of blocks, any of them absent.

    h_i = tanh(W_i x_i) of width H; gates are one linear map of all h_i (zeros where absent) and of what is present, and
    a softmax over the blocks that the subject has, channel by channel; the output is the sum of gates times h_i.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(FusionConfig):
        """
        Args:
            hidden: channels H.
        """

        hidden: int = 128

        def __post_init__(self) -> None:
            check_counts(hidden=self.hidden)

        def build(self, widths: Sequence[int]) -> "Gated":
            """For blocks of these channels."""
            return Gated(self, widths)

    def __init__(self, config: Config, widths: Sequence[int]) -> None:
        super().__init__()
        self.out_channels = config.hidden
        self.project = nn.ModuleList(nn.Linear(width, config.hidden) for width in widths)
        self.gate = nn.Linear(len(widths) * (config.hidden + 1), len(widths) * config.hidden)

    def forward(self, parts: Parts, present: Tensor) -> Tensor:
        """[B, out_channels]."""
        hidden = [
            None if part is None else Part(rows=part.rows, values=torch.tanh(project(part.values)))
            for part, project in zip(parts, self.project)
        ]
        all_hidden = stacked(hidden, len(present), self.out_channels)
        known = present.to(all_hidden.dtype)
        scores = self.gate(torch.cat([all_hidden.flatten(1), known], 1)).unflatten(1, (-1, self.out_channels))
        gates = scores.masked_fill(~present[:, :, None], -torch.inf).softmax(1)
        return (gates * all_hidden).sum(1)

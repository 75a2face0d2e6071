"""Fusion by attention: a learnt query reads the blocks that a subject has."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from features.encoders.item_encoder import check_counts, check_shares
from features.fusion.parts import FusionConfig, Part, Parts, stacked
from meshgnn.errors import SettingError


class Attention(nn.Module):
    """Pooling by multihead attention (Lee et al. 2019, Set Transformer, eq. 11) over blocks as tokens.

    A token is a block's features mapped to width H, with an embedding of the block added. Absent blocks are masked: the
    softmax runs over the tokens that are there. A layer of width H follows, with its input on top.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(FusionConfig):
        """
        Args:
            hidden: channels H, a multiple of `heads`.
            heads: of the attention.
            dropout: share of attention weights dropped in training.
        """

        hidden: int = 128
        heads: int = 4
        dropout: float = 0.0

        def __post_init__(self) -> None:
            check_counts(hidden=self.hidden, heads=self.heads)
            check_shares(dropout=self.dropout)
            if self.hidden % self.heads:
                raise SettingError(f"<hidden>={self.hidden} must be a multiple of <heads>={self.heads}")

        def build(self, widths: Sequence[int]) -> "Attention":
            """For blocks of these channels."""
            return Attention(self, widths)

    def __init__(self, config: Config, widths: Sequence[int]) -> None:
        super().__init__()
        hidden = self.out_channels = config.hidden
        self.project = nn.ModuleList(nn.Linear(width, hidden) for width in widths)
        self.block = nn.Parameter(torch.randn(len(widths), hidden) * 0.02)
        self.query = nn.Parameter(torch.randn(1, 1, hidden) * 0.02)
        self.norm_tokens, self.norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.attention = nn.MultiheadAttention(hidden, config.heads, dropout=config.dropout, batch_first=True)
        self.layer = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden))

    def forward(self, parts: Parts, present: Tensor) -> Tensor:
        """[B, out_channels]."""
        tokens = [
            None if part is None else Part(rows=part.rows, values=self.norm_tokens(project(part.values) + block))
            for part, project, block in zip(parts, self.project, self.block)
        ]
        memory = stacked(tokens, len(present), self.out_channels)
        query = self.query.to(memory.dtype).expand(len(present), -1, -1)
        found, _ = self.attention(query, memory, memory, key_padding_mask=~present, need_weights=False)
        read = (query + found)[:, 0]
        return read + self.layer(self.norm(read))

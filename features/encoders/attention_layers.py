"""Layers of self-attention over the tokens of an item: frames of a run, patches of a series, parcels of a mesh."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from features.encoders.item_encoder import check_counts, check_shares
from features.encoders.recompute import recomputed
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError

MOST = 512  # layers: a file of a network must not keep a reader busy


class AttentionLayers(nn.Module):
    """A transformer encoder (Vaswani et al. 2017, arXiv 1706.03762, section 3.1) with GELU, as in BERT (Devlin et al.
    2019, arXiv 1810.04805).

    [B, N, C] -> [B, N, C]. A layer of 2,640 channels with 3,072 hidden ones has 44,125,392 parameters. While
    `recompute` is set, activations of a layer are computed again in the backward pass.
    """

    recompute: bool = False

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            depth: number of layers.
            heads: of the attention; the width must be a multiple.
            feed_forward: hidden channels of a layer's linear maps; 0 takes four times the width.
            norm: pre puts layer norm before attention and linear maps, and once at the end (Xiong et al. 2020, arXiv
                2002.04745); post puts it behind each sum, as published first.
            dropout: share of attention weights, and of values before each sum, dropped in training.
        """

        depth: int = 2
        heads: int = 4
        feed_forward: int = 0
        norm: Literal["pre", "post"] = "pre"
        dropout: float = 0.1

        def __post_init__(self) -> None:
            check_counts(depth=self.depth, heads=self.heads)
            if self.depth > MOST:
                raise SettingError(f"<depth> must be at most {MOST}, got {self.depth}")
            check_shares(dropout=self.dropout)
            if self.feed_forward < 0:
                raise SettingError(f"<feed_forward> must not be negative, got {self.feed_forward}")

        def build(self, width: int) -> "AttentionLayers":
            """Layers of so many channels. Raises SettingError unless the heads share them evenly."""
            if width % self.heads:
                raise SettingError(f"<heads>={self.heads} do not divide {width} channels")
            return AttentionLayers(self, width)

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(AttentionLayer(config, width) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width) if config.norm == "pre" else nn.Identity()

    def forward(self, tokens: Tensor, measured: Tensor | None = None) -> Tensor:
        """[B, N, C] -> [B, N, C].

        Args:
            tokens: of B items.
            measured: [B, N] bool, tokens that others may look at, at least one per item; all by default.
        """
        for layer in self.layers:
            again = self.recompute and torch.is_grad_enabled()
            tokens = recomputed(_Masked(layer, measured), tokens) if again else layer(tokens, measured)
        return self.norm(tokens)


class AttentionLayer(nn.Module):
    """Attention and two linear maps, each added to what came in. [B, N, C] -> [B, N, C]."""

    def __init__(self, config: AttentionLayers.Config, width: int) -> None:
        super().__init__()
        self.heads, self.pre, self.share = config.heads, config.norm == "pre", config.dropout
        hidden = config.feed_forward or 4 * width
        self.attention_norm, self.linear_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, measured: Tensor | None = None) -> Tensor:
        """`measured` as in `AttentionLayers`."""
        if self.pre:
            tokens = tokens + self.dropout(self._attended(self.attention_norm(tokens), measured))
            return tokens + self.dropout(self._mapped(self.linear_norm(tokens)))
        tokens = self.attention_norm(tokens + self.dropout(self._attended(tokens, measured)))
        return self.linear_norm(tokens + self.dropout(self._mapped(tokens)))

    def _attended(self, tokens: Tensor, measured: Tensor | None) -> Tensor:
        count, length, width = tokens.shape
        shape = (count, length, 3, self.heads, width // self.heads)
        query, key, value = self.qkv(tokens).view(shape).permute(2, 0, 3, 1, 4)
        allowed = None if measured is None else measured[:, None, None, :]
        share = self.share if self.training else 0.0
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, dropout_p=share)
        return self.out(found.transpose(1, 2).reshape(count, length, width))

    def _mapped(self, tokens: Tensor) -> Tensor:
        return self.narrow(F.gelu(self.wide(tokens)))


class _Masked(nn.Module):
    """A layer with its mask, as a module of one input."""

    def __init__(self, layer: nn.Module, measured: Tensor | None) -> None:
        super().__init__()
        self.layer, self.measured = layer, measured

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layer(tokens, self.measured)

"""A transformer over a sequence of tokens, with a token of its own for the whole sequence (CLS)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from features.encoders.attention_layers import AttentionLayers
from features.encoders.correlation_pool import CorrelationPool, check_combined
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError


class TokenSequence(nn.Module):
    """Learnt positions, attention and pooling: [B, N, C] -> [B, C].

    The CLS token is made for the batch at hand, so that an item does not depend on how many others there are. Tokens
    that were not measured are no keys of the attention and enter no mean: what stands there changes nothing.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            layers: of attention.
            positions: places for which a position is learnt, that of CLS included; 0 takes as many as there are.
            pool: mean of the measured tokens after the last layer; or cls, the CLS token; or pooler, a linear map and
                tanh of it as in BERT; or correlation, the mean with a linear map of the correlations of features over
                tokens (`CorrelationPool`).
            combined: linear combinations of features that pool=correlation correlates; 2 to 512.
            standardised: whether each correlation is standardised over subjects (batch norm) before it is mapped;
                recommended for training from scratch.
            cls: a learnt vector, or a linear map with leaky ReLU of the constant 0.5 (arXiv 2112.05761).
            token_types: rows of BERT's table of token types, of which the first is added to all tokens.
            vocabulary: rows of BERT's table of words, carried for the sake of published counts and never read. They get
                no gradient.
        """

        layers: AttentionLayers.Config = field(default_factory=AttentionLayers.Config)
        positions: int = 0
        pool: Literal["mean", "cls", "pooler", "correlation"] = "mean"
        combined: int = 32
        standardised: bool = False
        cls: Literal["vector", "linear"] = "vector"
        token_types: int = 0
        vocabulary: int = 0

        def __post_init__(self) -> None:
            if min(self.positions, self.token_types, self.vocabulary) < 0:
                raise SettingError("<positions>, <token_types> and <vocabulary> must not be negative")
            check_combined(self.combined)

        def build(self, width: int, length: int) -> "TokenSequence":
            """A transformer of sequences [length, width]; weights from torch's random state.

            Raises:
                SettingError: more tokens than positions, or a width that the heads do not divide.
            """
            if 0 < self.positions <= length:
                raise SettingError(f"<positions>={self.positions} are too few for {length} tokens and CLS")
            return TokenSequence(self, width, length)

    def __init__(self, config: Config, width: int, length: int) -> None:
        super().__init__()
        self.embed = _Embedding(config, width, length)
        self.layers = config.layers.build(width)
        self.pool = _Pool(config, width)

    def states(self, tokens: Tensor, measured: Tensor | None = None) -> Tensor:
        """[B, N, C] -> [B, N + 1, C] after the last layer, CLS first.

        Args:
            tokens: of B items.
            measured: [B, N] bool; all by default.
        """
        if measured is not None:
            measured = F.pad(measured, (1, 0), value=True)
        return self.layers(self.embed(tokens), measured)

    def forward(self, tokens: Tensor, measured: Tensor | None = None) -> Tensor:
        """[B, N, C] -> [B, C]; `measured` as in `states`."""
        return self.pool(self.states(tokens, measured), measured)

    def stages(self) -> tuple[nn.Module, ...]:
        """From [B, C, N] to [B, C] with all tokens measured: tokens with positions, the layers, the pooling."""
        layers: Sequence[nn.Module] = [*self.layers.layers]
        last = nn.Sequential(self.layers.norm, self.pool)
        return (*map(_ChannelsFirst, (self.embed, *layers)), _Transposed(last))


class _Embedding(nn.Module):
    """[B, N, C] -> [B, N + 1, C]: CLS before the tokens, positions added, layer norm, dropout."""

    def __init__(self, config: TokenSequence.Config, width: int, length: int) -> None:
        super().__init__()
        self.cls = _Constant(width) if config.cls == "linear" else _Vector(width)
        self.position = nn.Parameter(torch.randn(config.positions or length + 1, width) * 0.02)
        self.kind = nn.Parameter(torch.randn(config.token_types, width) * 0.02) if config.token_types else None
        self.words = nn.Parameter(torch.randn(config.vocabulary, width) * 0.02) if config.vocabulary else None
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(config.layers.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        count, length, width = tokens.shape
        cls = self.cls().to(tokens.dtype).expand(count, 1, width)
        tokens = torch.cat([cls, tokens], 1) + self.position[: length + 1]
        if self.kind is not None:
            tokens = tokens + self.kind[0]
        return self.dropout(self.norm(tokens))


class _Vector(nn.Module):
    """A learnt vector [C]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.randn(width) * 0.02)

    def forward(self) -> Tensor:
        return self.vector


class _Constant(nn.Module):
    """The constant 0.5 through a linear map and leaky ReLU [C]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self) -> Tensor:
        return F.leaky_relu(self.linear(self.linear.weight.new_full((self.linear.in_features,), 0.5)))


class _Pool(nn.Module):
    """[B, N + 1, C] -> [B, C]."""

    def __init__(self, config: TokenSequence.Config, width: int) -> None:
        super().__init__()
        self.kind = config.pool
        self.dense = nn.Linear(width, width) if self.kind == "pooler" else None
        self.moments: CorrelationPool | None = None
        if self.kind == "correlation":
            self.moments = CorrelationPool(width, config.combined, standardised=config.standardised)

    def forward(self, states: Tensor, measured: Tensor | None = None) -> Tensor:
        tokens = states[:, 1:]
        if self.moments is not None:
            return self.moments(tokens, measured)
        if self.kind == "mean":
            if measured is None:
                return tokens.mean(1)
            kept = measured[..., None].to(tokens.dtype)
            return (tokens * kept).sum(1) / kept.sum(1).clamp(min=1)
        return states[:, 0] if self.dense is None else torch.tanh(self.dense(states[:, 0]))


class _Transposed(nn.Module):
    """A module of tokens, given [B, C, N]."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, maps: Tensor) -> Tensor:
        return self.module(maps.transpose(1, 2))


class _ChannelsFirst(_Transposed):
    """[B, C, N] -> [B, C', N']."""

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps).transpose(1, 2)

"""The trunk that all our networks share: a linear map in, then pre-norm residual layers.

C_in inputs, H hidden channels.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from meshgnn.errors import SettingError
from meshgnn.nn.adjacency import Adjacency
from meshgnn.nn.dropout import dropout
from meshgnn.nn.socket import HeadSettings, TrunkConfig


@dataclass(frozen=True, kw_only=True)
class ResidualConfig(TrunkConfig):
    """Sizes of a residual trunk, and what the head after it must know.

    Args:
        hidden: channels H.
        layers: residual layers; each mixes one more ring of neighbours.
        dropout: share of hidden values dropped in training.
        propagation: rounds of personalised propagation of the logits of nodes at the end; 0 for none.
    """

    hidden: int = 64
    layers: int = 2
    dropout: float = 0.2
    propagation: int = 8

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.layers < 0 or self.propagation < 0:
            raise SettingError("<hidden> must be at least 1, <layers> and <propagation> at least 0")
        # Far above any model that trains here; more would only fill memory or never end.
        if self.hidden**2 * max(self.layers, 1) > 1 << 28 or self.layers > 1000 or self.propagation > 10_000:
            raise SettingError(
                "<hidden>^2 x <layers> may reach 2^28, <layers> 1000, <propagation> 10000: this network is too large"
            )
        if not 0 <= self.dropout < 1:
            raise SettingError("<dropout> must lie in [0, 1)")

    def head(self) -> HeadSettings:
        return HeadSettings(dropout=self.dropout, propagation=self.propagation)


class ResidualTrunk(nn.Module):
    """h <- h + dropout(W gelu(layer(norm(h)))) after a linear map in.

    Args:
        layer: makes one mixing layer (H -> H) called as `layer(h, adjacency)`.
    """

    def __init__(self, config: ResidualConfig, in_channels: int, layer: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.config = config
        self.out_channels = config.hidden
        self.enter = nn.Linear(in_channels, config.hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(config.hidden) for _ in range(config.layers))
        self.mixers = nn.ModuleList(layer(config.hidden) for _ in range(config.layers))
        self.maps = nn.ModuleList(nn.Linear(config.hidden, config.hidden) for _ in range(config.layers))

    def forward(self, x: Tensor, adjacency: Adjacency) -> Tensor:
        """Inputs [V, C_in] -> hidden channels [V, H]."""

        def drop(values: Tensor) -> Tensor:
            return dropout(values, self.config.dropout, self.training)

        hidden = drop(self.enter(x))
        for norm, mixer, linear in zip(self.norms, self.mixers, self.maps):
            hidden = hidden + drop(linear(F.gelu(mixer(norm(hidden), adjacency))))
        return hidden

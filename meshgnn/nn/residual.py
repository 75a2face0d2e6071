"""The frame that all node networks share: in, pre-norm residual layers, out, and propagation of the logits.

C_in inputs, H hidden channels, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError
from meshgnn.nn.adjacency import Adjacency


@dataclass(frozen=True, kw_only=True)
class ResidualConfig(BaseConfig):
    """Sizes of a residual node network.

    Args:
        hidden: channels H.
        layers: residual layers; each mixes one more ring of neighbours.
        dropout: share of hidden values dropped in training.
        propagation: rounds of personalised propagation of the logits at the end; 0 for none.
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


class ResidualNetwork(nn.Module):
    """h <- h + dropout(W gelu(layer(norm(h)))), between a linear map in and one out.

    Args:
        layer: makes one mixing layer (H -> H) called as `layer(h, adjacency)`.
        spread: whether logits are propagated over the mesh (not for the MLP, which must not see neighbours).
    """

    def __init__(
        self,
        config: ResidualConfig,
        in_channels: int,
        out_channels: int,
        layer: Callable[[int], nn.Module],
        *,
        spread: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        self.rounds = config.propagation if spread else 0
        self.enter = nn.Linear(in_channels, config.hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(config.hidden) for _ in range(config.layers))
        self.mixers = nn.ModuleList(layer(config.hidden) for _ in range(config.layers))
        self.maps = nn.ModuleList(nn.Linear(config.hidden, config.hidden) for _ in range(config.layers))
        self.last_norm = nn.LayerNorm(config.hidden)
        self.leave = nn.Linear(config.hidden, out_channels)

    def forward(self, x: Tensor, adjacency: Adjacency) -> Tensor:
        """Inputs [V, C_in] -> logits [V, K]."""

        def drop(values: Tensor) -> Tensor:
            return F.dropout(values, self.config.dropout, self.training)

        hidden = drop(self.enter(x))
        for norm, mixer, linear in zip(self.norms, self.mixers, self.maps):
            hidden = hidden + drop(linear(F.gelu(mixer(norm(hidden), adjacency))))
        hidden = drop(self.last_norm(hidden))
        # The propagation is linear: run it on whichever side of the last map has fewer channels.
        if self.leave.out_features <= self.leave.in_features:
            return self._propagate(self.leave(hidden), adjacency)
        return self.leave(self._propagate(hidden, adjacency))

    def _propagate(self, start: Tensor, adjacency: Adjacency) -> Tensor:
        """z <- 0.1 z_0 + 0.45 (z + mean of neighbours), after Gasteiger et al. 2019 (APPNP, eq. 5) with lazy steps."""
        state = start
        lonely = (adjacency.degree == 0)[:, None]
        for _ in range(self.rounds):
            near = adjacency.mean(state)
            state = 0.1 * start + 0.45 * (state + state.where(lonely, near))
        return state

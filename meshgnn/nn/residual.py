"""The frame that all node networks share: in, pre-norm residual layers, out. C_in, H hidden and K out channels."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError
from meshgnn.nn.adjacency import Adjacency


@dataclass(frozen=True, kw_only=True)
class ResidualConfig(BaseConfig):
    """Sizes of a residual node network.

    Args:
        hidden: channels H.
        layers: residual layers; each mixes one more ring of neighbours.
        dropout: share of hidden values dropped in training.
        input_dropout: share of inputs dropped in training.
    """

    hidden: int = 64
    layers: int = 2
    dropout: float = 0.3
    input_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.layers < 0:
            raise InputError(f"model.hidden={self.hidden} and model.layers={self.layers} must be positive")
        if not 0 <= self.dropout < 1 or not 0 <= self.input_dropout < 1:
            raise InputError("model.dropout and model.input_dropout must lie in [0, 1)")


class ResidualNetwork(nn.Module):
    """h <- h + dropout(relu(layer(norm(h)))), after a linear map in and before a norm and a linear map out.

    Args:
        layer: makes one mixing layer (H -> H) called as `layer(h, adjacency)`.
    """

    def __init__(
        self, config: ResidualConfig, in_channels: int, out_channels: int, layer: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        self.config = config
        self.enter = nn.Linear(in_channels, config.hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(config.hidden) for _ in range(config.layers))
        self.mixers = nn.ModuleList(layer(config.hidden) for _ in range(config.layers))
        self.last_norm = nn.LayerNorm(config.hidden)
        self.leave = nn.Linear(config.hidden, out_channels)

    def forward(self, x: Tensor, adjacency: Adjacency) -> Tensor:
        """Inputs [V, C_in] -> logits [V, K]."""
        hidden = F.relu(self.enter(F.dropout(x, self.config.input_dropout, self.training)))
        for norm, mixer in zip(self.norms, self.mixers):
            change = F.relu(mixer(norm(hidden), adjacency))
            hidden = hidden + F.dropout(change, self.config.dropout, self.training)
        return self.leave(self.last_norm(hidden))

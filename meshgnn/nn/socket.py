"""What every trunk offers: the part of a network that turns inputs of nodes into hidden channels of nodes.

Heads (`node_head`, `graph_head`) turn hidden channels into logits; which head a network gets is the task's choice.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from meshgnn.config import Config as BaseConfig
from meshgnn.nn.adjacency import Adjacency


@runtime_checkable
class Trunk(Protocol):
    """Hidden channels for every node of a graph; a torch module made by its config's `build(in_channels)`.

    Laws (`meshgnn.testing.assert_trunk`): renumbering the nodes renumbers the output; an isolated node gets a finite
    output; two graphs side by side give what each gives alone.
    """

    out_channels: int

    def __call__(self, x: Tensor, adjacency: Adjacency) -> Tensor:
        """Inputs [V, C] -> hidden channels [V, out_channels]."""
        ...

    def state_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """What a trunk's config says about the head that follows it.

    Args:
        dropout: share of hidden values dropped in training before the head's linear map.
        propagation: rounds of personalised propagation of the logits of nodes.
    """

    dropout: float
    propagation: int


@dataclass(frozen=True, kw_only=True)
class TrunkConfig(BaseConfig):
    """Base of every trunk's config. A trunk of one's own needs these two methods and nothing else."""

    def build(self, in_channels: int) -> Trunk:
        """The trunk for inputs of `in_channels` channels."""
        raise NotImplementedError

    def head(self) -> HeadSettings:
        """What the head must know."""
        return HeadSettings(dropout=0.0, propagation=0)

"""What every node network offers."""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from meshgnn.nn.adjacency import Adjacency


@runtime_checkable
class NodeNetwork(Protocol):
    """Logits for every node of a graph; a torch module made by its config's `build(in_channels, out_channels)`.

    Laws (`meshgnn.testing.assert_gnn`): renumbering the nodes renumbers the output; an isolated node gets a finite
    output; two graphs side by side give what each gives alone.
    """

    def __call__(self, x: Tensor, adjacency: Adjacency) -> Tensor:
        """Inputs [V, C] -> logits [V, K]."""
        ...

    def state_dict(self) -> dict[str, Any]: ...


class NodeNetworkConfig(Protocol):
    """The config side of the socket."""

    def build(self, in_channels: int, out_channels: int) -> NodeNetwork: ...

"""Sockets for whatever turns data into features: typed without tensors, so that both wings can hold on to them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from meshgnn.graph import FeatureTable, MeshGraph


@runtime_checkable
class Encoder(Protocol):
    """Turns a batch of inputs into features; a torch module in practice.

    Laws (`meshgnn.testing.assert_encoder`): output [B, out_channels] and finite; the same twice in eval mode; a row
    does not depend on what else is in the batch.
    """

    level: Literal["node", "graph"]
    out_channels: int

    def identity(self) -> Mapping[str, Any]:
        """Config and weights hash, kept with every table the encoder computes."""
        ...

    def __call__(self, inputs: Any) -> Any:
        """Inputs [B, ...] -> features [B, out_channels]."""
        ...


@runtime_checkable
class PatchSource(Protocol):
    """Gives the encoder its inputs, one item per node (or graph)."""

    def __len__(self) -> int: ...

    def read(self, items: Sequence[int]) -> npt.NDArray[np.generic]:
        """Inputs [B, ...] of these items."""
        ...


@runtime_checkable
class TableMaker(Protocol):
    """Computes a feature table of a brain: geometry, a table on disk, or an encoder run over a patch source."""

    def make(self, graph: MeshGraph) -> FeatureTable:
        """One row per node of `graph`."""
        ...

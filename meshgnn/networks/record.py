"""A network: nodes by name, and layers of weights between them. N nodes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from meshgnn.errors import InputError
from meshgnn.mesh.record import frozen

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One kind of edges.

    Args:
        weights: [N, N] symmetric; NaN where there is no edge, and on the diagonal. 0 is an edge of weight 0.
        unit: of the weights ("nat", "mm"), "" if none.
        text: what a weight is, in a sentence.
        pairs: further numbers per pair, [N, N] each: p, q, n, ...
        estimators: [N, N] names of how a weight was estimated; () if all are alike.
    """

    weights: Floats
    unit: str = ""
    text: str = ""
    pairs: Mapping[str, Floats] = field(default_factory=dict)
    estimators: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        shape = np.shape(self.weights)
        for name, values in {"weights": self.weights, **self.pairs}.items():
            values = np.asarray(values, np.float64)
            if values.ndim != 2 or values.shape != shape or shape[0] != shape[1]:
                raise InputError(f"layer: {name} must be [N, N], got {values.shape}")
            if not np.array_equal(values, values.T, equal_nan=True):
                raise InputError(f"layer: {name} must be symmetric")
            if np.isinf(values).any():
                raise InputError(f"layer: {int(np.isinf(values).sum() // 2)} infinite {name}")
        weights = np.array(self.weights, np.float64)
        np.fill_diagonal(weights, np.nan)
        object.__setattr__(self, "weights", frozen(weights, np.float64))
        pairs = {name: frozen(values, np.float64) for name, values in self.pairs.items()}
        object.__setattr__(self, "pairs", MappingProxyType(pairs))

    def edges(self) -> NDArray[np.int64]:
        """[2, E] every edge once, the smaller node first, sorted."""
        return np.stack(np.nonzero(np.triu(np.isfinite(self.weights), 1))).astype(np.int64)

    def kept(self, which: NDArray[np.bool_]) -> "Layer":
        """The layer with the edges alone where `which` [N, N] is True."""
        return replace(self, weights=np.where(which & which.T, self.weights, np.nan))

    def parts(self) -> NDArray[np.int64]:
        """[N] number of the connected component of every node, by edges of weight above 0."""
        linked = sparse.csr_array(np.nan_to_num(self.weights) > 0)
        return csgraph.connected_components(linked, directed=False)[1].astype(np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """Nodes, what is known of them, and layers of edges between them.

    Args:
        name: of the network.
        nodes: N names, each once; any text.
        domains: N groups that are known beforehand; "" for none.
        layers: by name.
        values: numbers per node by name, [N], NaN where there is none.
        texts: N texts by name.

    Raises:
        InputError: fewer than two nodes, a name twice, or sizes that do not fit.
    """

    name: str
    nodes: tuple[str, ...]
    layers: Mapping[str, Layer]
    domains: tuple[str, ...] = ()
    values: Mapping[str, Floats] = field(default_factory=dict)
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.nodes)
        if count < 2:
            only = f": {self.nodes[0]}" if count else ""
            raise InputError(f"{self.name}: a network needs two nodes or more, and there is {count or 'none'}{only}")
        twice = sorted({name for name in self.nodes if self.nodes.count(name) > 1})
        if twice:
            raise InputError(f"{self.name}: {len(twice)} names stand twice, the first is {twice[0]!r}")
        object.__setattr__(self, "domains", tuple(self.domains) or ("",) * count)
        sizes = {name: len(held) for name, held in self.values.items()}
        sizes |= {name: len(held) for name, held in self.texts.items()} | {"domains": len(self.domains)}
        for what, size in sizes.items():
            if size != count:
                raise InputError(f"{self.name}: {size} of {what} for {count} nodes")
        for what, layer in self.layers.items():
            if len(layer.weights) != count:
                raise InputError(f"{self.name}: layer {what!r} has {len(layer.weights)} nodes, not {count}")
        values = {name: frozen(held, np.float64) for name, held in self.values.items()}
        object.__setattr__(self, "values", MappingProxyType(values))
        object.__setattr__(self, "layers", MappingProxyType(dict(self.layers)))
        object.__setattr__(self, "texts", MappingProxyType(dict(self.texts)))

    def __len__(self) -> int:
        return len(self.nodes)

    def layer(self, name: str) -> Layer:
        """Raises InputError when there is none of that name."""
        if name not in self.layers:
            raise InputError(f"{self.name}: there is no layer {name!r}; there are {', '.join(self.layers) or 'none'}")
        return self.layers[name]

    def with_values(self, **values: Any) -> "Network":
        """The network with further numbers per node."""
        return replace(self, values={**self.values, **values})

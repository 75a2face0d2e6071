"""Any convolution of PyTorch Geometric as the layer of our residual network.

    --set model=PyGConv --set model.layer=GATv2Conv --set 'model.arguments={"heads": 4, "concat": false}'

What may stand there is found by looking at `torch_geometric.nn`, never by importing what a user or a file names. A
layer that sums over neighbours by a sparse matrix product gets the adjacency as torch.sparse CSR, others an edge_index.
The library takes seconds to import and is imported when the first layer is checked or built.
"""

import inspect
import json
import math
import sys
import tempfile
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from meshgnn.errors import SettingError
from meshgnn.nn.adjacency import Adjacency
from meshgnn.nn.residual import ResidualConfig, ResidualTrunk

# Inputs of the small network that these layers want as `nn`, as multiples of H. GIN: Xu et al. 2019, eq. 4.1.
_WITH_NETWORK = {"GINConv": 1, "EdgeConv": 2}
_DEFAULTS: dict[str, dict[str, Any]] = {"ChebConv": {"K": 3}}  # order of the polynomial, which has no default there
_FORBIDDEN = {
    "in_channels": "follows from <hidden>",
    "nn": "is made here",
    "cached": "would keep the first graph for all others",
}
_MOST = 1024  # for any number of heads, stacks, terms: more would only fill memory


class PyGConv(ResidualTrunk):
    """Residual trunk of a PyTorch Geometric convolution."""

    @dataclass(frozen=True, kw_only=True)
    class Config(ResidualConfig):
        """
        Args:
            layer: name of a convolution in torch_geometric.nn, called as (x, edge_index): GATConv, GATv2Conv, GINConv,
                ChebConv, SAGEConv, TransformerConv, GCNConv, ...
            arguments: further arguments of its constructor as a JSON object. Channels out must come to `hidden`: with
                several heads, {"heads": 4, "concat": false} or {"heads": 4, "out_channels": 16}.
        """

        layer: str = "GATv2Conv"
        arguments: str = "{}"

        def __post_init__(self) -> None:
            super().__post_init__()
            # The default is right, and the library takes seconds to import.
            if (self.layer, self.arguments) != ("GATv2Conv", "{}"):
                checked(self.layer, self.arguments, self.hidden, self.layers)

        def build(self, in_channels: int) -> "PyGConv":
            csr = checked(self.layer, self.arguments, self.hidden, self.layers)
            layer = partial(PyGLayer, name=self.layer, arguments=self.arguments, csr=csr)
            return PyGConv(self, in_channels, layer)


class PyGLayer(nn.Module):
    """One convolution, H -> H.

    Args:
        hidden: channels H.
        name, arguments: see `PyGConv.Config`.
        csr: whether it gets the adjacency as torch.sparse CSR.
    """

    def __init__(self, hidden: int, name: str, arguments: str = "{}", *, csr: bool = False) -> None:
        super().__init__()
        self.csr = csr
        given = {**_DEFAULTS.get(name, {}), **parsed(arguments)}
        kind = convolutions()[name]
        if name in _WITH_NETWORK:
            width = _WITH_NETWORK[name] * hidden
            network = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
            self.conv = kind(network, **given)
        else:
            self.conv = kind(**{"in_channels": hidden, "out_channels": hidden, **given})
        _drop_templates(self.conv)

    def forward(self, h: Tensor, adjacency: Adjacency) -> Tensor:
        """[V, H] -> [V, H]."""
        return self.conv(h, adjacency.csr if self.csr else adjacency.edge_index)


@lru_cache(maxsize=1)
def convolutions() -> dict[str, Any]:
    """The layers that may be named.

    They are exported by torch_geometric.nn, pass messages, are made of (in_channels, out_channels) or of a small
    network, and are called as (x, edge_index) with nothing else needed.
    """
    import torch_geometric.nn as library

    found = {}
    for name in sorted(dir(library)):
        kind: Any = getattr(library, name)
        passes = isinstance(kind, type) and issubclass(kind, library.MessagePassing)
        if not passes:
            continue
        made = _arguments(kind)
        called = list(inspect.signature(kind.forward).parameters.values())[1:]
        takes = [one.name for one in called[:2]] == ["x", "edge_index"]
        alone = all(one.default is not inspect.Parameter.empty for one in called[2:])
        names = [one.name for one in made]
        plain = names[:2] == ["in_channels", "out_channels"] and "nn" not in names
        if takes and alone and (plain or name in _WITH_NETWORK):
            found[name] = kind
    return found


@lru_cache(maxsize=64)
def checked(layer: str, arguments: str, hidden: int, layers: int) -> bool:
    """Try a layer on a graph of five nodes; returns whether it takes the adjacency as torch.sparse CSR.

    Raises:
        SettingError: there is no such layer, its arguments are wrong, or it does not map [V, H] to [V, H].
    """
    given = parsed(arguments)
    if layer not in convolutions():
        raise SettingError(
            f"<layer>: {layer!r} is not a convolution of torch_geometric.nn that is called as (x, edge_index); "
            f"there are {', '.join(name for name in convolutions() if not _needs(name))}"
        )
    missing = [name for name in _needs(layer) if name not in given]
    if missing:
        raise SettingError(f'<arguments>: {layer} needs {", ".join(missing)} as well: {{"{missing[0]}": ...}}')
    try:
        with torch.random.fork_rng(devices=[]):
            with torch.device("meta"):  # sizes without memory
                size = sum(value.numel() for value in PyGLayer(hidden, layer, arguments).parameters())
            if size * max(layers, 1) > 1 << 28:
                raise SettingError(f"<arguments>: {layers} layers of {size} weights are too large (2^28 at most)")
            # What torch has to say of sparse matrices, it says once a process: here, where nobody is bothered.
            with torch.device("cpu"), warnings.catch_warnings(action="ignore"):
                return _tried(PyGLayer(hidden, layer, arguments), hidden)
    except SettingError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200].replace("<", "").replace(">", "")
        raise SettingError(f"<arguments>: {layer} with {arguments[:200]} does not work here: {reason}") from None


def _arguments(kind: Any) -> list[inspect.Parameter]:
    """Of a class's constructor, without `self`."""
    return list(inspect.signature(kind.__init__).parameters.values())[1:]


def _needs(layer: str) -> list[str]:
    """Arguments of a layer's constructor that have no default, there or here."""
    made = _arguments(convolutions()[layer])
    given = {"in_channels", "out_channels", "nn", *_DEFAULTS.get(layer, {})}
    named = [one for one in made if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    return [one.name for one in named if one.default is one.empty and one.name not in given]


def parsed(arguments: str) -> dict[str, Any]:
    """The constructor's arguments from their JSON text.

    Raises:
        SettingError: it is not a JSON object of small values, or names what cannot be set.
    """
    try:
        given = json.loads(arguments) if len(arguments) <= 2000 else None
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict) or not _small(given):
        raise SettingError(f'<arguments> must be a JSON object such as {{"heads": 2}}, numbers up to {_MOST}')
    for name in given:
        if name in _FORBIDDEN:
            raise SettingError(f"<arguments>: {name!r} {_FORBIDDEN[name]}")
    return given


def _small(value: Any) -> bool:
    if isinstance(value, dict | list):
        return len(value) <= 64 and all(map(_small, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int | float) or (math.isfinite(value) and abs(value) <= _MOST)


def _tried(made: PyGLayer, hidden: int) -> bool:
    """Whether a layer takes CSR. It is asked to where it sums by a sparse matrix product (`fuse`)."""
    pairs = [[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]]  # a path, and a node without neighbours
    adjacency = Adjacency(5, torch.tensor(pairs).numpy())
    x = torch.linspace(-1, 1, 5 * hidden).reshape(5, hidden).requires_grad_()
    made.eval()
    wanted = made(x, adjacency)
    if not isinstance(wanted, Tensor) or wanted.shape != x.shape:
        shape = tuple(wanted.shape) if isinstance(wanted, Tensor) else type(wanted).__name__
        raise SettingError(
            f"<layer> gives {shape} for {tuple(x.shape)}; its channels out must come to <hidden>: "
            'set "concat": false, or "out_channels" to <hidden> divided by the number of heads'
        )
    if not torch.isfinite(wanted).all():
        raise SettingError("<layer> gives values that are not finite")
    wanted.sum().backward()
    if not getattr(made.conv, "fuse", False):
        return False
    made.csr = True
    try:
        found = made(x, adjacency)
        found.sum().backward()
    except Exception:  # each layer has errors of its own for what it does not take
        return False
    return torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)


def _drop_templates(conv: nn.Module) -> None:
    """Remove the source files that the library leaves in the folder for temporary files, one per layer and process.

    Where none can be written, the library does without: the same values from slower code.
    """
    for kind in {type(module) for module in conv.modules()}:
        for method in ("propagate", "edge_updater"):
            module = sys.modules.get(f"{kind.__module__}_{kind.__name__}_{method}")
            with suppress(OSError):
                if (
                    module is not None
                    and module.__file__
                    and Path(module.__file__).parent == Path(tempfile.gettempdir())
                ):
                    Path(module.__file__).unlink(missing_ok=True)

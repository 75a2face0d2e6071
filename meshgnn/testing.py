"""Laws that plug-ins must keep, as assertions. torch is imported inside, so that importing this stays light."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from meshgnn.progress import silent
from meshgnn.sockets import Brain, FeatureMaker, NodeData


def assert_encoder(encoder: Any, inputs: Any) -> None:
    """An encoder gives finite [B, out_channels], the same twice in eval mode, row by row whatever the batch.

    Args:
        encoder: a `meshgnn.sockets.Encoder` that is a torch module.
        inputs: a batch of at least two items, indexable along its first axis.
    """
    import torch

    assert encoder.level in ("node", "graph"), encoder.level
    encoder.eval()
    with torch.no_grad():
        whole = encoder(inputs)
        again = encoder(inputs)
        single = torch.cat([encoder(inputs[k : k + 1]) for k in range(len(inputs))])
    assert whole.shape == (len(inputs), encoder.out_channels), (tuple(whole.shape), encoder.out_channels)
    assert torch.isfinite(whole).all(), "features are not finite"
    assert torch.equal(whole, again), "eval mode is not deterministic"
    torch.testing.assert_close(single, whole, rtol=1e-4, atol=1e-5, msg="a row depends on its batch")
    assert encoder.identity(), "an encoder must tell its identity"


def assert_node_data(data: NodeData) -> None:
    """Items are finite, of one shape, the same twice and one by one, and only at observed nodes."""
    assert isinstance(data, NodeData)
    nodes = np.flatnonzero(data.observed)
    assert len(nodes), "no node is observed"
    assert data.groups.shape == data.observed.shape, (data.groups.shape, data.observed.shape)
    chosen = nodes[np.linspace(0, len(nodes) - 1, min(5, len(nodes))).astype(int)]
    items = data.read(chosen)
    assert items.shape == (len(chosen), *data.shape), (items.shape, data.shape)
    assert items.dtype == np.float32, items.dtype
    assert np.isfinite(items).all(), "an item is not finite"
    assert np.array_equal(items, data.read(chosen)), "reading twice gives two answers"
    single = np.concatenate([data.read(chosen[k : k + 1]) for k in range(len(chosen))])
    assert np.allclose(single, items, atol=1e-5), "an item depends on what is read with it"
    assert data.key() == data.key(), "the key changes"


def assert_feature_maker(maker: FeatureMaker, brains: Sequence[Brain], folder: Path) -> None:
    """A maker says which files it writes, and makes the same table twice, of its name, a row per node or per brain.

    Args:
        maker: to be fitted.
        brains: to learn from; tables of all of them are made.
        folder: an empty one.
    """
    assert isinstance(maker, FeatureMaker)
    for brain in brains:
        assert all(Path(path).is_file() for path in maker.inputs(brain)), "a file it reads is not there"
    folder.mkdir(parents=True, exist_ok=True)
    files = maker.fit(brains, folder, silent)
    assert all((folder / name).is_file() for name in files), f"not all of {files} were written"
    for brain in brains:
        table, again = (maker.make(brain, folder, silent) for _ in range(2))
        assert table.name == maker.name, (table.name, maker.name)
        assert len(table.values) in (1, brain.graph.n_nodes), len(table.values)
        assert table.mask.any(), "no row is known"
        assert np.array_equal(table.values, again.values), "asking twice gives two tables"
        assert np.array_equal(table.mask, again.mask), "asking twice gives two masks"


def assert_gnn(build: Callable[[int, int], Any], in_channels: int = 5, out_channels: int = 3) -> None:
    """A node network is equivariant to renumbering, bears an isolated node, and keeps graphs in a batch apart.

    Args:
        build: (in_channels, out_channels) -> network, e.g. `GraphSAGE.Config().build`.
    """
    import torch

    from meshgnn.nn.adjacency import Adjacency, side_by_side

    rng = np.random.default_rng(0)
    n_nodes = 30
    pairs = rng.integers(0, n_nodes - 1, size=(2, 60))  # the last node stays isolated
    pairs = pairs[:, pairs[0] != pairs[1]]
    edges = np.concatenate([pairs, pairs[::-1]], axis=1)
    x = torch.from_numpy(rng.normal(size=(n_nodes, in_channels)).astype(np.float32))
    torch.manual_seed(0)
    network = build(in_channels, out_channels)
    network.eval()
    with torch.no_grad():
        alone = network(x, Adjacency(n_nodes, edges))
        assert alone.shape == (n_nodes, out_channels), tuple(alone.shape)
        assert torch.isfinite(alone).all(), "an isolated node gets a value that is not finite"

        new_number = rng.permutation(n_nodes)
        old_number = np.argsort(new_number)
        renumbered = network(x[old_number], Adjacency(n_nodes, new_number[edges]))
        torch.testing.assert_close(renumbered[new_number], alone, rtol=1e-4, atol=1e-5, msg="not equivariant")

        shuffled = edges[:, rng.permutation(edges.shape[1])]
        assert torch.equal(network(x, Adjacency(n_nodes, shuffled)), alone), "edge order matters"

        other = rng.integers(0, 8, size=(2, 12))
        other = other[:, other[0] != other[1]]
        other = np.concatenate([other, other[::-1]], axis=1)
        y = torch.from_numpy(rng.normal(size=(8, in_channels)).astype(np.float32))
        both = network(torch.cat([x, y]), side_by_side([(n_nodes, edges), (8, other)]))
        apart = torch.cat([alone, network(y, Adjacency(8, other))])
        torch.testing.assert_close(both, apart, rtol=1e-4, atol=1e-5, msg="graphs in one batch touch each other")

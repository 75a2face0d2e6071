"""Laws that plug-ins must keep, as assertions. torch is imported inside, so that importing this stays light."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from meshgnn.errors import InputError
from meshgnn.progress import silent
from meshgnn.sockets import Brain, FeatureMaker, NodeData, SubjectData


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


def assert_subject_data(data: SubjectData) -> None:
    """The laws of `assert_node_data`, and a subject without an item is refused."""
    assert_node_data(data)
    absent = np.flatnonzero(~data.observed)
    if len(absent):
        try:
            data.read(absent[:1])
        except InputError:
            return
        raise AssertionError("an item is made up for a subject who has none")


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


def assert_trunk(build: Callable[[int], Any], in_channels: int = 5) -> None:
    """A trunk is equivariant to renumbering, bears an isolated node, and keeps graphs in a batch apart.

    Args:
        build: in_channels -> trunk, e.g. `GraphSAGE.Config().build`.
    """
    import torch

    torch.manual_seed(0)
    trunk = build(in_channels)
    _assert_node_law(trunk, in_channels, trunk.out_channels)


def assert_gnn(build: Callable[[int], Any], in_channels: int = 5, out_channels: int = 3) -> None:
    """The laws of `assert_trunk`, for the trunk alone and with the head of nodes behind it.

    Args:
        build: in_channels -> trunk, e.g. `GraphSAGE.Config().build`.
        out_channels: classes of the head.
    """
    import torch

    from meshgnn.nn.node_head import NodeHead
    from meshgnn.nn.socket import HeadSettings

    assert_trunk(build, in_channels)
    torch.manual_seed(0)
    trunk = build(in_channels)
    head = NodeHead(trunk.out_channels, out_channels, HeadSettings(dropout=0.2, propagation=3))
    trunk.eval()
    head.eval()

    class Network(torch.nn.Module):
        def forward(self, x: Any, adjacency: Any) -> Any:
            return head(trunk(x, adjacency), adjacency)

    _assert_node_law(Network(), in_channels, out_channels)


def _assert_node_law(network: Any, in_channels: int, out_channels: int) -> None:
    import torch

    from meshgnn.nn.adjacency import Adjacency, side_by_side

    rng = np.random.default_rng(0)
    n_nodes = 30
    edges = _random_edges(rng, n_nodes - 1, 60)  # the last node stays isolated
    x = torch.from_numpy(rng.normal(size=(n_nodes, in_channels)).astype(np.float32))
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

        other = _random_edges(rng, 8, 12)
        y = torch.from_numpy(rng.normal(size=(8, in_channels)).astype(np.float32))
        both = network(torch.cat([x, y]), side_by_side([(n_nodes, edges), (8, other)]))
        apart = torch.cat([alone, network(y, Adjacency(8, other))])
        torch.testing.assert_close(both, apart, rtol=1e-4, atol=1e-5, msg="graphs in one batch touch each other")


def _random_edges(rng: np.random.Generator, n_nodes: int, count: int) -> np.ndarray:
    """About `count` random edges [2, E] between `n_nodes` nodes, in both directions."""
    pairs = rng.integers(0, n_nodes, size=(2, count))
    pairs = pairs[:, pairs[0] != pairs[1]]
    return np.concatenate([pairs, pairs[::-1]], axis=1)


def assert_graph_head(build: Callable[[int, int, int], Any], in_channels: int = 6, out_channels: int = 3) -> None:
    """A graph head gives one row per brain that depends on neither the order of nodes, nor other brains, nor masked
    nodes; it refuses a brain whose nodes are all masked.

    Args:
        build: (in_channels, out_channels, n_units) -> head called as `head(hidden, batch)`, e.g.
            `GraphHead.Config().build`.
    """
    import torch

    from meshgnn.errors import InputError
    from meshgnn.nn.graph_batch import BrainTensors, GraphBatch

    rng = np.random.default_rng(0)
    n_units = 4
    torch.manual_seed(0)
    head = build(in_channels, out_channels, n_units)
    for parameter in head.parameters():  # a head may start from zeros; the laws hold for any weights
        torch.nn.init.normal_(parameter, std=0.5)
    head.eval()
    nothing = np.zeros((2, 0), np.int64)

    def drawn(count: int) -> dict[str, Any]:
        mask = rng.random(count) < 0.7
        mask[0] = True
        unit = rng.integers(-1, n_units - 1, size=count)  # the last unit holds no node
        unit[0] = 0
        return {"hidden": rng.normal(size=(count, in_channels)), "mask": mask, "unit": unit}

    def rows(*brains: dict[str, Any]) -> Any:
        made = [
            BrainTensors.of(one["hidden"], np.zeros((len(one["mask"]), 0)), nothing, one["mask"], one["unit"])
            for one in brains
        ]
        batch = GraphBatch.of(made, n_units)
        return head(batch.features, batch)

    first, second = drawn(20), drawn(9)
    with torch.no_grad():
        alone = rows(first)
        assert alone.shape == (1, out_channels), tuple(alone.shape)
        assert torch.isfinite(alone).all(), "outputs are not finite"

        order = rng.permutation(20)
        renumbered = rows({name: values[order] for name, values in first.items()})
        torch.testing.assert_close(renumbered, alone, rtol=1e-4, atol=1e-5, msg="the order of nodes matters")

        both = rows(first, second)
        apart = torch.cat([alone, rows(second)])
        torch.testing.assert_close(both, apart, rtol=1e-4, atol=1e-5, msg="brains in one batch touch each other")

        changed = {**first, "hidden": np.where(first["mask"][:, None], first["hidden"], 100.0)}
        torch.testing.assert_close(rows(changed), alone, rtol=1e-4, atol=1e-5, msg="a masked node matters")

        moved = {**first, "hidden": first["hidden"] + first["mask"][:, None] * rng.normal(size=(20, in_channels))}
        assert not torch.allclose(rows(moved), alone), "the nodes of a brain do not matter"
    try:
        rows(first, {**second, "mask": np.zeros(9, bool)})
    except (InputError, ValueError):
        return
    raise AssertionError("a brain whose nodes are all masked is not refused")

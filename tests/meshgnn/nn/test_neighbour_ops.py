"""Compiled sums and attention are torch's own, with gradients, under torch.compile, in half precision and forked."""

import multiprocessing

import numpy as np
import pytest
import torch

from meshgnn.errors import SettingError
from meshgnn.nn import GAT, Adjacency
from meshgnn.nn.gat import GATLayer
from meshgnn.nn.neighbour_ops import _attend_anywhere, attend, propagated, scaled_sum
from tests.synthetic import brain


def ragged(nodes: int = 60, seed: int = 0) -> Adjacency:
    """A graph whose nodes have none to many neighbours."""
    rng = np.random.default_rng(seed)
    ends = rng.integers(0, nodes - 1, (2, 150))
    ends = np.concatenate([ends, np.stack([np.zeros(20, int), np.arange(1, 21)])], axis=1)
    ends = ends[:, ends[0] != ends[1]]
    return Adjacency(nodes, np.concatenate([ends, ends[::-1]], axis=1))


def test_rows_of_any_length_are_summed() -> None:
    adjacency = ragged()
    assert {0, 5, 6, 7} <= set(adjacency.degree.int().tolist())
    dense = torch.zeros(60, 60, dtype=torch.float64)
    dense[adjacency.edge_index[1], adjacency.edge_index[0]] = 1
    left, right = torch.rand(60), torch.rand(60)
    for channels in (1, 3, 64):
        x = torch.randn(60, channels, dtype=torch.float64)
        found = scaled_sum(x, adjacency.starts, adjacency.near, left, right)
        torch.testing.assert_close(found, left.double()[:, None] * (dense @ (right.double()[:, None] * x)))


def test_operators_pass_torchs_own_checks() -> None:
    adjacency = ragged()
    left, right = torch.rand(60), torch.rand(60)
    x = torch.randn(60, 4, dtype=torch.float64, requires_grad=True)
    lists = (adjacency.starts, adjacency.near)
    torch.library.opcheck(scaled_sum, (x, *lists, left, right))
    torch.library.opcheck(propagated, (x, *lists, left, right, 0.1, 3))
    h = torch.randn(60, 2, 3, dtype=torch.float64, requires_grad=True)
    source, target = (torch.randn(60, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    torch.library.opcheck(attend, (h, source, target, *lists, adjacency.reverse, 0.2))

    def values(*inputs: torch.Tensor) -> torch.Tensor:
        return attend(*inputs, *lists, adjacency.reverse, 0.2)[0]

    assert torch.autograd.gradcheck(values, (h, source, target), fast_mode=True)


@pytest.mark.parametrize("rounds", [0, 1, 2, 5])
def test_propagation_is_round_after_round(rounds: int) -> None:
    adjacency = ragged()
    lonely = (adjacency.degree == 0)[:, None]
    assert lonely.any()
    x = torch.randn(60, 5, dtype=torch.float64, requires_grad=True)
    state = x
    for _ in range(rounds):
        state = 0.1 * x + 0.45 * (state + state.where(lonely, adjacency.mean(state)))
    weight, found = torch.randn_like(x), adjacency.propagated(x, 0.1, rounds)
    torch.testing.assert_close(found, state)
    ours, theirs = (torch.autograd.grad((one * weight).sum(), x)[0] for one in (found, state))
    torch.testing.assert_close(ours, theirs)
    in_half = adjacency.propagated(x.detach().bfloat16(), 0.1, rounds)  # goes by torch's own operators
    torch.testing.assert_close(in_half.double(), state.detach(), rtol=0.05, atol=0.05)


def test_the_path_for_other_devices_gives_the_same() -> None:
    adjacency = ragged()
    h, source, target = torch.randn(60, 4, 8), torch.randn(60, 4), torch.randn(60, 4)
    inputs = [one.requires_grad_() for one in (h, source, target)]
    out, shares = attend(*inputs, adjacency.starts, adjacency.near, adjacency.reverse, 0.2)
    wanted, theirs = _attend_anywhere(*inputs, adjacency.starts, adjacency.near, 0.2)
    torch.testing.assert_close(out, wanted)
    torch.testing.assert_close(shares, theirs)
    weight = torch.randn_like(out)
    found = torch.autograd.grad((out * weight).sum(), inputs)
    for one, other in zip(found, torch.autograd.grad((wanted * weight).sum(), inputs)):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_gat_layer_is_pygs() -> None:
    from torch_geometric.nn import GATConv

    graph = brain(2)
    ours, theirs = GATLayer(6, 8, heads=2), GATConv(6, 4, heads=2)
    theirs.lin.weight.data, theirs.bias.data = ours.linear.weight.data, ours.bias.data
    theirs.att_src.data, theirs.att_dst.data = ours.source.data[None], ours.target.data[None]
    x = torch.randn(graph.n_nodes, 6)
    edge_index = torch.from_numpy(np.asarray(graph.edges[::-1].copy(), dtype=np.int64))
    found = ours(x, Adjacency(graph.n_nodes, graph.edges))
    torch.testing.assert_close(found, theirs(x, edge_index), rtol=1e-4, atol=1e-5)


def test_attention_is_the_same_at_any_thread_count() -> None:
    graph = brain(4)
    adjacency, layer = Adjacency(graph.n_nodes, graph.edges), GATLayer(32)
    x = torch.randn(graph.n_nodes, 32)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            y = x.clone().requires_grad_()
            out, _ = attend(
                y.unflatten(1, (4, 8)), *torch.ones(2, graph.n_nodes, 4), adjacency.starts, adjacency.near,
                adjacency.reverse, 0.2,
            )  # fmt: skip
            out.square().sum().backward()
            found.append((out.detach(), y.grad))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other))
    assert layer(x, adjacency).isfinite().all()


def test_half_precision_is_summed_in_single() -> None:
    adjacency = ragged()
    x = torch.randn(60, 4)
    found = adjacency.mean(x.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, adjacency.mean(x.bfloat16().float()).bfloat16())


def test_a_forked_process_has_threads_of_its_own() -> None:
    """Of torch's own operators many cannot be used after a fork; these can, since they start threads anew."""
    graph, before = brain(4), torch.get_num_threads()
    adjacency, x = Adjacency(graph.n_nodes, graph.edges), torch.ones(graph.n_nodes, 32)
    torch.set_num_threads(2)
    try:
        here = adjacency.mean(x).numpy()
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(
            target=lambda: queue.put(bool((adjacency.mean(x).numpy() == here).all())), daemon=True
        )  # fmt: skip
        child.start()
        assert queue.get(timeout=60)
        child.join(timeout=60)
        assert child.exitcode == 0
    finally:
        torch.set_num_threads(before)


def test_heads_must_divide_the_channels() -> None:
    with pytest.raises(SettingError, match="hidden must be a multiple of heads"):
        GAT.Config(hidden=6)

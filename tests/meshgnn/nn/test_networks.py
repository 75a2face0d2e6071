"""Networks keep the laws; aggregation agrees with PyG and with gradients by finite differences."""

import numpy as np
import pytest
import torch

from meshgnn.nn import GAT, GCN, MLP, Adjacency, CoordinateEncoder, GraphSAGE, NodeModel, Trunk
from meshgnn.nn.sage import SAGELayer
from meshgnn.testing import assert_gnn
from tests.synthetic import brain


@pytest.mark.parametrize("network", [GraphSAGE, GCN, GAT, MLP])
@pytest.mark.parametrize(
    "settings", [{}, {"layers": 0}, {"propagation": 0, "hidden": 8}, {"hidden": 2, "propagation": 3}]
)
def test_every_network_keeps_the_laws(network, settings):
    if network is GAT and settings.get("hidden") == 2:
        settings = {**settings, "heads": 2}
    assert_gnn(network.Config(**settings).build)
    assert isinstance(network.Config().build(3), Trunk)


def test_the_mlp_sees_no_neighbour_and_the_others_do():
    graph = brain(2)
    x = torch.randn(graph.n_nodes, 4)
    changed = x.clone()
    changed[int(graph.edges[1, 0])] += 1
    node = int(graph.edges[0, 0])
    adjacency = Adjacency(graph.n_nodes, graph.edges)
    for network, sees in ((MLP, False), (GCN, True), (GAT, True), (GraphSAGE, True)):
        torch.manual_seed(0)
        model = NodeModel(network.Config(), CoordinateEncoder.Config(), 4, 0, 3).eval()
        none = torch.zeros(graph.n_nodes, 0)
        difference = (model(x, none, adjacency)[node] - model(changed, none, adjacency)[node]).abs().max().item()
        assert (difference > 1e-6) == sees, network


def test_aggregation_agrees_with_a_dense_matrix_and_so_does_its_gradient():
    graph = brain(1)
    adjacency = Adjacency(graph.n_nodes, graph.edges)
    dense = torch.zeros(graph.n_nodes, graph.n_nodes)
    dense[graph.edges[0], graph.edges[1]] = 1
    mean = dense / dense.sum(1, keepdim=True)
    loop = dense + torch.eye(graph.n_nodes)
    scale = loop.sum(1).rsqrt()
    normal = scale[:, None] * loop * scale
    for ours, matrix in ((adjacency.mean, mean), (adjacency.normalised_sum, normal), (adjacency.sum, dense)):
        x = torch.randn(graph.n_nodes, 5, requires_grad=True)
        y = x.detach().clone().requires_grad_()
        weight = torch.randn(graph.n_nodes, 5)
        (ours(x) * weight).sum().backward()
        ((matrix @ y) * weight).sum().backward()
        torch.testing.assert_close(ours(x), matrix @ y)
        torch.testing.assert_close(x.grad, y.grad)
    x = torch.randn(graph.n_nodes, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(adjacency.sum, (x,), fast_mode=True)
    assert torch.autograd.gradcheck(adjacency.mean, (x,), fast_mode=True)


def test_the_sage_layer_is_pygs():
    import torch_geometric.nn as pyg

    graph = brain(2)
    ours, theirs = SAGELayer(6, 5), pyg.SAGEConv(6, 5)
    theirs.lin_l.weight.data, theirs.lin_l.bias.data = ours.near.weight.data, ours.own.bias.data
    theirs.lin_r.weight.data = ours.own.weight.data
    x = torch.randn(graph.n_nodes, 6)
    edge_index = torch.from_numpy(np.asarray(graph.edges[::-1].copy(), dtype=np.int64))
    found = ours(x, Adjacency(graph.n_nodes, graph.edges))
    torch.testing.assert_close(found, theirs(x, edge_index), rtol=1e-4, atol=1e-5)


def test_aggregation_is_the_same_at_any_thread_count():
    graph = brain(4)
    adjacency = Adjacency(graph.n_nodes, graph.edges)
    x = torch.randn(graph.n_nodes, 32)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(adjacency.mean(x))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_an_adjacency_must_be_symmetric_and_in_range():
    with pytest.raises(ValueError, match="both directions"):
        Adjacency(3, np.array([[0], [1]]))
    with pytest.raises(ValueError, match="node 5"):
        Adjacency(3, np.array([[0, 5], [5, 0]]))
    empty = Adjacency(3, np.zeros((2, 0), int))
    assert empty.mean(torch.ones(3, 2)).abs().sum() == 0


def test_a_node_model_takes_coordinates_or_none():
    adjacency = Adjacency(3, np.array([[0, 1], [1, 0]]))
    for coordinates in (3, 0):
        model = NodeModel(GraphSAGE.Config(), CoordinateEncoder.Config(), 4, coordinates, 2)
        assert model(torch.randn(3, 4), torch.randn(3, coordinates), adjacency).shape == (3, 2)

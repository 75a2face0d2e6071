"""A graph in parts gives the results and the gradients of the whole graph."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from meshgnn.errors import InputError
from meshgnn.nn import GAT, GCN, MLP, Adjacency, CoordinateEncoder, GraphSAGE, NodeModel, PyGConv
from meshgnn.nn.partition import gradient_by_parts, in_parts, parts_for, parts_of, rounds_of
from meshgnn.train.augment import Augment
from meshgnn.train.loss import Loss
from meshgnn.train.node_labels import NodeLabels
from tests.synthetic import brain


def model_of(trunk) -> NodeModel:
    """In double precision, but for layers that take torch.sparse CSR."""
    torch.manual_seed(0)
    model = NodeModel(trunk, CoordinateEncoder.Config(), 5, 3, 4).eval()
    return model if getattr(trunk, "layer", "") == "GCNConv" else model.double()


TRUNKS = [
    GraphSAGE.Config(hidden=8, propagation=3),
    GCN.Config(hidden=8, propagation=0),
    GAT.Config(hidden=8, propagation=1),
    MLP.Config(hidden=8, propagation=0),
    PyGConv.Config(hidden=8, propagation=0, layer="ChebConv"),
    PyGConv.Config(hidden=8, propagation=0, layer="GCNConv"),
]


@pytest.mark.parametrize(("trunk", "rounds"), list(zip(TRUNKS, (5, 2, 3, 0, 4, 2))))
def test_rounds_are_those_of_layers_and_propagation(trunk, rounds) -> None:
    assert rounds_of(model_of(trunk), 5, 3) == rounds


@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("placed", [True, False])
def test_logits_and_gradients_are_those_of_the_whole_graph(trunk, placed: bool) -> None:
    graph = brain(4)
    model, rng = model_of(trunk), np.random.default_rng(0)
    kind = next(model.parameters()).dtype
    near = 1e-12 if kind == torch.float64 else 1e-5
    x, points = torch.randn(graph.n_nodes, 5).to(kind), torch.from_numpy(graph.vertices_mm / 10).to(kind)
    labels = torch.from_numpy(rng.integers(0, 4, graph.n_nodes))
    whole = model(x, points, Adjacency(graph.n_nodes, graph.edges))
    rounds = rounds_of(model, 5, 3)
    parts = list(parts_of(graph.n_nodes, graph.edges, 3, rounds, points.numpy() if placed else None))
    assert len(parts) == 3
    owned = torch.cat([part.nodes[: part.own] for part in parts])
    assert torch.equal(owned.sort().values, torch.arange(graph.n_nodes))
    assert all(len(part.nodes) < graph.n_nodes for part in parts) or rounds > 3
    torch.testing.assert_close(in_parts(model, x, points, parts), whole, rtol=0, atol=near)

    def losses():
        for part in parts:
            logits = model(x[part.nodes], points[part.nodes], part.adjacency)[: part.own]
            yield F.cross_entropy(logits, labels[part.nodes[: part.own]]) * part.own / graph.n_nodes

    loss = F.cross_entropy(whole, labels)
    wanted = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    model.zero_grad()
    found = gradient_by_parts(model, losses())
    torch.testing.assert_close(found, loss)
    (2 * found).backward()
    for weight, one in zip(model.parameters(), wanted):
        torch.testing.assert_close(weight.grad, torch.zeros_like(weight) if one is None else 2 * one, atol=near, rtol=0)


def test_a_training_step_in_parts_is_that_of_the_whole() -> None:
    graph = brain(4)
    rng = np.random.default_rng(1)
    labels = rng.integers(-1, 4, graph.n_nodes).astype(np.int32)
    task = NodeLabels(
        features=rng.standard_normal((graph.n_nodes, 5)).astype(np.float32),
        coordinates=(graph.vertices_mm / 50).astype(np.float32), unit_mm=50, edges=graph.edges, labels=labels,
        n_classes=4, train=(labels >= 0)[None] & (np.arange(graph.n_nodes) % 5 > 0),
        validation=(labels >= 0)[None] & (np.arange(graph.n_nodes) % 5 == 0),
    )  # fmt: skip
    trunk = GraphSAGE.Config(hidden=8, dropout=0.0, propagation=2)
    losses, gradients, scores = [], [], []
    for parts in (1, 2, 4):
        torch.manual_seed(3)
        model = task.model(trunk, CoordinateEncoder.Config())
        objective = task.objective(0, Loss()).in_parts(model, parts)
        assert len(objective.parts) == (parts if parts > 1 else 0)
        torch.manual_seed(4)
        loss = objective.loss(model, Augment.Config().build())
        loss.backward()
        losses.append(loss.detach())
        gradients.append(torch.cat([weight.grad.ravel() for weight in model.parameters()]))
        with torch.no_grad():
            scores.append(objective.validate(model.eval()))
    for k in (1, 2):
        torch.testing.assert_close(losses[k], losses[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(gradients[k], gradients[0], rtol=1e-5, atol=1e-6)
        assert scores[k]["validation_loss"] == pytest.approx(scores[0]["validation_loss"], rel=1e-5)


def test_two_brains_and_isolated_nodes_are_parted_too() -> None:
    edges = np.array([[0, 1, 3, 4], [1, 0, 4, 3]])
    for parts in (1, 2, 6, 9):
        found = list(parts_of(6, edges, parts, 2))
        assert sorted(torch.cat([part.nodes[: part.own] for part in found]).tolist()) == list(range(6))
    assert len(parts_for(model_of(TRUNKS[0]), torch.randn(6, 5), torch.randn(6, 3), edges)) == 1


def test_networks_that_see_the_whole_graph_are_refused() -> None:
    class Whole(nn.Module):
        def forward(self, features, coordinates, adjacency):
            return features - features.mean(0)

    with pytest.raises(InputError, match="cannot be computed in parts"):
        rounds_of(Whole(), 5, 0)

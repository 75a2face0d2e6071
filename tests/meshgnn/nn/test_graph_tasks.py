"""Brains of different size in one batch: pooling keeps its laws, and gradients are those of plain torch."""

import numpy as np
import pytest
import torch

from meshgnn.errors import InputError
from meshgnn.nn import GAT, GCN, MLP, CoordinateEncoder, GraphBatch, GraphHead, GraphModel, GraphSAGE
from meshgnn.nn.graph_batch import BrainTensors
from meshgnn.nn.segments import Segments
from meshgnn.testing import assert_graph_head
from tests.synthetic import brain

HEADS = [
    GraphHead.Config(units=units, pooling=pooling)
    for units in ("nodes", "areas", "hemispheres")
    for pooling in ("mean", "attention", "each")
    if (units, pooling) != ("nodes", "each")
]


@pytest.mark.parametrize("head", HEADS)
def test_every_pooling_keeps_the_laws(head):
    assert_graph_head(lambda h, t, u: head.build(h, t, 0 if head.units == "nodes" else u, dropout=0.5))


def test_the_law_finds_a_head_that_looks_at_masked_nodes():
    class Blind(torch.nn.Module):
        def forward(self, hidden, batch):
            return Segments(batch.brain, len(batch)).mean(hidden)

    with pytest.raises(AssertionError, match="masked"):
        assert_graph_head(lambda h, t, u: Blind(), out_channels=6)


def test_sums_and_softmax_over_groups_are_those_of_a_loop():
    group = torch.tensor([2, 0, -1, 2, 0, 2])
    segments = Segments(group, 4)
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    summed = segments.sum(x)
    for k in range(4):
        torch.testing.assert_close(summed[k], x[group == k].sum(0))
    assert torch.autograd.gradcheck(segments.sum, (x,))
    scores = torch.randn(6, dtype=torch.float64, requires_grad=True)
    weights = segments.softmax(scores * 300)
    for k in (0, 2):
        torch.testing.assert_close(weights[group == k], torch.softmax(scores[group == k] * 300, 0))
    assert weights[2] == 0
    assert torch.autograd.gradcheck(segments.softmax, (scores,))


def as_tensors(subdivisions, seed, whole=()):
    graph = brain(subdivisions, seed=seed)
    unit = np.where(graph.labels >= 0, graph.labels * 2 + (graph.hemisphere == "R"), -1)
    values = graph.tables["surface"].values
    return BrainTensors.of(values, graph.vertices_mm / 30, graph.edges, graph.cortex, unit, np.array(whole))


@pytest.mark.parametrize("trunk", [GraphSAGE, GCN, GAT, MLP])
@pytest.mark.parametrize("head", HEADS)
def test_a_batch_of_brains_gives_what_each_gives_alone(trunk, head):
    torch.manual_seed(0)
    model = GraphModel(trunk.Config(hidden=8), CoordinateEncoder.Config(channels=4), head, 4, 3, 2, 8).eval()
    brains = [as_tensors(1, 0), as_tensors(2, 1), as_tensors(1, 2)]
    together = model(GraphBatch.of(brains, 8))
    apart = torch.cat([model(GraphBatch.of([one], 8)) for one in brains])
    assert together.shape == (3, 2)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


def test_features_of_a_whole_brain_reach_its_own_nodes_only():
    batch = GraphBatch.of([as_tensors(1, 0, [1.0, 2.0]), as_tensors(1, 1, [3.0, 4.0])])
    joined = batch.joined
    first = batch.brain == 0
    assert joined.shape == (len(batch.features), 6)
    assert (joined[first, 4:] == torch.tensor([1.0, 2.0])).all()
    assert (joined[~first, 4:] == torch.tensor([3.0, 4.0])).all()


def test_a_brain_without_a_node_to_pool_is_refused():
    values, edges = np.zeros((3, 1)), np.zeros((2, 0), int)
    with pytest.raises(InputError, match="no node in its mask"):
        BrainTensors.of(values, np.zeros((3, 0)), edges, np.zeros(3, bool))
    with pytest.raises(InputError, match="at least one brain"):
        GraphBatch.of([])
    outside = BrainTensors.of(values, np.zeros((3, 0)), edges, np.ones(3, bool), np.full(3, -1))
    with pytest.raises(ValueError, match="no node to pool"):
        GraphHead.Config(units="areas").build(1, 1, 2)(torch.zeros(3, 1), GraphBatch.of([outside], 2))

"""Wide averages over a graph."""

import numpy as np
import pytest
from numpy.polynomial import chebyshev

from meshgnn.data.split import inner_edges
from meshgnn.train.smooth_field import LEFT_OUT, SmoothField, power_terms
from tests.synthetic import brain


@pytest.mark.parametrize("rounds", [1, 2, 7, 100, 1000])
def test_few_terms_stand_for_the_power(rounds):
    y = np.linspace(-1, 1, 501)
    terms = power_terms(rounds)
    assert np.abs(chebyshev.chebval(y, terms) - ((1 + y) / 2) ** rounds).max() < 1.1 * LEFT_OUT
    assert len(terms) <= min(rounds, 3 * np.sqrt(rounds)) + 2


def test_it_is_that_many_lazy_steps():
    graph = brain(2)
    count, edges = graph.n_nodes, inner_edges(graph)
    values = np.random.default_rng(0).normal(size=(count + 1, 3)).astype(np.float32)  # and a node without neighbours
    field = SmoothField(count + 1, edges, 30)
    walk = np.zeros((count + 1, count + 1))
    walk[edges[0], edges[1]] = 1
    lonely = walk.sum(1) == 0  # the medial wall too
    walk[lonely, lonely] = 1
    walk = 0.5 * np.eye(count + 1) + 0.5 * walk / walk.sum(1, keepdims=True)
    expected = np.linalg.matrix_power(walk, 30) @ values
    np.testing.assert_allclose(field(values), expected, atol=0.02)
    np.testing.assert_allclose(field(values)[count], values[count], atol=0.01)
    ones = np.ones((count + 1, 2), np.float32)
    np.testing.assert_allclose(field(ones), ones, atol=5e-3)


def test_a_graph_without_nodes_or_edges():
    nothing = np.zeros((2, 0), np.int32)
    assert SmoothField(0, nothing, 5)(np.zeros((0, 2), np.float32)).shape == (0, 2)
    values = np.array([[1.0], [2.0]], np.float32)
    np.testing.assert_allclose(SmoothField(2, nothing, 5)(values), values, atol=1e-2)

"""Annotations carried over the mesh: fixed points, bounds, and gain where the network is noisy."""

import numpy as np

from meshgnn.train.propagate import propagate
from tests.synthetic import brain


def test_annotations_fill_what_the_network_does_not_know():
    graph = brain()
    rng = np.random.default_rng(0)
    truth = np.eye(4, dtype=np.float32)[graph.labels]
    votes = truth + 0.8 * rng.random((graph.n_nodes, 4)).astype(np.float32)
    votes /= votes.sum(1, keepdims=True)
    given = np.where((np.floor(graph.vertices_mm[:, 1] / 6) % 3 == 0) & graph.cortex, graph.labels, -1)
    open_nodes = graph.cortex & (given < 0)
    noisy = 0.25 + 0.2 * (votes - 0.25) + 0.15 * rng.random((graph.n_nodes, 4)).astype(np.float32)

    def right(p):
        return (p.argmax(1) == graph.labels)[open_nodes].mean()

    filled = propagate(graph, noisy, given, 0.9)
    assert right(filled) > right(noisy) + 0.05
    np.testing.assert_allclose(filled[graph.cortex].sum(1), 1, atol=1e-5)
    assert (filled >= 0).all()
    assert (filled[given >= 0].argmax(1) == given[given >= 0]).mean() > 0.95
    np.testing.assert_allclose(propagate(graph, noisy, np.full(graph.n_nodes, -1), 0.0), noisy)
    np.testing.assert_allclose(filled[~graph.cortex] * noisy[~graph.cortex].sum(1, keepdims=True),
                               noisy[~graph.cortex], rtol=1e-4)  # fmt: skip

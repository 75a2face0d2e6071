"""Annotations carried over the mesh and joined with votes: fixed points, bounds, gain where the network is noisy."""

import numpy as np

from meshgnn.train.propagate import annotations_in_cortex, carried_labels, choose_weight, join
from tests.synthetic import brain


def striped(graph):
    stripes = np.floor(graph.vertices_mm[:, 1] / 6) % 3 == 0
    return np.where(stripes & graph.cortex, graph.labels, -1)


def test_carried_labels_are_distributions_that_keep_annotations():
    graph = brain()
    labels = striped(graph)
    found = carried_labels(graph, labels)
    np.testing.assert_allclose(found[graph.cortex].sum(1), 1, atol=1e-5)
    assert (found[labels >= 0].argmax(1) == labels[labels >= 0]).all()
    assert (found[graph.cortex].argmax(1) == graph.labels[graph.cortex]).mean() > 0.85
    one_side = carried_labels(graph, np.where(graph.hemisphere == "L", labels, -1))
    assert not one_side[graph.hemisphere == "R"].any()


def test_both_together_beat_each_alone():
    graph = brain()
    labels = striped(graph)
    rng = np.random.default_rng(0)
    votes = np.eye(4, dtype=np.float32)[graph.labels] + 1.6 * rng.random((graph.n_nodes, 4)).astype(np.float32)
    votes /= votes.sum(1, keepdims=True)
    between = graph.cortex & (labels < 0)

    def right(p):
        return (p.argmax(1) == graph.labels)[between].mean()

    carried = carried_labels(graph, labels)
    joined = join(carried, votes, 1.0)
    np.testing.assert_allclose(joined.sum(1), 1, atol=1e-5)
    assert right(joined) > max(right(carried), right(votes)) + 0.01
    nothing = np.zeros_like(votes)
    assert (join(nothing, votes, 1.0).argmax(1) == votes.argmax(1)).all()
    assert (join(carried, nothing, 1.0).argmax(1) == carried.argmax(1)).all()


def test_the_weight_follows_how_good_the_votes_are():
    from tests.integration.test_section_mapping import made_up

    graph, _ = made_up("one", "one")
    graph = graph.relabelled(np.where(graph.locations.section % 3 == 1, annotations_in_cortex(graph), -1), graph.areas)
    known = annotations_in_cortex(graph) >= 0
    perfect = np.eye(4, dtype=np.float32)[graph.labels[known]] * 0.97 + 0.0075
    useless = np.random.default_rng(0).dirichlet(np.ones(4), int(known.sum())).astype(np.float32)
    weight, scores = choose_weight([graph], [perfect])
    assert weight > 0
    assert scores[weight] > max(0.95, scores[0.0])
    assert choose_weight([graph], [useless])[0] <= 0.3

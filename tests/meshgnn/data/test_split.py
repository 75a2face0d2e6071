"""Splits do not leak, folds are contiguous and keep their distance."""

import numpy as np
import pytest

from meshgnn.data.split import (
    BlockSplit,
    Folds,
    HemisphereSplit,
    Split,
    check_no_leak,
    contiguous_blocks,
    shared_rows,
    validation_folds,
)
from meshgnn.errors import InputError, LeakError
from meshgnn.mesh.operators import adjacency, geodesic_distance, geodesic_graph
from meshgnn.mesh.topology import components
from tests.synthetic import brain


@pytest.mark.parametrize(
    "config", [HemisphereSplit.Config(), BlockSplit.Config(buffer_mm=8), BlockSplit.Config(axis="z")]
)
def test_no_edge_joins_the_parts_and_every_edge_lies_in_cortex(config):
    graph = brain()
    split = config.build().apply(graph)
    assert check_no_leak(split) == {"train_test_edges": 0, "shared_nodes": 0}
    assert split.train.any()
    assert split.test.any()
    assert graph.cortex[split.edges].all()
    reach = adjacency(graph.n_nodes, split.edges)
    seen = split.train.astype(np.float32)
    for _ in range(60):  # no number of hops leads from training to test nodes
        seen = np.minimum(seen + reach @ seen, 1)
    assert not seen[split.test].any()


def test_blocks_keep_the_buffer():
    graph = brain()
    split = BlockSplit.Config(buffer_mm=8, test=(1,)).build().apply(graph)
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        distance = geodesic_distance(geodesic_graph(mesh), np.flatnonzero(split.test[place]))
        assert distance[split.train[place]].min() > 8


def test_a_leak_stops_the_run():
    graph = brain()
    half = np.arange(graph.n_nodes) % 2 == 0
    with pytest.raises(LeakError, match="train_test_edges"):
        check_no_leak(Split(train=half, test=~half, asked=~half, edges=graph.edges, protocol="strict", name="bad"))


def test_validation_blocks_are_contiguous_and_folds_cover_the_training_part():
    graph = brain()
    split = HemisphereSplit.Config().build().apply(graph)
    blocks = contiguous_blocks(graph, split.train, 12, seed=3)
    assert (blocks >= 0).sum() == split.train.sum()
    sizes = np.bincount(blocks[blocks >= 0], minlength=12)
    assert sizes.min() > 0.3 * sizes.mean()
    for k in range(12):
        inside = blocks == k
        within = split.edges[:, inside[split.edges].all(0)]
        assert len(np.unique(components(graph.n_nodes, within)[inside])) == 1
    folds = validation_folds(graph, split, 3, Folds(blocks=4, buffer_mm=5), seed=3)
    assert (np.sum([fold.validation for fold in folds], axis=0) == split.train).all()
    for fold in folds:
        assert not (fold.train & fold.validation).any()
        mesh, place = graph.meshes[0], graph.slices()["L"]
        distance = geodesic_distance(geodesic_graph(mesh), np.flatnonzero(fold.validation[place]))
        assert distance[fold.train[place]].min() > 5
    again = validation_folds(graph, split, 3, Folds(blocks=4, buffer_mm=5), seed=3)
    assert all((a.validation == b.validation).all() for a, b in zip(folds, again))


def test_wrong_settings_are_told():
    graph = brain()
    with pytest.raises(InputError, match="must differ"):
        HemisphereSplit.Config(train="L", test="L").build()
    with pytest.raises(InputError, match="leaves no node"):
        BlockSplit.Config(buffer_mm=1000).build().apply(graph)
    with pytest.raises(InputError, match="0 to 4"):
        BlockSplit.Config(test=(7,)).build()
    one = graph.__class__(brain="x", meshes=graph.meshes[:1])
    with pytest.raises(InputError, match="hemisphere R is missing"):
        HemisphereSplit.Config().build().apply(one)
    with pytest.raises(InputError, match="cannot be cut"):
        contiguous_blocks(graph, np.arange(graph.n_nodes) < 3, 5, 0)


def test_fine_atlases_get_small_blocks_and_narrow_buffers():
    graph = brain()
    train = HemisphereSplit.Config().build().apply(graph).train
    how = Folds()
    assert how.blocks_for(6, 5) == 12
    assert how.blocks_for(180, 5) * 5 >= 3 * 180
    assert how.width_mm(graph, train, 600) < how.width_mm(graph, train, 60) <= 6
    assert Folds(buffer_mm=9.0).width_mm(graph, train, 600) == 9


def test_copied_features_are_counted():
    values = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    train = np.arange(20) < 10
    assert shared_rows(values, train, ~train) == 0
    values[15:] = values[:5]
    assert shared_rows(values, train, ~train) == 5
    assert shared_rows(values[:, :0], train, ~train) == 0


def test_labels_outside_cortex_lie_in_the_part_that_is_asked_about():
    graph = brain()
    split = HemisphereSplit.Config().build().apply(graph)
    np.testing.assert_array_equal(split.asked, graph.hemisphere == "R")
    np.testing.assert_array_equal(split.asked & graph.cortex, split.test)

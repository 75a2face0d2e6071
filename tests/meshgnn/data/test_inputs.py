"""Node inputs: standardised within a hemisphere, blind to labels, aligned without moving the training part."""

import numpy as np
import pytest

from meshgnn.data.derived import inconsistent_features, rim_table, scaled_rounds
from meshgnn.data.inputs import NodeInputs
from meshgnn.data.split import HemisphereSplit
from meshgnn.errors import InputError
from meshgnn.graph import FeatureTable
from meshgnn.mesh.align import Similarity
from tests.synthetic import brain


def prepared(**settings):
    graph = brain()
    split = HemisphereSplit.Config().build().apply(graph)
    return graph, split, NodeInputs.Config(**settings).build()


@pytest.mark.parametrize("scaling", ["rank", "zscore"])
def test_features_are_standardised_within_each_hemisphere(scaling):
    graph, split, maker = prepared(scaling=scaling)
    x = maker.features(graph, split.edges, maker.raw(graph, split.edges, maker.names(graph)))
    assert x.shape == (graph.n_nodes, 4 * 6)
    for place in graph.slices().values():
        inside = x[place][graph.cortex[place]]
        np.testing.assert_allclose(inside.mean(0), 0, atol=0.05)
        np.testing.assert_allclose(inside.std(0), 1, atol=0.1)
    assert (x[~graph.cortex] == 0).all()


def test_a_scanner_that_scales_and_shifts_changes_nothing():
    graph, split, maker = prepared()
    table = graph.tables["surface"]
    other = graph.with_table(
        FeatureTable(name="surface", values=table.values * 3 + 7, mask=table.mask, columns=table.columns)
    )
    names = maker.names(graph)
    a = maker.features(graph, split.edges, maker.raw(graph, split.edges, names))
    b = maker.features(other, split.edges, maker.raw(other, split.edges, names))
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_features_are_chosen_by_name():
    graph, _, maker = prepared(exclude=("junk",))
    assert maker.names(graph) == ("a", "b", "c")
    assert NodeInputs.Config(only=("c", "a")).build().names(graph) == ("a", "c")
    with pytest.raises(InputError, match="no feature 'x'; there is a, b, c, junk"):
        NodeInputs.Config(exclude=("x",)).build().names(graph)
    with pytest.raises(InputError, match="has no feature 'zzz', which the model was trained on"):
        maker.raw(graph, graph.edges, ["zzz"])


def test_masked_rows_take_their_neighbours_mean():
    graph, split, maker = prepared()
    table = graph.tables["surface"]
    mask = table.mask.copy()
    hole = np.flatnonzero(graph.cortex)[50:53]
    mask[hole] = False
    holed = graph.with_table(FeatureTable(name="surface", values=table.values, mask=mask, columns=table.columns))
    raw = maker.raw(holed, split.edges, maker.names(graph))
    assert not raw.known[hole].any()
    assert (np.abs(raw.values[hole]).sum(1) > 0).all()
    near = split.edges[1][split.edges[0] == hole[0]]
    near = near[mask[near]]
    np.testing.assert_allclose(raw.values[hole[0]], table.values[near].mean(0), rtol=1e-4)


def test_alignment_leaves_the_training_part_and_moves_the_other():
    graph, split, maker = prepared()
    frame = maker.frame(graph, split.train)
    left, right = graph.slices()["L"], graph.slices()["R"]
    mirrored = frame.coordinates_mm(graph, "mirror", split.train)
    np.testing.assert_allclose(mirrored[left], graph.vertices_mm[left])
    np.testing.assert_allclose(mirrored[right], graph.vertices_mm[left], atol=1e-4)  # the right is the left's mirror
    shifted = Similarity(rotation=np.eye(3), shift_mm=np.array([3.0, -2, 4]))
    moved = graph._replace(
        meshes=(graph.meshes[0], graph.meshes[1].with_vertices(shifted(graph.meshes[1].vertices_mm)))
    )
    rigid = frame.coordinates_mm(moved, "rigid", split.train)
    np.testing.assert_allclose(rigid[left], graph.vertices_mm[left])
    assert np.linalg.norm(rigid[right] - graph.vertices_mm[left], axis=1).mean() < 1.5


def test_another_space_needs_a_transform():
    graph, split, maker = prepared()
    frame = maker.frame(graph, split.train)
    other = graph._replace(meshes=tuple(mesh.with_vertices(mesh.vertices_mm * 1.2, "B") for mesh in graph.meshes))
    with pytest.raises(InputError, match="cannot be mixed without a transform"):
        frame.coordinates_mm(other, "mirror")
    fitted = frame.coordinates_mm(other, "similarity")[graph.slices()["L"]]
    assert np.linalg.norm(fitted - graph.meshes[0].vertices_mm, axis=1).mean() < 2


def test_a_feature_that_lost_its_relation_to_the_others_is_found():
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(4000, 3)) @ rng.normal(size=(3, 8)) + 0.5 * rng.normal(size=(4000, 8))
    first = np.arange(4000) < 2000
    assert inconsistent_features(mixed, first, ~first) == {}
    broken = mixed.copy()
    broken[first, 5] = rng.permutation(broken[first, 5])
    assert list(inconsistent_features(broken, first, ~first)) == [5]
    assert inconsistent_features(broken[:, 4:6], first, ~first) == {}


def test_the_rim_table_tells_how_far_inside_cortex_a_node_lies():
    graph = brain()
    table = rim_table(graph)
    share = table.values[:, table.columns.index("cortexShare5")]
    rim = np.unique(graph.edges[0][~graph.cortex[graph.edges[1]]])
    assert share[rim].mean() < share[graph.cortex].mean()
    assert share.max() <= 1.0001
    assert rim_table(brain(medial_wall=False)) is None
    assert scaled_rounds((5, 15), 30_000) == (15, 45)

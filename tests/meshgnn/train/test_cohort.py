"""Several brains in one task: labels, frames, baselines between sections, paired intervals."""

from dataclasses import replace

import numpy as np
import pytest

from meshgnn.confusion import macro_f1
from meshgnn.data.inputs import NodeInputs
from meshgnn.data.split import section_folds
from meshgnn.errors import InputError
from meshgnn.graph import Areas
from meshgnn.mesh.operators import geodesic_distance, geodesic_graph
from meshgnn.train.cohort import Cohort, cohort_inputs, nearest_annotation
from meshgnn.train.contours import contour_interpolation
from meshgnn.train.intervals import judged_blocks, paired_interval
from meshgnn.train.node_labels import NodeLabels
from meshgnn.train.propagate import annotations_in_cortex
from tests.synthetic import brain


def striped(seed):
    """A brain whose mapper drew on every other slab of 8 mm."""
    graph = brain(seed=0)
    slab = np.floor(graph.vertices_mm[:, 1] / 8).astype(int) % 2 == 0
    return graph.relabelled(np.where(slab & graph.cortex, graph.labels, -1), graph.areas), graph


def folds_of(*graphs, count=2):
    """Slabs along y dealt to folds: the plan of the brains that are trained on."""
    return tuple((np.floor(graph.vertices_mm[:, 1] / 16).astype(int) % count).astype(np.int32) for graph in graphs)


def no_folds(graph):
    return np.full(graph.n_nodes, -1, np.int32)


def test_models_see_drawn_labels_of_training_brains_only():
    (first, whole), (second, _) = striped(0), striped(1)
    folds = (*folds_of(first, second), no_folds(whole))
    cohort = Cohort(graphs=(first, second, whole), unseen=(False, False, True), folds=folds)
    config = NodeInputs.Config(rounds=(2,), rim=False)
    inputs, frame = cohort_inputs(cohort, config, ("a", "b", "c"), 2, (0, 1), 2.0)
    count = first.n_nodes
    assert len(inputs.labels) == 3 * count
    assert (inputs.labels[:count] == np.where(first.cortex, first.labels, -1)).all()
    assert (inputs.labels[2 * count :] == -1).all()
    assert inputs.train.shape == (4, 3 * count)
    assert (inputs.brain[inputs.edges[0]] == inputs.brain[inputs.edges[1]]).all()  # no edge joins two brains
    judged = np.stack([inputs.validation[:2].any(0), inputs.validation[2:].any(0)])
    assert (judged == inputs.known).all()  # for each seed, every labelled node is judged once
    np.testing.assert_array_equal(inputs.validation[0], inputs.known & (np.concatenate(folds) == 0))
    distance = geodesic_distance(geodesic_graph(first.meshes[0]), np.flatnonzero(inputs.validation[0][: count // 2]))
    assert not inputs.train[0][: count // 2][distance <= 2.0].any()
    assert frame.hemisphere == "L"
    task = NodeLabels.of(inputs)
    assert len(task.labels) == 2 * count


def test_the_fold_plan_keeps_runs_of_sections_together():
    from tests.integration.test_section_mapping import made_up

    graph, _ = made_up("one", "one")
    section = graph.locations.section
    drawn_on = list(range(0, 15, 2))
    fold = section_folds(graph, drawn_on, 2)
    assert set(np.unique(fold)) == {0, 1}
    assert all(len(np.unique(fold[section == n])) == 1 for n in np.unique(section))
    own = [int(fold[section == n][0]) for n in drawn_on if (section == n).any()]
    assert own[0] == own[1]  # neighbours stay together
    np.testing.assert_array_equal(section_folds(graph, drawn_on, 2, shift=1), 1 - fold)
    with pytest.raises(InputError, match="cannot be cut into 9 folds"):
        section_folds(graph, drawn_on, 9)


def test_a_moved_brain_comes_back_into_the_frame():
    (first, _), (second, _) = striped(0), striped(0)
    turn = np.array([[np.cos(0.2), -np.sin(0.2), 0], [np.sin(0.2), np.cos(0.2), 0], [0, 0, 1]])
    moved = replace_meshes(second, lambda points: 1.1 * points @ turn.T + [5, -8, 3])
    cohort = Cohort(graphs=(first, moved), unseen=(False, True), folds=(*folds_of(first), no_folds(moved)))
    _, points = cohort.aligned(NodeInputs.Config())
    left = first.hemisphere == "L"
    np.testing.assert_allclose(points[0][left], first.vertices_mm[left], atol=1e-4)
    np.testing.assert_allclose(points[0][~left][:, 0], -first.vertices_mm[~left][:, 0], atol=1e-4)
    for side in (left, ~left):  # spheres have no preferred rotation: centre and size are what can be told
        assert np.linalg.norm(points[1][side].mean(0) - points[0][side].mean(0)) < 1.0
        assert abs(points[1][side].std() / points[0][side].std() - 1) < 0.02


def replace_meshes(graph, move):
    meshes = tuple(mesh.with_vertices(move(mesh.vertices_mm).astype(np.float32)) for mesh in graph.meshes)
    return graph._replace(meshes=meshes, surfaces={})


def test_nearest_annotation_is_geodesic():
    graph, _ = striped(0)
    labels = annotations_in_cortex(graph)
    votes, away = nearest_annotation(graph, labels)
    known = labels >= 0
    assert (votes[known].argmax(1) == graph.labels[known]).all()
    assert (away[known] == 0).all()
    mesh, place = graph.meshes[0], graph.slices()["L"]
    expected = geodesic_distance(geodesic_graph(mesh), np.flatnonzero(known[place]))
    np.testing.assert_allclose(away[place], expected, rtol=1e-5)
    votes, away = nearest_annotation(graph, np.where(graph.hemisphere == "L", labels, -1))
    right = graph.hemisphere == "R"
    assert not votes[right].any()
    assert np.isinf(away[right]).all()


def test_contours_are_interpolated_between_what_was_drawn():
    """Two cones: an area's border moves evenly from one section to the next."""
    grid = np.stack(np.meshgrid(np.arange(-20, 20.5, 0.5), [0.0, 10.0], np.arange(-20, 20.5, 0.5)), -1).reshape(-1, 3)
    border = np.where(grid[:, 1] == 0, -8.0, 8.0)
    classes, sections = (grid[:, 0] > border).astype(np.int32), grid[:, 1].astype(int)
    nodes = np.array([[x, y, 0.3] for y in (0, 2.5, 5, 7.5, 10) for x in np.arange(-15, 15.5, 0.7)])
    votes = contour_interpolation(nodes, grid, classes, sections, np.array([0, 1.0, 0]), 2)
    np.testing.assert_allclose(votes.sum(1), 1, atol=1e-5)
    expected = nodes[:, 0] > -8 + 1.6 * nodes[:, 1]
    assert (votes.argmax(1) == expected).mean() > 0.97
    beyond = contour_interpolation(nodes + np.array([0, 30, 0]), grid, classes, sections, np.array([0, 1.0, 0]), 2)
    assert (beyond.argmax(1) == (nodes[:, 0] > 8)).mean() > 0.97
    nothing = contour_interpolation(nodes, grid[:0], classes[:0], sections[:0], np.array([0, 1.0, 0]), 2)
    assert not nothing.any()


def noisy_maps():
    graph = brain()
    rng = np.random.default_rng(0)
    truth = np.eye(len(graph.areas), dtype=np.float32)[graph.labels]
    return graph, truth + 0.55 * rng.normal(size=truth.shape), truth + 0.9 * rng.normal(size=truth.shape)


def test_paired_interval_tells_better_from_equal():
    graph, good, bad = noisy_maps()
    judged = [graph.cortex]
    places = judged_blocks([graph], judged, blocks=20)
    better = paired_interval([graph], judged, [[good]], [[bad]], places=places, draws=300)
    assert (better.over, better.replicates) == ("blocks", 20)
    assert 0 < better.low < better.difference < better.high
    same = paired_interval([graph, graph], judged * 2, [[good, good]], [[good, good]], draws=50)
    assert (same.low, same.difference, same.high) == (0, 0, 0)
    assert paired_interval([graph], judged, [[bad]], [[good]], places=places, draws=300).high < 0


def test_intervals_compare_means_of_seeds_and_go_over_brains_where_there_are_several():
    graph, good, bad = noisy_maps()
    judged = [graph.cortex] * 3

    def f1(votes):
        return macro_f1(graph.labels[graph.cortex], votes[graph.cortex].argmax(1), len(graph.areas))

    two = paired_interval([graph], judged[:1], [[good], [bad]], [[bad]], draws=20)
    assert two.difference == pytest.approx((f1(good) + f1(bad)) / 2 - f1(bad))
    three = paired_interval([graph] * 3, judged, [[good, bad, good]], [[bad, bad, bad]], draws=20)
    each = np.array([f1(good) - f1(bad), 0, f1(good) - f1(bad)])
    assert (three.over, three.replicates) == ("brains", 3)
    assert three.difference == pytest.approx(each.mean())
    half = 4.302652729911275 * each.std(ddof=1) / np.sqrt(3)  # Student's t, 2 degrees of freedom
    assert three.high - three.difference == pytest.approx(half)


def test_wrong_cohorts_are_told():
    graph = brain()
    with pytest.raises(InputError, match="no brain to train on"):
        Cohort(graphs=(graph,), unseen=(True,), folds=(no_folds(graph),))
    renamed = graph.relabelled(graph.labels, replace(graph.areas, names=("p", "q", "r", "s")))
    with pytest.raises(InputError, match="one list of areas"):
        Cohort(graphs=(graph, renamed), unseen=(False, True), folds=(no_folds(graph), no_folds(graph)))
    bare = graph.relabelled(np.full(graph.n_nodes, -1), Areas(names=graph.areas.names))
    with pytest.raises(InputError, match="no annotated node"):
        cohort_inputs(
            Cohort(graphs=(bare,), unseen=(False,), folds=folds_of(bare)), NodeInputs.Config(rounds=(2,)), ("a",), 2,
            (0,), 2.0,
        )  # fmt: skip

"""Several brains in one task: labels, frames, baselines between sections, paired intervals."""

from dataclasses import replace

import numpy as np
import pytest

from meshgnn.data.inputs import NodeInputs
from meshgnn.data.split import Folds
from meshgnn.errors import InputError
from meshgnn.graph import Areas
from meshgnn.mesh.operators import geodesic_distance, geodesic_graph
from meshgnn.train.cohort import (
    Cohort,
    baseline_inputs,
    nearest_annotation,
    prior_map,
    shared_sections,
    training_task,
)
from meshgnn.train.intervals import paired_interval
from meshgnn.train.propagate import drawn
from tests.synthetic import brain


def striped(seed):
    """A brain whose mapper drew on every other slab of 8 mm."""
    graph = brain(seed=0)
    slab = np.floor(graph.vertices_mm[:, 1] / 8).astype(int) % 2 == 0
    return graph.relabelled(np.where(slab & graph.cortex, graph.labels, -1), graph.areas), graph


def test_training_sees_drawn_labels_of_training_brains_only():
    (first, whole), (second, _) = striped(0), striped(1)
    cohort = Cohort(graphs=(first, second, whole), unseen=(False, False, True))
    inputs = NodeInputs.Config(rounds=(2,), rim=False)
    task, frame = training_task(cohort, inputs, ("a", "b", "c"), 2, Folds(blocks=3, buffer_mm=2), (0, 1))
    assert len(task.labels) == first.n_nodes + second.n_nodes
    assert (task.labels[: first.n_nodes] == np.where(first.cortex, first.labels, -1)).all()
    assert task.train.shape == (4, len(task.labels))
    assert not (task.train & task.validation).any()
    assert (task.labels[task.train.any(0) | task.validation.any(0)] >= 0).all()
    owner = np.arange(len(task.labels)) >= first.n_nodes
    assert (owner[task.edges[0]] == owner[task.edges[1]]).all()  # no edge joins two brains
    judged = np.stack([task.validation[:2].any(0), task.validation[2:].any(0)])
    assert (judged == (task.labels >= 0)).all()  # for each seed, every labelled node is judged once
    fixed = baseline_inputs(cohort, inputs, ("a", "b", "c"))
    assert len(fixed.labels) == 3 * first.n_nodes
    assert not fixed.train[2 * first.n_nodes :].any()
    assert frame.hemisphere == "L"


def test_a_moved_brain_comes_back_into_the_frame():
    (first, _), (second, _) = striped(0), striped(0)
    turn = np.array([[np.cos(0.2), -np.sin(0.2), 0], [np.sin(0.2), np.cos(0.2), 0], [0, 0, 1]])
    moved = replace_meshes(second, lambda points: 1.1 * points @ turn.T + [5, -8, 3])
    cohort = Cohort(graphs=(first, moved), unseen=(False, True))
    points = cohort.coordinates_mm(cohort.frame(NodeInputs.Config()))
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
    labels = drawn(graph)
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


def test_prior_map_is_a_distribution_of_training_labels():
    (first, whole), _ = striped(0), None
    cohort = Cohort(graphs=(first, whole), unseen=(False, True))
    votes = prior_map(baseline_inputs(cohort, NodeInputs.Config(rounds=(2,), rim=False), ("a", "b")))
    np.testing.assert_allclose(votes.sum(1), 1, atol=1e-5)
    truth = np.concatenate([whole.labels, whole.labels])
    inside = truth >= 0
    assert (votes.argmax(1) == truth)[inside].mean() > 0.7


def test_paired_interval_tells_better_from_equal():
    graph = brain()
    rng = np.random.default_rng(0)
    truth = np.eye(len(graph.areas), dtype=np.float32)[graph.labels]
    good = truth + 0.55 * rng.normal(size=truth.shape)
    bad = truth + 0.9 * rng.normal(size=truth.shape)
    judged = graph.cortex
    better = paired_interval([graph], [judged], [good], [bad], blocks=20, draws=300)
    assert 0 < better.low < better.difference < better.high
    same = paired_interval([graph, graph], [judged, judged], [good, good], [good, good], blocks=20, draws=50)
    assert (same.low, same.difference, same.high) == (0, 0, 0)
    other = paired_interval([graph], [judged], [bad], [good], blocks=20, draws=300)
    assert other.high < 0


def test_wrong_cohorts_are_told():
    graph = brain()
    with pytest.raises(InputError, match="no brain to train on"):
        Cohort(graphs=(graph,), unseen=(True,))
    renamed = graph.relabelled(graph.labels, replace(graph.areas, names=("p", "q", "r", "s")))
    with pytest.raises(InputError, match="one list of areas"):
        Cohort(graphs=(graph, renamed), unseen=(False, True))
    bare = graph.relabelled(np.full(graph.n_nodes, -1), Areas(names=graph.areas.names))
    with pytest.raises(InputError, match="no annotated node"):
        training_task(
            Cohort(graphs=(bare,), unseen=(False,)), NodeInputs.Config(rounds=(2,)), ("a",), 2, Folds(blocks=2), (0,)
        )
    assert shared_sections({"a/1": "x", "a/2": "y"}, {"b/1": "y", "b/7": "z"}) == 1

"""Scores against hand-computed cases."""

import numpy as np
import pytest

from meshgnn.graph import Areas, MeshGraph
from meshgnn.train import metrics
from tests.synthetic import brain, sphere


def test_macro_f1_by_hand():
    true = np.array([0, 0, 1, 1, 2])
    called = np.array([0, 1, 1, 1, 3])
    # class 0: p 1, r 1/2 -> 2/3; class 1: p 2/3, r 1 -> 4/5; class 2: 0; class 3 is not in the truth
    assert metrics.macro_f1(true, called, 4) == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)
    assert np.isnan(metrics.per_class_f1(metrics.confusion_matrix(true, called, 4))[3])


def test_macro_f1_is_sklearns():
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    true, called = rng.integers(0, 5, 400), rng.integers(0, 6, 400)
    expected = f1_score(true, called, labels=np.unique(true), average="macro", zero_division=0)
    assert metrics.macro_f1(true, called, 6) == pytest.approx(expected)


def test_calibration_error_by_hand():
    sure = np.array([[1.0, 0], [1.0, 0], [0, 1.0], [0, 1.0]])
    assert metrics.expected_calibration_error(np.array([0, 0, 1, 1]), sure) == 0
    assert metrics.expected_calibration_error(np.array([1, 0, 1, 0]), sure) == pytest.approx(0.5)
    half = np.full((4, 2), 0.5)
    assert metrics.expected_calibration_error(np.array([0, 0, 1, 1]), half) == pytest.approx(0)


def ball_with_border_at(z_mm: float) -> MeshGraph:
    mesh = sphere(4, radius_mm=30)
    labels = (mesh.vertices_mm[:, 2] > z_mm).astype(int)
    return MeshGraph(brain="b", meshes=(mesh,), labels=labels, areas=Areas(names=("low", "high")))


def test_boundary_error_of_a_shifted_border_is_the_shift():
    truth = ball_with_border_at(0.0)
    judged = np.ones(truth.n_nodes, bool)
    assert metrics.boundary_error_mm(truth, judged, truth.labels) == 0
    shifted = ball_with_border_at(30 * np.sin(6 / 30)).labels  # 6 mm along the sphere
    assert metrics.boundary_error_mm(truth, judged, shifted) == pytest.approx(6, abs=0.8)
    assert np.isnan(metrics.boundary_error_mm(truth, judged, np.zeros(truth.n_nodes, int)))


def test_scores_count_labelled_nodes_only():
    graph = brain(2)
    perfect = np.eye(len(graph.areas), dtype=np.float32)[graph.labels]
    scores = metrics.score(graph, graph.cortex, perfect)
    assert scores.macro_f1 == scores.accuracy == scores.balanced_accuracy == 1
    assert scores.nodes == int((graph.labels >= 0).sum())
    assert np.sum(scores.confusion) == scores.nodes


def test_means_over_seeds():
    rows = [{"macro_f1": 0.4, "ece": 0.1}, {"macro_f1": 0.6, "ece": float("nan")}]
    told = metrics.mean_scores(rows)
    assert told["macro_f1"] == pytest.approx(0.5)
    assert told["macro_f1_sd"] == pytest.approx(np.std([0.4, 0.6], ddof=1))
    assert told["ece"] == pytest.approx(0.1)


def test_what_a_score_leaves_out_counts_as_errors_in_the_second_figure():
    graph = brain()
    perfect = np.eye(4, dtype=np.float32)[graph.labels]
    judged = graph.cortex.copy()
    unmatched = np.flatnonzero(judged & (graph.labels == 1))[:7]
    judged[unmatched] = False
    left_out = metrics.LeftOut(unmatched=np.isin(np.arange(graph.n_nodes), unmatched), missed=np.array([3.0, 0, 0, 0]))
    found = metrics.score(graph, judged, perfect, left_out)
    assert found.macro_f1 == 1
    count = np.bincount(graph.labels[judged], minlength=4)
    by_hand = [2 * count[0] / (2 * count[0] + 3), 2 * count[1] / (2 * count[1] + 7), 1, 1]
    assert found.macro_f1_all_cortex == pytest.approx(np.mean(by_hand))
    assert left_out.plain() == {"unmatched_nodes": 7, "missed_nodes": 3.0}

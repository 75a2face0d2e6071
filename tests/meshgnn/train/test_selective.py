"""Risk against coverage, and conformal sets of areas."""

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.export.area_map import in_set
from meshgnn.train.selective import as_large, aurc, least_probability, risk_coverage


def test_curve_by_hand_and_ties_have_no_order() -> None:
    wrong = np.array([True, False, False, True])
    np.testing.assert_allclose(risk_coverage(wrong, np.array([0.1, 0.9, 0.8, 0.7])), [0, 0, 1 / 3, 1 / 2])
    np.testing.assert_allclose(risk_coverage(wrong, np.ones(4)), [0.5] * 4)
    area, excess = aurc(wrong, np.array([0.1, 0.9, 0.8, 0.7]))
    assert area == pytest.approx(5 / 24)
    assert excess == pytest.approx(0)
    assert aurc(wrong, np.array([0.9, 0.1, 0.2, 0.3]))[1] > 0.3


def test_no_node_and_a_confidence_that_is_no_number_are_named() -> None:
    for wrong, confidence in ((np.zeros(0, bool), np.zeros(0)), (np.zeros(2, bool), np.array([0.5, np.nan]))):
        with pytest.raises(InputError, match="at least one node"):
            risk_coverage(wrong, confidence)


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities [N, 6] of nodes and labels drawn by them."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(6, 0.4), count)
    return p, (p.cumsum(1) > rng.random((count, 1))).argmax(1)


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_sets_hold_the_true_area_of_further_nodes_at_the_stated_rate(coverage: float) -> None:
    least = least_probability(*drawn(4000, 1), coverage)
    assert least is not None
    p, labels = drawn(20000, 2)
    inside = in_set(p, least)
    assert inside[np.arange(len(p)), labels].mean() == pytest.approx(coverage, abs=0.015)
    assert inside.any(1).all()
    assert 1 < inside.sum(1).mean() < 6


def test_the_rank_of_the_threshold_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]])
    labels = np.zeros(4, int)
    assert least_probability(p, labels, 0.6) == 0.3  # two of five places may lie below
    assert least_probability(p, labels, 0.8) == 0.2
    assert least_probability(p, labels, 0.95) is None  # four nodes are too few
    assert least_probability(p[:0], labels[:0]) is None


def test_probabilities_that_are_no_numbers_or_do_not_fit_are_named() -> None:
    for p, labels in ((np.full((3, 2), np.nan), np.zeros(3, int)), (np.ones((3, 2)), np.zeros(2, int))):
        with pytest.raises(InputError, match="finite probabilities"):
            least_probability(p, labels)
    with pytest.raises(InputError, match="coverage"):
        least_probability(np.ones((3, 2)), np.zeros(3, int), 1.0)


def test_sets_are_made_as_large_as_others() -> None:
    """Votes of the same order that are less sure of themselves give the same sets."""
    p, labels = drawn(4000, 3)
    soft = p**0.5 / (p**0.5).sum(1, keepdims=True)
    least = least_probability(p, labels)
    assert least is not None
    found = as_large(soft, p, least)
    assert found != least
    assert in_set(soft, found).sum() == in_set(p, least).sum()
    assert in_set(soft, found)[np.arange(len(p)), labels].mean() == pytest.approx(0.95, abs=0.01)
    assert in_set(soft, least).sum() > 1.2 * in_set(p, least).sum()
    assert in_set(soft, as_large(soft, p, 1.0)).sum() == len(p)  # the most probable area alone
    assert in_set(soft, as_large(soft, p, 0.0)).all()
    assert as_large(p[:0], p[:0], 0.3) == 0.3
    assert as_large(p[:, :1], p[:, :1], 0.3) == 1.0
    with pytest.raises(InputError, match="finite"):
        as_large(np.full((3, 2), np.nan), np.ones((3, 2)), 0.5)
    with pytest.raises(InputError, match="same nodes"):
        as_large(p, p[:, :2], 0.5)

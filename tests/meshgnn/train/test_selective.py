"""Risk against coverage."""

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.train.selective import aurc, risk_coverage


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

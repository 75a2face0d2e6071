"""Borders judged by true ones: hand-computed scores, and as many of every method as asked for."""

import numpy as np
import pytest

from meshgnn.borders.judged import Score, by_lot, strongest
from meshgnn.experiment.section_borders import chosen, judged

TRUE = {True: {"L": [(0.0, 0.0), (10.0, 0.0)]}, False: {"L": [(20.0, 0.0)], "R": [(0.0, 0.0)]}}


def test_detected_errors_and_false_alarms_by_hand():
    score = Score(1.0)
    score.add(TRUE, {"L": [(0.4, 0.0), (10.0, 0.8), (15.0, 0.0)], "R": [(0.0, 3.0)]}, 40.0)
    assert score.row() == {
        "found": 4, "false_per_10_mm": 0.5, "sharp_borders": 2, "sharp_detected": 1.0, "sharp_error_mm": 0.6,
        "gradual_borders": 2, "gradual_detected": 0.0, "gradual_error_mm": None,
    }  # fmt: skip
    score.add({True: {}, False: {}}, {"L": [(0.0, 0.0)]}, 10.0)  # nothing is true there: all are false
    assert (score.row()["found"], score.row()["false_per_10_mm"]) == (5, 0.6)


def test_a_border_of_the_other_hemisphere_is_none():
    score = Score(1.0)
    score.add({True: {"L": [(0.0, 0.0)]}, False: {}}, {"R": [(0.0, 0.0)]}, 10.0)
    row = score.row()
    assert (row["sharp_detected"], row["false_per_10_mm"], row["gradual_detected"]) == (0.0, 1.0, None)


def test_the_strongest_and_a_lot_are_as_many_as_asked_for():
    ranked = [(9.0, "L", 1.0, 0.0), (5.0, "R", 2.0, 0.0), (1.0, "L", 3.0, 0.0)]
    assert dict(strongest(ranked, 2)) == {"L": [(1.0, 0.0)], "R": [(2.0, 0.0)]}
    rng = np.random.default_rng(0)
    for count, many in ((0, 0), (2, 2), (9, 3)):
        assert sum(len(own) for own in by_lot(ranked, count, rng).values()) == many
    assert not by_lot([], 3, rng)


def test_sections_are_spread_over_the_middle_of_the_brain():
    class Section:
        def __init__(self, index: int, usable: bool = True) -> None:
            self.index, self.usable = index, usable

    sections = [Section(k, usable=k != 50) for k in range(100)]
    assert [one.index for one in chosen(sections, 3)] == [24, 49, 75]
    assert chosen(sections, 0) == chosen([], 3) == []
    assert len(chosen(sections[:2], 5)) <= 2


@pytest.mark.parametrize("found", [{}, {"a": []}])
def test_without_a_truth_there_is_no_table(found):
    assert judged(found, {}, {}) is None

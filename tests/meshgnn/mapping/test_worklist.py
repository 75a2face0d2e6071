"""What to draw next."""

from types import SimpleNamespace

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.mapping.worklist import NOTHING_LEFT, ORDERS, mapper_disagreements, worklist
from tests.meshgnn.mapping.ball import drawings, located, situation, stack_of


@pytest.fixture(scope="module")
def ball():
    stack = stack_of()
    return stack, *located(stack)


def filling(one, sure=1.0, doubt=(), engine="graph"):
    """Everything is A1 with probability `sure`; on sections of `doubt` A1 and A2 are alike."""
    shares = np.zeros((one.graph.n_nodes, 4), np.float32)
    shares[:, 0], shares[:, 1] = sure, 1 - sure
    shares[np.isin(one.graph.locations.section, doubt), :2] = 0.5
    return SimpleNamespace(probabilities=shares, engine=engine)


def numbers(found):
    return [item.section for item in found.items]


@pytest.mark.parametrize("order", ORDERS)
def test_drawn_and_skipped_sections_are_not_suggested(ball, tmp_path, order):
    stack, one, labels = ball
    seen = situation(drawings(stack, one, labels, (12, 18)), stack, one, tmp_path)
    other = filling(one, 0.2, engine="local")
    found = worklist(seen, filling(one, 0.7), order=order, skip=(15,), others=[other])
    assert sorted(numbers(found)) == [10, 11, 13, 14, 16, 17, 19, 20, 21]
    assert all(item.reason.endswith(".") for item in found.items)


def test_gain_prefers_doubt_and_names_the_borders(ball, tmp_path):
    stack, one, labels = ball
    seen = situation(drawings(stack, one, labels, (10, 21)), stack, one, tmp_path)
    found = worklist(seen, filling(one, 0.98, doubt=(13,)))
    assert found.items[0].section == 13
    assert set(found.items[0].areas) == {"A1", "A2"}
    assert "50% of its cortex" in found.items[0].reason
    assert "15.0 mm from the nearest drawn section (10)" in found.items[0].reason
    gains = [item.gain for item in found.items]
    assert gains == sorted(gains, reverse=True)
    assert all(0 <= gain <= 1 for gain in gains)
    assert not found.none_left


def test_nothing_left_is_said_where_nothing_can_be_gained(ball, tmp_path):
    stack, one, labels = ball
    seen = situation(drawings(stack, one, labels, (10, 15, 21)), stack, one, tmp_path)
    found = worklist(seen, filling(one, 1.0))
    assert found.none_left
    assert all(item.gain <= NOTHING_LEFT for item in found.items)
    whole = situation(drawings(stack, one, labels, range(10, 22)), stack, one, tmp_path)
    assert worklist(whole, filling(one, 0.5)).none_left
    assert worklist(whole, filling(one, 0.5)).items == ()


def test_without_a_drawing_the_middle_comes_first_and_gaps_are_halved(ball, tmp_path):
    stack, one, labels = ball
    assert numbers(worklist(situation([], stack, one, tmp_path)))[0] in (14, 15, 16, 17)
    seen = situation(drawings(stack, one, labels, (10, 21)), stack, one, tmp_path)
    assert numbers(worklist(seen, order="gap"))[0] in (15, 16)
    assert numbers(worklist(seen, filling(one, 0.98, doubt=(19,)), order="uncertain"))[0] == 19


def test_the_random_order_is_that_of_its_seed(ball, tmp_path):
    stack, one, _ = ball
    seen = situation([], stack, one, tmp_path)
    first = numbers(worklist(seen, order="random", seed=1))
    assert first == numbers(worklist(seen, order="random", seed=1))
    assert first != numbers(worklist(seen, order="random", seed=2))
    assert sorted(first) == list(range(10, 22))


def test_engines_and_mappers_disagree(ball, tmp_path):
    stack, one, labels = ball
    mine = drawings(stack, one, labels, (12,))
    moved = np.where(labels == 1, 3, labels)
    hers = drawings(stack, one, moved, (12,), mapper="ben")
    seen = situation(mine + hers, stack, one, tmp_path)
    by_mapper = mapper_disagreements(seen, mine + hers)
    assert set(by_mapper) == {12}
    assert "anna and ben draw A4 differently" in by_mapper[12][1]
    other = filling(one, 1.0, engine="local")
    other.probabilities[one.graph.locations.section == 19] = [0, 1, 0, 0]
    found = worklist(seen, filling(one), order="disagree", others=[other], records=mine + hers)
    assert numbers(found) == [19, 12]
    assert found.items[0].reason == "graph and local name 100% of its cortex differently."
    assert worklist(seen, filling(one), order="disagree", records=mine).items == ()


def test_torn_sections_are_not_suggested_and_an_unknown_order_is_told(tmp_path):
    stack = stack_of(torn=(15,))
    one, _ = located(stack)
    seen = situation([], stack, one, tmp_path)
    assert 15 not in numbers(worklist(seen))
    with pytest.raises(InputError, match="no order 'best'"):
        worklist(seen, order="best")


def test_without_a_mesh_gaps_are_still_known(ball, tmp_path):
    stack, one, labels = ball
    records = drawings(stack, one, labels, (10, 21))
    seen = situation(records, stack, one, tmp_path)
    bare = type(seen)(stack=stack, brain=None, drawn=seen.drawn)
    assert numbers(worklist(bare))[0] in (15, 16)

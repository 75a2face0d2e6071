"""Batches of subjects: shuffled anew in every epoch, balanced without global state, any step first."""

import numpy as np
import pytest

from features.samplers.epochs import EpochBatches
from features.samplers.pool import Pool
from meshgnn.errors import InputError


def pool(labels, held=()) -> Pool:
    out = np.zeros(len(labels), bool)
    out[list(held)] = True
    return Pool(labels=np.array(labels), names=("a", "b"), groups=np.arange(len(labels)), held=out)


def test_epochs_differ_from_each_other_and_are_reproducible():
    one, two, other = (EpochBatches.Config(size=4).build(pool([0] * 20), seed) for seed in (1, 1, 2))
    orders = [one.order(epoch).tolist() for epoch in range(5)]
    assert len({tuple(order) for order in orders}) == 5
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert orders == [two.order(epoch).tolist() for epoch in range(5)]
    assert orders[0] != other.order(0).tolist()


def test_batches_go_through_every_item_once_per_epoch_and_any_step_can_be_first():
    batches = EpochBatches.Config(size=6).build(pool([0] * 20, held=(3,)), 0)
    drawn = np.concatenate([batches.draw(step) for step in range(19)])  # 6 epochs of 19 items
    assert len(drawn) == 6 * 19
    for epoch in range(6):
        assert sorted(drawn[19 * epoch : 19 * (epoch + 1)]) == [k for k in range(20) if k != 3]
    np.testing.assert_array_equal(
        EpochBatches.Config(size=6).build(pool([0] * 20, held=(3,)), 0).draw(11), drawn[66:72]
    )


@pytest.mark.parametrize(("balance", "each"), [("undersample", 4), ("oversample", 16)])
def test_classes_are_balanced_without_touching_the_global_generator(balance, each):
    labels = [0] * 16 + [1] * 4 + [-1] * 3
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    batches = EpochBatches.Config(size=4, balance=balance).build(pool(labels), 5)
    for epoch in range(3):
        counts = np.bincount(np.array(labels)[batches.order(epoch)])
        assert counts.tolist() == [each, each]
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    seen = {int(k) for epoch in range(40) for k in batches.order(epoch)}
    assert seen == set(range(20))  # others of the commoner class in every epoch


def test_what_cannot_be_balanced_is_refused():
    with pytest.raises(InputError, match="1 class to balance"):
        EpochBatches.Config(balance="undersample").build(pool([1] * 5), 0)
    with pytest.raises(InputError, match="no item"):
        EpochBatches.Config().build(pool([1], held=(0,)), 0)

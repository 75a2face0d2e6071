"""Changes of whole volumes: the same at any number of ranks, others at every step, none where all are switched off."""

import pytest
import torch

pytest.importorskip("monai")

from features.augment_head import HeadAugment

ITEMS = torch.rand(4, 2, 12, 12, 12, generator=torch.Generator().manual_seed(0))


def changed(config, items=ITEMS, step=0, places=slice(0, 4), seed=3, view=0):
    return config.build()(items, seed=seed, step=step, places=places, batch=4, view=view)


def test_ranks_share_the_joint_batch_and_steps_differ():
    config = HeadAugment.Config(flip=True, chance=0.9)
    whole = changed(config)
    torch.manual_seed(99)
    assert torch.equal(changed(config), whole)
    for rank in range(2):
        part = slice(rank, 4, 2)
        assert torch.equal(changed(config, ITEMS[part], places=part), whole[part])
    for other in ({"step": 1}, {"seed": 4}, {"view": 1}):
        assert not torch.equal(changed(config, **other), whole)
    assert torch.isfinite(whole).all()
    assert whole.shape == ITEMS.shape
    assert type(whole) is torch.Tensor


def test_nothing_changes_where_no_change_is_made():
    assert torch.equal(changed(HeadAugment.Config(chance=0.0)), ITEMS)


@pytest.mark.parametrize(
    "only", ["rotation_deg", "scale", "shift", "bias", "contrast", "blur", "noise", "flip", "elastic"]
)
def test_each_change_is_small_and_real(only):
    sizes = dict.fromkeys(("rotation_deg", "scale", "shift", "bias", "contrast", "blur", "noise", "elastic"), 0.0)
    defaults = {"rotation_deg": 8.0, "scale": 0.08, "shift": 0.2, "bias": 0.2, "contrast": 0.15, "blur": 0.7,
                "noise": 0.05, "elastic": 1.0, "flip": True}  # fmt: skip
    away = changed(HeadAugment.Config(**{**sizes, "chance": 1.0, only: defaults[only]})) - ITEMS
    assert 0 < away.abs().mean() < 0.5


def test_a_shift_brings_nothing_in_from_the_other_side():
    items = torch.zeros(4, 1, 10, 10, 10)
    items[:, :, 0] = 1.0
    sizes = {"rotation_deg": 0, "scale": 0, "bias": 0, "contrast": 0, "blur": 0, "noise": 0}
    found = torch.stack([changed(HeadAugment.Config(**sizes, shift=0.3, chance=1.0), items, step=k) for k in range(8)])
    assert (found[:, :, :, 5:] == 0).all()

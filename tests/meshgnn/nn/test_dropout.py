"""Dropout by a compiled loop keeps to torch's contract: share, scale, seed, gradient."""

import pytest
import torch

from meshgnn.nn.dropout import dropout, dropped


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.9])
def test_the_share_is_dropped_and_the_mean_kept(share: float) -> None:
    torch.manual_seed(1)
    found = dropout(torch.ones(1000, 256), share, True)
    gone = found == 0
    assert gone.float().mean().item() == pytest.approx(share, abs=4 * (share * (1 - share) / gone.numel()) ** 0.5)
    torch.testing.assert_close(found[~gone], torch.full_like(found[~gone], 1 / (1 - share)))
    # No row, no column and no pair of neighbours differs from the rest by more than chance allows.
    for axis in (0, 1):
        spread, count = gone.float().mean(axis).std().item(), gone.shape[axis]
        assert spread == pytest.approx((share * (1 - share) / count) ** 0.5, rel=0.2)
        near = gone.narrow(axis, 1, count - 1) & gone.narrow(axis, 0, count - 1)
        assert near.float().mean().item() == pytest.approx(share**2, abs=0.004)


def test_masks_of_different_seeds_are_independent() -> None:
    torch.manual_seed(2)
    masks = torch.stack([dropout(torch.ones(100_000), 0.2, True) == 0 for _ in range(8)]).float()
    assert (torch.corrcoef(masks) - torch.eye(8)).abs().max() < 0.02


def test_the_same_seed_gives_the_same_mask() -> None:
    x, found = torch.randn(100, 7), []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(dropout(x, 0.3, True))
    assert torch.equal(*found)
    assert not torch.equal(found[0], dropout(x, 0.3, True))


def test_gradients_pass_through_the_same_mask() -> None:
    x = torch.randn(50, 6, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(dropped, (x, 0.2, torch.tensor([1 << 40])))
    found = dropout(x, 0.2, True)
    (slope,) = torch.autograd.grad(found.sum(), x)
    torch.testing.assert_close(slope, torch.where(found.detach() == 0, 0.0, 1.25).double())


def test_what_is_not_finite_stays_so() -> None:
    x = torch.full((1000,), torch.nan)
    assert dropout(x, 0.5, True).isnan().all()


def test_nothing_changes_when_nothing_is_to_be_dropped() -> None:
    x = torch.randn(10)
    assert dropout(x, 0.5, False) is x
    assert dropout(x, 0.0, True) is x
    assert dropout(x[:0], 0.5, True).shape == (0,)


def test_half_precision_is_torchs() -> None:
    assert dropout(torch.ones(1000, dtype=torch.bfloat16), 0.5, True).dtype == torch.bfloat16

"""Mixed models of scores."""

from itertools import product

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.networks.effects import domain_effects, mixed_model
from meshgnn.networks.models import Model, Models
from meshgnn.networks.planted import PlantedStudy

DESIGN = np.array(list(product((0.0, 1.0), repeat=3)))


def drawn(rng, targets=6, effects=(0.05, 0.0, -0.02), between=0.1, within=0.03):
    scores = DESIGN @ effects + between * rng.standard_normal((targets, 1)) + 0.6
    scores = scores + within * rng.standard_normal(scores.shape)
    return scores.ravel(), np.tile(DESIGN, (targets, 1)), np.repeat(np.arange(targets), len(DESIGN))


def closed_form(y, x, group):
    """Of the balanced design: two-way analysis of variance without interaction, targets as blocks."""
    table = y.reshape(group.max() + 1, -1)
    targets, models = table.shape
    inner = (table - table.mean(1, keepdims=True)).ravel()
    centred = x - x.mean(0)
    inverse = np.linalg.inv(centred.T @ centred)
    estimates = inverse @ centred.T @ inner
    rest = inner - centred @ estimates
    within = (rest**2).sum() / (targets * models - targets - x.shape[1])
    blocks = models * table.mean(1).var(ddof=1)
    return estimates, np.sqrt(within * np.diag(inverse)), np.sqrt((blocks - within) / models), np.sqrt(within)


@pytest.mark.parametrize("seed", range(3))
def test_a_balanced_design_has_its_closed_form(seed):
    y, x, group = drawn(np.random.default_rng(seed))
    fit, (estimates, errors, between, within) = mixed_model(y, x, group), closed_form(y, x, group)
    np.testing.assert_allclose(fit.estimates, estimates, atol=1e-6)
    np.testing.assert_allclose(fit.errors, errors, atol=1e-6)
    assert fit.within == pytest.approx(within, abs=1e-6)
    assert fit.between == pytest.approx(between, abs=1e-4)
    assert fit.p[0] < 0.01


def test_targets_that_do_not_differ_leave_least_squares():
    y, x, group = drawn(np.random.default_rng(3), between=0.0)
    fit = mixed_model(y, x, group)
    assert fit.between < 0.02
    single = mixed_model(y[: len(DESIGN)], DESIGN, np.zeros(len(DESIGN), int))
    wanted = np.linalg.lstsq(np.c_[np.ones(8), DESIGN], y[:8], rcond=None)[0][1:]
    np.testing.assert_allclose(single.estimates, wanted)


@pytest.mark.slow
def test_intervals_cover_what_was_planted():
    """95 +- 3 % of 1000 draws, and p of an absent effect below 0.05 in 5 +- 3 %."""
    held, false = np.zeros(3), 0
    for seed in range(1000):
        y, x, group = drawn(np.random.default_rng(seed))
        fit = mixed_model(y, x, group)
        low, high = fit.interval().T
        held += (low <= (0.05, 0.0, -0.02)) & (high >= (0.05, 0.0, -0.02))
        false += fit.p[1] < 0.05
    assert (abs(held / 1000 - 0.95) < 0.03).all(), held
    assert abs(false / 1000 - 0.05) < 0.03


def test_planted_effects_are_found_per_domain_and_score():
    study = PlantedStudy.Config(own=0.0, effects=("flair=0.06", "connectivity=0.02", "serology=0.03")).build().draw()
    assert len(study.models.rows) == 700
    effects, notes = domain_effects(study.models, study.domains)
    images = [one for one in effects if one.input == "flair + t1"]
    assert {(one.domain, one.score_name) for one in images} == {
        (study.domains[row.target], row.score_name) for row in study.models.rows
    }
    assert sum(one.low <= 0.06 <= one.high for one in images) >= len(images) - 1
    assert all(one.q < 0.05 for one in images)
    assert any("constitutional stand in all models" in note for note in notes)
    assert all(one.p <= one.q <= 1 for one in effects)


def row(target, inputs, score, name="r2"):
    return Model(name="m", target=target, inputs=inputs, score_name=name, score=score)


def test_what_cannot_be_told_is_noted():
    few = Models(rows=(row("a", ("x",), 0.1), row("a", (), 0.2)), source="few")
    assert domain_effects(few, {}) == ((), ("no domain (r2): 2 models of 1 targets are too few for 1 effects",))
    same = Models(rows=tuple(row("a", ("x",), 0.1 * k) for k in range(6)), source="same")
    effects, notes = domain_effects(same, {})
    assert effects == ()
    assert any("stand in all models" in note for note in notes)
    flat = Models(rows=tuple(row("a", ("x",) * (k % 2), 0.5) for k in range(8)), source="flat")
    assert domain_effects(flat, {})[1] == ("no domain (r2): all 8 scores are the same",)
    with pytest.raises(InputError, match="always comes with another"):
        mixed_model(np.arange(12.0), np.ones((12, 1)), np.arange(12) % 2)

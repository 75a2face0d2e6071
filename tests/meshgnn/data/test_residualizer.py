"""Confound regression and target transforms: fitted on training subjects alone, exact where they must be."""

import json

import numpy as np
import pytest

from meshgnn.data.design import Design
from meshgnn.data.residualizer import Residualizer
from meshgnn.data.target_transform import LogTarget, RangeTarget, ScoreTarget, load_transform, save_transform
from meshgnn.errors import InputError, SettingError

CONFOUNDS = Residualizer.Config(confounds=("site", "age", "sex"), categorical=("site", "sex"))


def cohort(count: int = 60, seed: int = 0):
    """Two columns of values that site, age and sex move, and the last one by nothing."""
    rng = np.random.default_rng(seed)
    site, age, sex = rng.integers(0, 4, count), rng.normal(50, 12, count), rng.integers(0, 2, count)
    table = {
        "site": [f"s{k}" for k in site],
        "age": [f"{value:.3f}" for value in age],
        "sex": ["FM"[k] for k in sex],
    }
    offset = np.array([5.0, -3, 0, 9])
    values = np.stack([offset[site] + 0.3 * age - 4 * sex, 2 * offset[site], np.zeros(count)], axis=1)
    train = rng.random(count) < 0.7
    train[[int(np.flatnonzero(site == k)[0]) for k in range(4)]] = True
    return table, values + rng.normal(0, 1, values.shape), train


def test_residuals_are_orthogonal_to_every_training_regressor():
    table, values, train = cohort()
    values[3, 1] = np.nan  # one subject does not know one of them
    fitted = CONFOUNDS.build(table, values, train)
    left = fitted.apply(table, values)
    for column in range(3):
        known = train & np.isfinite(values[:, column])
        some = {name: [cells[k] for k in np.flatnonzero(known)] for name, cells in table.items()}
        design = np.c_[np.ones(known.sum()), fitted.design.apply(some)]
        away = left[known, column]
        assert (np.abs(design.T @ away) / np.linalg.norm(design, axis=0) / np.linalg.norm(away)).max() < 1e-10
    assert np.isnan(left[3, 1])
    np.testing.assert_allclose(fitted.restore(table, left), values, rtol=0, atol=1e-12)


def test_only_training_subjects_decide():
    table, values, train = cohort()
    fitted = CONFOUNDS.build(table, values, train)
    changed = {name: list(cells) for name, cells in table.items()}
    others = values.copy()
    for k in np.flatnonzero(~train):
        changed["age"][k], others[k] = "900", 1e6
    again = CONFOUNDS.build(changed, others, train)
    np.testing.assert_array_equal(again.coefficients, fitted.coefficients)
    # The leak that this guards against: fitted on all rows, the coefficients are others.
    leaked = CONFOUNDS.build(table, values, np.ones(len(train), bool))
    assert np.abs(leaked.coefficients - fitted.coefficients).max() > 1e-3


def test_the_penalty_shrinks_and_the_intercept_stays():
    table, values, train = cohort()
    free, held = (
        Residualizer.Config(confounds=("age",), ridge=ridge).build(table, values, train) for ridge in (0.0, 1e6)
    )
    assert abs(held.coefficients[0, 0]) < 1e-2 * abs(free.coefficients[0, 0])
    np.testing.assert_allclose(held.apply(table, values)[train].mean(0), 0, atol=1e-9)


def test_an_unseen_category_is_an_error_or_the_average():
    table, values, train = cohort()
    fitted = CONFOUNDS.build(table, values, train)
    new = {"site": ["elsewhere"], "age": ["50"], "sex": ["F"]}
    with pytest.raises(InputError, match=r"no training subject has 'elsewhere'; set unseen=other"):
        fitted.apply(new, values[:1])
    settings = {"confounds": ("site", "age", "sex"), "categorical": ("site", "sex"), "unseen": "other"}
    other = Residualizer.Config(**settings).build(table, values, train)
    average = np.zeros(3)
    chosen = [table["site"][k] for k in np.flatnonzero(train)]
    for site in sorted(set(chosen)):
        average += other.explained(new | {"site": [site]})[0] * chosen.count(site) / len(chosen)
    np.testing.assert_allclose(other.explained(new)[0], average, atol=1e-10)


def test_missing_confounds_are_an_error_or_the_average_that_says_so():
    table, values, train = cohort()
    table["age"][0] = table["site"][1] = ""
    train[:2] = True
    with pytest.raises(InputError, match="missing for 1 subjects"):
        CONFOUNDS.build(table, values, train)
    filled = Residualizer.Config(
        confounds=("site", "age", "sex"), categorical=("site", "sex"), missing="fill"
    ).build(table, values, train)  # fmt: skip
    assert {"age=missing", "site=missing"} <= set(filled.design.names)
    assert np.isfinite(filled.apply(table, values)).all()


def test_what_is_saved_is_what_is_loaded(tmp_path):
    table, values, train = cohort()
    fitted = CONFOUNDS.build(table, values, train)
    fitted.save(tmp_path / "confounds.json")
    again = Residualizer.load(tmp_path / "confounds.json")
    np.testing.assert_array_equal(again.apply(table, values), fitted.apply(table, values))
    about = json.loads((tmp_path / "confounds.json").read_text())
    assert about["names"] == list(fitted.design.names)
    for damage in ({"record": "x"}, {"design": {"columns": [{}]}}, {"coefficients": [[1.0]]}, {"intercept": "x"}):
        (tmp_path / "confounds.json").write_text(json.dumps(about | damage))
        with pytest.raises(InputError):
            Residualizer.load(tmp_path / "confounds.json")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"age": ["old"] * 60}, "'old' is not a finite number"),
        ({"age": [""] * 60}, "missing for all training subjects"),
        ({"age": ["inf"] * 60}, "not a finite number"),
    ],
)
def test_confounds_that_cannot_be_read_are_named(change, told):
    table, values, train = cohort()
    with pytest.raises(InputError, match=told):
        CONFOUNDS.build(table | change, values, train)
    with pytest.raises(InputError, match="'age' is not in the table"):
        CONFOUNDS.build({"site": table["site"], "sex": table["sex"]}, values, train)
    with pytest.raises(SettingError, match="not one of confounds"):
        Residualizer.Config(confounds=("age",), categorical=("site",))


def test_a_constant_number_does_not_blow_up():
    table = {"age": ["0.1"] * 20}
    found = Design.fit(table, (), np.ones(20, bool)).apply(table)
    assert np.abs(found).max() < 1e-6


@pytest.mark.parametrize("low", [-30.0, 0.0, 5.0])
def test_the_logarithm_is_inverted_exactly(low):
    y = low + np.random.default_rng(0).gamma(2, 10, 200)
    transform = LogTarget.Config().build(y)
    assert y.min() + transform.offset > 0
    np.testing.assert_allclose(transform.invert(transform.apply(y)), y, rtol=1e-12, atol=1e-12)
    fixed = LogTarget.Config(offset=40.0).build(y)
    np.testing.assert_allclose(fixed.apply(y), np.log(y + 40))
    assert np.isnan(transform.apply(np.array([np.nan]))).all()


def test_evaluation_uses_the_constant_of_training(tmp_path):
    # The predecessor trained with 100 and 10 and evaluated with 40: here the fitted transform itself is stored.
    rng = np.random.default_rng(1)
    train, test = rng.normal(0, 8, 300), rng.normal(0, 8, 100)
    for config in (LogTarget.Config(offset=100.0), LogTarget.Config(), RangeTarget.Config(), ScoreTarget.Config()):
        fitted = config.build(train)
        save_transform(tmp_path / "target.json", fitted)
        stored = load_transform(tmp_path / "target.json")
        assert stored == fitted
        inside = test[(test > train.min()) & (test < np.percentile(train, 99)) & (test > np.percentile(train, 1))]
        np.testing.assert_allclose(stored.invert(fitted.apply(inside)), inside, atol=1e-10)
        assert stored != config.build(test) or isinstance(config, LogTarget.Config)
    (tmp_path / "target.json").write_text('{"format": 1, "record": "TargetTransform", "transform": {"_": "os.system"}}')
    with pytest.raises(InputError, match="not a class that may stand here"):
        load_transform(tmp_path / "target.json")


def test_the_smearing_factor_turns_medians_into_means():
    rng = np.random.default_rng(2)
    z = rng.normal(3, 0.3, 20000)
    y = np.exp(z + rng.normal(0, 0.5, len(z))) - 5
    transform = LogTarget(offset=5.0)
    plain, smeared = transform.invert(z).mean(), transform.smeared(y, z).invert(z).mean()
    assert abs(smeared - y.mean()) < 0.2 < abs(plain - y.mean())


def test_the_range_is_that_of_the_training_percentiles():
    y = np.r_[np.linspace(0, 100, 1001), 1e6]
    transform = RangeTarget.Config().build(y)
    z = transform.apply(y)
    assert (z.min(), z.max()) == (-1, 1)
    assert transform.high < 101
    np.testing.assert_allclose(transform.invert(z)[10:900], y[10:900], atol=1e-9)


@pytest.mark.parametrize("config", [RangeTarget.Config(), ScoreTarget.Config()])
def test_a_constant_target_is_refused(config):
    with pytest.raises(InputError, match="nothing to learn"):
        config.build(np.full(10, 3.0))
    with pytest.raises(InputError, match="at least 2"):
        config.build(np.array([1.0, np.nan]))


def test_values_without_a_logarithm_are_refused():
    with pytest.raises(SettingError, match="offset=10"):
        LogTarget.Config(offset=10.0).build(np.array([-20.0, 5, 6]))
    with pytest.raises(InputError, match="1 values"):
        LogTarget(offset=1.0).apply(np.array([-3.0, 5]))

"""Mutual information and its null distribution."""

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

from meshgnn.errors import InputError, SettingError
from meshgnn.networks.association import Associations, score_closeness
from meshgnn.networks.information import (
    CONTINUOUS,
    DISCRETE,
    MIXED,
    continuous_information,
    discrete_information,
    gaussian_information,
    mixed_information,
    parted,
    permutable,
)
from tests.meshgnn.networks.samples import people


def correlated(rng, r, count):
    first, noise = rng.standard_normal((2, count))
    return first, r * first + np.sqrt(1 - r * r) * noise


@pytest.mark.parametrize("r", [0, 0.3, 0.6, 0.9])
def test_numbers_have_the_information_of_their_correlation(r):
    rng = np.random.default_rng(1)
    first, second = (parted(one, rng) for one in correlated(rng, r, 5000))
    assert abs(continuous_information(first, second) - gaussian_information(r)) < 0.05


def test_the_estimators_are_those_of_scikit_learn():
    rng = np.random.default_rng(2)
    first, second = (parted(one, rng) for one in correlated(rng, 0.5, 300))
    theirs = mutual_info_regression(first[:, None], second, n_neighbors=4, random_state=0)[0]
    assert continuous_information(first, second) == pytest.approx(theirs, abs=1e-6)
    classes = (first > 0.3).astype(int) + (first > 1.2)
    theirs = mutual_info_classif(second[:, None], classes, n_neighbors=4, random_state=0)[0]
    assert mixed_information(classes, second) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("levels", [2, 4])
def test_identical_columns_have_the_information_of_their_entropy(levels):
    values = np.repeat(np.arange(levels), 500)
    wanted = entropy(np.full(levels, 1 / levels)) + (levels - 1) / (2 * len(values))
    assert discrete_information(values, values) == pytest.approx(wanted)


def test_independent_classes_have_none_on_average():
    rng = np.random.default_rng(3)
    found = [discrete_information(rng.integers(0, 3, 60), rng.integers(0, 4, 60)) for _ in range(600)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(600) + 0.003  # the correction is of first order


def test_mixed_information_grows_with_the_effect():
    rng = np.random.default_rng(4)
    classes, noise = rng.integers(0, 2, 2000), rng.standard_normal(2000)
    found = [mixed_information(classes, parted(effect * classes + noise, rng)) for effect in (0, 0.5, 1, 2, 4)]
    assert abs(found[0]) < 0.03
    assert (np.diff(found) > 0.01).all()
    assert found[-1] < np.log(2) + 0.02


def test_order_and_scale_do_not_matter_and_ties_are_parted():
    rng = np.random.default_rng(5)
    first, second = (parted(one, rng) for one in correlated(rng, 0.6, 400))
    order = rng.permutation(400)
    plain = continuous_information(first, second)
    assert continuous_information(second, first) == pytest.approx(plain)
    assert continuous_information(first[order], second[order]) == pytest.approx(plain)
    scores = np.round(second * 2)
    assert np.isfinite(continuous_information(first, parted(scores, rng)))


@pytest.mark.parametrize("kind", [DISCRETE, CONTINUOUS, MIXED])
def test_a_prepared_pair_gives_the_same_in_any_order(kind):
    rng = np.random.default_rng(6)
    first = rng.integers(0, 3, 200).astype(float) if kind in (DISCRETE, MIXED) else rng.standard_normal(200)
    second = rng.integers(0, 2, 200).astype(float) if kind == DISCRETE else rng.standard_normal(200) + first
    estimate = permutable(first, second, kind, 4, np.random.default_rng(0))
    for order in (np.arange(200), rng.permutation(200)):
        draw = np.random.default_rng(0)
        if kind == DISCRETE:
            wanted = discrete_information(first.astype(int), second[order].astype(int))
        else:
            numbers = parted(second, draw)[order]
            wanted = (
                mixed_information(first.astype(int), numbers)
                if kind == MIXED
                else continuous_information(parted(first, draw), numbers)
            )
        assert estimate(order) == pytest.approx(wanted, abs=1e-12)


def test_layers_are_pairwise_complete():
    rng = np.random.default_rng(7)
    base = rng.standard_normal(150)
    values = np.c_[base, base + 0.5 * rng.standard_normal(150), base > 0, rng.standard_normal(150)]
    values[:30, 0] = np.nan
    values[100:, 3] = np.nan
    layers = Associations.Config(permutations=200, most=400).build().layers(people(values, classes=(2,)))
    information = layers["information"]
    assert information.pairs["n"][0, 1] == 120
    assert information.pairs["n"][0, 3] == 70
    assert information.estimators[0][1] == CONTINUOUS
    assert information.estimators[0][2] == MIXED
    assert information.pairs["q"][0, 1] < 0.05
    assert information.pairs["p"][1, 3] > 0.05
    assert information.pairs["draws"][1, 3] >= 200
    np.testing.assert_allclose(
        information.pairs["above"], information.weights - information.pairs["null"], equal_nan=True
    )
    known = np.isfinite(values[:, 0])
    r = abs(np.corrcoef(values[known, 0], values[known, 1])[0, 1])
    assert layers["correlation"].weights[0, 1] == pytest.approx(r)
    assert np.isnan(information.weights.diagonal()).all()


def test_the_same_seed_gives_the_same_layers():
    values = np.random.default_rng(8).standard_normal((60, 3))
    first, second = (Associations.Config(most=200).build().layers(people(values)) for _ in range(2))
    np.testing.assert_array_equal(first["information"].pairs["p"], second["information"].pairs["p"])


@pytest.mark.slow
def test_false_positives_are_as_stated():
    """On 200 tables of independent columns at most 5 % hold any pair of q < 0.05 (99.9 % limit of the binomial)."""
    wrong = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        values = np.c_[rng.standard_normal((80, 4)), rng.integers(0, 3, (80, 3))]
        found = Associations.Config(seed=seed).build().layers(people(values, classes=(4, 5, 6)))["information"]
        wrong += bool((found.pairs["q"] < 0.05).any())
    assert wrong <= 21


def test_what_cannot_be_estimated_is_named_and_counted():
    rng = np.random.default_rng(9)
    values = rng.standard_normal((50, 4))
    make = Associations.Config().build()
    with pytest.raises(InputError, match="2 of 4 targets are the same for all who have them: t1, t3"):
        make.check(people(np.where(np.array([0, 1, 0, 1], bool), 7.0, values)))
    few = values.copy()
    few[2:, 0], few[0, 1] = np.nan, np.nan
    with pytest.raises(InputError, match=r"3 pairs of targets have fewer than 20 people in common: t0 and t1 \(1\)"):
        make.check(people(few))
    with pytest.raises(InputError, match="needs two or more; there is t0"):
        make.check(people(values[:, :1]))
    apart = values.copy()
    apart[:, 0] = np.r_[np.zeros(25), np.ones(25)]
    apart[25:, 1] = np.nan
    with pytest.raises(InputError, match="1 pairs of targets: one is the same for all people who have both: t0 and t1"):
        make.check(people(apart))
    with pytest.raises(SettingError, match="least"):
        Associations.Config(least=3)


def test_closeness_compares_shared_inputs_alone():
    scores = np.array([[0.5, 0.6, np.nan], [0.5, 0.6, 0.9], [np.nan, 0.3, np.nan], [np.nan, np.nan, 0.2]])
    layer = score_closeness(scores)
    assert layer.weights[0, 1] == 1
    assert layer.weights[0, 2] == pytest.approx(1 / 1.3)
    assert np.isnan(layer.weights[0, 3])
    assert layer.pairs["n"][0, 3] == 0

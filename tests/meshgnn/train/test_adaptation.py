"""Class means of a brain itself."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from threadpoolctl import threadpool_limits

from meshgnn.confusion import macro_f1
from meshgnn.data.model_inputs import ModelInputs
from meshgnn.train.adaptation import HELD, LEAST_P, Adaptation, fitted_discriminant, normalised
from meshgnn.train.same_inputs import SameInputs

K, D, NODES = 4, 6, 400


def people(count=4, shift=1.5, seed=0):
    """Brains whose areas differ in their mean features from one another's: features, places, areas, brain numbers."""
    rng = np.random.default_rng(seed)
    common = 2.0 * rng.normal(size=(K, D))
    found = []
    for brain in range(count):
        means = common + shift * rng.normal(size=(K, D))
        places = rng.uniform(0, K, NODES)
        areas = np.clip(np.floor(places + 0.4 * rng.normal()), 0, K - 1).astype(int)  # borders differ too
        features = means[areas] + rng.normal(size=(NODES, D))
        found.append((features, np.stack([places, *np.zeros((2, NODES))], axis=1), areas, np.full(NODES, brain)))
    return [np.concatenate(one) for one in zip(*found)]


def inputs_of(features, places, areas, brain, unseen):
    known = ~np.isin(brain, unseen)
    train, validation = np.zeros((2, len(areas)), bool), np.zeros((2, len(areas)), bool)
    for fold in range(2):
        validation[fold] = known & (np.floor(2 * places[:, 0]) % 2 == fold)
        train[fold] = known & ~validation[fold]
    nothing = np.zeros((len(areas), 0), np.float32)
    return ModelInputs(
        features=features.astype(np.float32), coordinates=places.astype(np.float32), unit_mm=10.0,
        edges=np.zeros((2, 0), np.int32), brain=brain.astype(np.int32), part=known,
        labels=np.where(known, areas, -1).astype(np.int32), n_classes=K, train=train, validation=validation,
        raw=nothing, smoothed=nothing, mirrored_mm=nothing, registered=nothing,
    )  # fmt: skip


def fitted(features, areas, brain=None):
    return Adaptation.fit(features, areas, np.zeros(len(areas), int) if brain is None else brain)


def test_it_finds_the_class_means_of_a_brain_that_differs_from_those_before():
    features, places, areas, brain = people()
    inputs = inputs_of(features, places, areas, brain, [3])
    rows = dict(SameInputs(inputs, range(2), 0).rows())
    new = brain == 3
    plain, adapted = (
        macro_f1(areas[new], rows[name]().probabilities[new].argmax(1), K)
        for name in ("prior_lda", "adapted_prior_lda")
    )
    assert adapted > plain + 0.02
    assert adapted > 0.9


def test_it_is_expectation_maximisation_of_gaussians():
    features, _, areas, brain = people()
    seen, new = brain < 3, brain == 3
    model = fitted_discriminant(features[seen], areas[seen])
    rng = np.random.default_rng(1)
    start = normalised(np.log(rng.dirichlet(np.ones(K), new.sum())))
    found = fitted(features[seen], areas[seen], brain[seen]).log_p(features[new], start, 0.3)
    x, means, held = features[new], model.means_.copy(), HELD * new.sum() / K
    within = fitted_discriminant(features[seen], areas[seen] + K * brain[seen]).covariance_  # areas of single brains
    assert np.trace(within) < 0.9 * np.trace(model.covariance_)
    for number in range(3):
        covariance = within if number else model.covariance_
        likelihood = np.stack([multivariate_normal(mean, covariance).logpdf(x) for mean in means], axis=1)
        likelihood = np.maximum(likelihood - np.logaddexp.reduce(likelihood, axis=1)[:, None], np.log(LEAST_P))
        log_p = start + 0.3 * likelihood
        log_p -= np.logaddexp.reduce(log_p, axis=1)[:, None]
        if number < 2:
            q = np.exp(log_p)
            means = np.stack([
                (q[:, k] @ x + held * model.means_[k]) / (q[:, k].sum() + held) for k in range(K)
            ])  # fmt: skip
    np.testing.assert_allclose(found, log_p, atol=2e-3)


def test_nothing_is_learnt_from_features_that_do_not_count():
    features, _, areas, _ = people()
    start = normalised(np.log(np.random.default_rng(0).dirichlet(np.ones(K), len(areas))))
    model = fitted(features, areas)
    np.testing.assert_allclose(model.log_p(features, start, 0.0), start, atol=1e-6)
    assert model.log_p(features[:0], start[:0], 0.3).shape == (0, K)


def test_known_labels_pull_the_means_and_no_rounds_leave_them():
    features, _, areas, brain = people(shift=3.0)
    model = fitted(features[brain < 3], areas[brain < 3])
    here, own = features[brain == 3], areas[brain == 3]
    start = np.full((len(here), K), -np.log(K))
    scores = [
        macro_f1(own, model.log_p(here, start, 1.0, rounds, labels).argmax(1), K)
        for rounds, labels in ((0, None), (2, np.where(np.arange(len(own)) % 4 == 0, own, -1)))
    ]
    assert scores[1] > scores[0] + 0.05
    decision = fitted_discriminant(features[brain < 3], areas[brain < 3]).predict_log_proba(here)
    np.testing.assert_allclose(model.log_p(here, start, 1.0, 0), np.maximum(decision, np.log(LEAST_P)), atol=2e-3)


def test_a_class_that_was_never_trained_on_gains_nothing():
    features, _, areas, _ = people()
    seen = areas > 0
    start = np.full((len(areas), K), -np.log(K))
    found = fitted(features[seen], areas[seen]).log_p(features, start, 1.0)
    assert (found.argmax(1) > 0).all()
    assert np.isfinite(found).all()


def test_votes_out_of_fold_know_neither_the_brains_own_labels_nor_an_unseen_brain():
    features, places, areas, brain = people()
    inputs = inputs_of(features, places, areas, brain, [3])

    def elsewhere(one):
        same = SameInputs(one, range(2), 0)
        return same._adapted_elsewhere(same._votes("position_prior"), 0.3)

    mixed = np.where(brain == 1, (inputs.labels + 1) % K, inputs.labels)
    before, after = elsewhere(inputs), elsewhere(replace(inputs, labels=mixed.astype(np.int32)))
    np.testing.assert_array_equal(before[brain == 1], after[brain == 1])
    assert (before[brain == 0] != after[brain == 0]).any()
    moved = inputs.features + (brain == 3)[:, None]
    np.testing.assert_array_equal(before, elsewhere(replace(inputs, features=moved)))


@pytest.mark.parametrize("unseen", [[3], [1, 2, 3]])
def test_the_row_is_made_of_one_training_brain_too(unseen):
    features, places, areas, brain = people()
    inputs = inputs_of(features, places, areas, brain, unseen)
    row = dict(SameInputs(inputs, range(2), 0).rows())["adapted_prior_lda"]()
    np.testing.assert_allclose(row.probabilities.sum(1), 1, atol=1e-5)
    assert "weight" in row.chosen


def test_one_class_has_no_adapted_row():
    features, places, areas, brain = people()
    inputs = inputs_of(features, places, np.zeros_like(areas), brain, [3])
    assert "adapted_prior_lda" not in dict(SameInputs(inputs, range(2), 0).rows())


def test_threads_change_no_bit():
    features, _, areas, _ = people()
    start = np.full((len(areas), K), -np.log(K))
    found = []
    for count in (1, 2):
        with threadpool_limits(count):
            found.append(fitted(features, areas).log_p(features, start, 0.5))
    np.testing.assert_array_equal(*found)


def test_arrays_that_do_not_fit_are_refused():
    features, _, areas, _ = people()
    arrays = fitted(features, areas).arrays()
    back = Adaptation.from_arrays(arrays)
    np.testing.assert_array_equal(back.within.means, arrays["within_means"])
    with pytest.raises(ValueError, match="do not fit"):
        Adaptation.from_arrays(arrays | {"within_means": arrays["within_means"][:, :-1]})
    with pytest.raises(KeyError):
        Adaptation.from_arrays({"within": arrays["within"]})


def strip(nodes=600, width=1.0, seed=0):
    """A brain of two areas side by side on a ring of nodes, whose features drift along it: features, areas, edges."""
    rng = np.random.default_rng(seed)
    place = np.arange(nodes)
    areas = (place // 25) % 2
    drift = width * np.sin(2 * np.pi * place / nodes)[:, None] * np.ones(D)
    means = np.array([[1.0] * D, [-1.0] * D])
    edges = np.stack([np.r_[place, (place + 1) % nodes], np.r_[(place + 1) % nodes, place]])
    return means[areas] + drift + 0.3 * rng.normal(size=(nodes, D)), areas, edges


def test_what_drifts_over_the_cortex_is_taken_off():
    rng = np.random.default_rng(0)
    areas = rng.integers(0, 2, 800)
    features = np.where(areas == 0, 1.0, -1.0)[:, None] + 0.3 * rng.normal(size=(800, D))
    model = Adaptation.fit(features, areas, np.zeros(800), field=True)
    here, own, edges = strip()
    likely = np.where(np.arange(len(own)) % 25 < 15, 0.8, 0.4)  # a prior that is wrong at one border of each
    start = normalised(np.log(np.where(np.eye(2)[own] > 0, likely[:, None], 1 - likely[:, None])))
    without, found = (model.log_p(here, start, 0.5, edges=some).argmax(1) for some in (None, edges))
    assert macro_f1(own, without, 2) < 0.96
    assert macro_f1(own, found, 2) > 0.99
    level = replace(model, field=False)
    np.testing.assert_array_equal(level.log_p(here, start, 0.5, edges=edges), level.log_p(here, start, 0.5))
    back = Adaptation.from_arrays(model.arrays())
    np.testing.assert_array_equal(back.log_p(here, start, 0.5, edges=edges).argmax(1), found)
    old = {name: values for name, values in model.arrays().items() if name != "field"}
    assert not Adaptation.from_arrays(old).field


def test_neighbours_speak_for_each_other_and_borders_stay(monkeypatch):
    """Nodes that look like another area by chance are named with their neighbours; areas keep their ends."""
    rng = np.random.default_rng(0)
    areas = rng.integers(0, 2, 800)
    features = np.where(areas == 0, 1.0, -1.0)[:, None] + 0.3 * rng.normal(size=(800, D))
    model = Adaptation.fit(features, areas, np.zeros(800), field=True)
    here, own, edges = strip(width=0.3)
    odd = rng.choice(len(own), 60, replace=False)
    here[odd] = -0.1 * here[odd]
    start = np.full((len(own), 2), np.log(0.5))
    found = model.log_p(here, start, 0.05, edges=edges).argmax(1)
    monkeypatch.setattr("meshgnn.train.adaptation.NEAR", 0.0)
    alone = model.log_p(here, start, 0.05, edges=edges).argmax(1)
    sure = np.setdiff1d(np.arange(len(own)), odd)
    assert (found != own)[odd].mean() < 0.85 * (alone != own)[odd].mean()
    assert (found != own)[sure].mean() < 0.01

"""Networks' votes joined with a position prior."""

from dataclasses import replace

import numpy as np
import pytest

from meshgnn.train.place_prior import NETWORK_SHARE, PlacePrior
from tests.meshgnn.train.test_adaptation import inputs_of, people


def inputs(registered=False):
    features, places, areas, brain = people()
    found = inputs_of(features, places, areas, brain, [2, 3])
    sphere = found.coordinates + np.array([0, 1, 0])
    sphere = sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
    return replace(found, registered=sphere.astype(np.float32)) if registered else found


def test_it_is_the_logarithmic_pool_of_votes_and_shares():
    seen = inputs()
    prior = PlacePrior.of(seen)
    asked = np.flatnonzero(~seen.part)[:5]
    votes = np.random.default_rng(0).dirichlet(np.ones(4), 5).astype(np.float32)
    found = prior.joined(votes, prior.log_p(seen.coordinates[asked]))
    for row, node in enumerate(asked):
        away = np.linalg.norm(seen.coordinates[seen.known] - seen.coordinates[node], axis=1)
        near = seen.labels[seen.known][np.argsort(away)[:50]]
        share = np.bincount(near, minlength=4) / 50 + 1e-3
        pool = ((share / share.sum()) * votes[row] ** NETWORK_SHARE) ** (1 / (1 + NETWORK_SHARE))
        np.testing.assert_allclose(found[row], pool / pool.sum(), atol=1e-4)


@pytest.mark.parametrize("registered", [False, True])
def test_it_takes_registered_places_where_there_are_some(registered):
    seen = inputs(registered)
    prior = PlacePrior.of(seen)
    assert prior.on == ("registered" if registered else "coordinates")
    assert prior.places(seen.coordinates, np.zeros((len(seen.labels), 0))) is None or not registered
    np.testing.assert_array_equal(
        prior.places(seen.coordinates, seen.registered), seen.registered if registered else seen.coordinates
    )


def test_a_run_without_places_has_no_prior():
    seen = inputs(registered=True)
    assert PlacePrior.of(replace(seen, coordinates=np.zeros((len(seen.labels), 0), np.float32))) is None


def test_the_temperature_is_that_of_least_log_loss_out_of_fold():
    features, places, areas, brain = people()
    seen = replace(inputs_of(features, places, areas, brain, [1, 2, 3]), unit_mm=100.0)  # where 6 mm are little
    labels = seen.labels[seen.known]
    prior = PlacePrior.of(seen)
    sure = np.where(np.eye(4)[labels] > 0, 0.97, 0.01)
    wrong = np.where(np.eye(4)[(labels + 1) % 4] > 0, 0.97, 0.01)
    right, humble = (prior.calibrated(seen, [votes], 2).temperature for votes in (sure, wrong))
    assert right < 1 < humble


def test_votes_that_are_sure_of_nothing_leave_the_prior():
    seen = inputs()
    prior = PlacePrior.of(seen)
    places = seen.coordinates[~seen.part]
    log_prior = prior.log_p(places)
    flat, sharp = (prior.joined(np.full((len(places), 4), p), log_prior) for p in (0.25, 1.0))
    np.testing.assert_allclose(flat, sharp, atol=1e-6)
    assert np.isfinite(prior.joined(np.eye(4)[np.zeros(len(places), int)], log_prior)).all()

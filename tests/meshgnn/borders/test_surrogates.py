"""Surrogates keep what a series is and lose where it changes; borders must rise above them."""

import numpy as np
import pytest

from meshgnn.borders.find import BorderTest
from meshgnn.borders.ribbon import RibbonLine
from meshgnn.borders.section import Run, SectionBorderFinder
from meshgnn.borders.surrogates import adjusted, chances, lowest_near, summits, surrogate
from meshgnn.errors import SettingError


def slow_change(count, rng, width=6):
    """[count, 10] features that change slowly and differently, without a border."""
    kernel = np.exp(-((np.arange(-3 * width, 3 * width + 1) / width) ** 2) / 2)
    rough = np.array([np.convolve(one, kernel, "valid") for one in rng.normal(size=(10, count + 6 * width))])
    return (rough.T / np.sqrt((kernel**2).sum())) + 0.3 * rng.normal(size=(count, 10))


def run_of(features):
    line = RibbonLine.__new__(RibbonLine)
    object.__setattr__(line, "closed", False)
    return Run(line=line, features=features, series=BorderTest.Config().build()(features))


def kept(features, seed=0, **settings):
    finder = SectionBorderFinder.Config(surrogates=25, **settings).build()
    (found,) = finder._above_surrogates([run_of(features)], np.random.default_rng(seed))
    return found.series.borders


def test_surrogates_have_the_spectra_of_the_series_and_no_two_are_alike():
    rng = np.random.default_rng(0)
    series = slow_change(300, rng)
    many = [surrogate(series, rng) for _ in range(50)]
    assert np.allclose([one.mean(0) for one in many], series.mean(0), atol=1.0)
    lag = [np.mean([np.corrcoef(one[:-k].T, one[k:].T)[:10, 10:].diagonal() for one in many]) for k in (1, 5, 20)]
    true = [np.corrcoef(series[:-k].T, series[k:].T)[:10, 10:].diagonal().mean() for k in (1, 5, 20)]
    assert lag == pytest.approx(true, abs=0.1)
    between = np.mean([np.corrcoef(one.T) for one in many], axis=0)
    assert np.abs(between - np.corrcoef(series.T)).mean() < 0.1
    assert not np.allclose(many[0], many[1])


def test_slow_change_has_borders_by_the_test_alone_and_none_above_surrogates():
    plain = sum(len(run_of(slow_change(400, np.random.default_rng(seed))).series.borders) for seed in range(12))
    above = sum(bool(kept(slow_change(400, np.random.default_rng(seed)))) for seed in range(12))
    assert plain > 50
    assert above <= 2  # about one of twenty series by chance


def test_a_sharp_border_rises_above_surrogates():
    rng = np.random.default_rng(3)
    series = slow_change(400, rng)
    series[200:] += 4 * np.where(np.arange(10) % 2, 1, -1)
    (border,) = [one for one in kept(series) if abs(one.place - 199) <= 2]
    assert 0 < border.q <= 0.05
    assert kept(series, false_share=1.0)


def test_chances_and_false_shares_are_those_of_their_definitions():
    null = np.arange(99.0)
    assert chances(np.array([200.0, 98.0, 49.0, -1.0]), null) == pytest.approx([0.01, 0.02, 0.51, 1.0])
    assert chances(np.array([5.0]), np.zeros(0)) == pytest.approx([1.0])
    p = np.array([0.04, 0.01, 0.9, 0.02])
    assert adjusted(p) == pytest.approx([0.16 / 3, 0.04, 0.9, 0.04])
    places, heights = summits(np.array([np.nan, 1, 3, 2, 0, 5, np.nan]), 2)
    assert places.tolist() == [2, 5]
    assert heights.tolist() == [3, 5]
    assert lowest_near([3, 40], places, np.array([0.2, 0.1]), 2).tolist() == [0.1, 1.0]
    assert summits(np.zeros(0), 2)[0].tolist() == []


def test_settings_out_of_range_are_refused():
    for wrong in ({"surrogates": -1}, {"false_share": 0.0}, {"surrogates": 24}):
        with pytest.raises(SettingError):
            SectionBorderFinder.Config(**wrong)

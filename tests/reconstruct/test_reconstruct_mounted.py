"""How sections lie on the glass: chains of ways, and what is turned comes to lie right."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from meshgnn.source.sections import read_stack
from reconstruct import TissueStack
from reconstruct.steps.align import AlignSections
from reconstruct.steps.mounting import CheckMounting, exchanged, missed_turns, oddness, realigned, ways
from reconstruct.steps.tissue import ClassifyTissue


@pytest.fixture(scope="module")
def tissue(straight: Path) -> TissueStack:
    return ClassifyTissue.Config(pixel_mm=0.4).build()(read_stack(straight))


def fits(way: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[N, 3, 4] differences of sections that lie in the given ways: small in the way that they lie to each other."""
    fit = np.full((len(way), 3, 4), np.nan)
    for step in (1, 2):
        between = way[:-step] ^ way[step:]
        fit[: len(between), step - 1] = 2.0 + 0.2 * rng.standard_normal((len(between), 4))
        fit[np.arange(len(between)), step - 1, between] = 0.6 + 0.3 * step
    return fit


@pytest.mark.parametrize("count", [3, 4, 9, 30])
def test_any_ways_of_fewer_than_half_are_found(count: int, rng: np.random.Generator) -> None:
    planted = np.zeros(count, np.int64)
    chosen = rng.permutation(count)[: (count - 1) // 2]
    planted[chosen] = rng.integers(1, 4, len(chosen))
    found, sure = ways(fits(planted, rng))
    np.testing.assert_array_equal(found, planted)
    assert (sure > 0).all()


def test_nothing_known_is_nothing_said() -> None:
    for count in (0, 1, 2, 5):
        found, sure = ways(np.full((count, 3, 4), np.nan))
        assert not found.any()
        assert (sure < 0.2).all()
        assert np.isinf(oddness(np.full((count, 3), np.nan))).all()
        assert np.isinf(exchanged(np.full((count, 3), np.nan))).all()


def test_a_turned_section_is_aligned_as_if_it_lay_right(tissue: TissueStack) -> None:
    align = AlignSections.Config(rigid_rounds=6, affine_rounds=0).build()
    places = (7, 13)
    outer, white = tissue.outer.copy(), tissue.white.copy()
    for k in places:
        outer[k], white[k] = outer[k, ::-1, ::-1], white[k, ::-1, ::-1]
    # The image's middle lies where the grid's middle lay.
    last = (np.array(outer.shape[1:]) - 1) * tissue.pixel_mm
    origin = tissue.origin_mm.copy()
    origin[list(places)] = 2 * tissue.centre_mm[list(places)] - origin[list(places)] - last
    turned = replace(tissue, outer=outer, white=white, origin_mm=origin)
    right, found = align(tissue), realigned(align, turned, places, "coronal", lambda *_: None)
    points = np.stack(np.meshgrid(np.arange(-10, 11, 10.0), np.arange(-20, 21, 20.0), indexing="ij"), -1)
    for k in range(len(tissue.index)):
        there = found.map(k, points)
        if k in places:
            there = 2 * tissue.centre_mm[k] - there
        np.testing.assert_allclose(there, right.map(k, points), atol=1e-3)
    mounting = CheckMounting.Config().build()(turned, align(turned))
    half = replace(mounting, way=np.isin(np.arange(len(outer)), places).astype(int), sure=np.ones(len(outer)))
    assert missed_turns(right, half, 0.4) == places
    assert missed_turns(found, half, 0.4) == ()

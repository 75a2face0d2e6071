"""Depth profiles of a slab whose staining is known: however it lies in the section, the same profile comes out."""

import numpy as np
import pytest

from features.profiles import DepthProfiles, ProfileFeatures
from meshgnn.errors import InputError
from meshgnn.graph import NodeLocations
from meshgnn.progress import silent
from meshgnn.sockets import Brain, FeatureMaker
from meshgnn.source.sections import SectionStack, write_tiff
from tests.features.slab import PIXEL_UM, SHAPE, density, normal, slab, with_surfaces_off


def expected(depths=24):
    value = density((np.arange(depths) + 0.5) / depths)
    return value / np.median(value)


def check(table, tolerance=0.1):
    """Levels halfway up an edge lie some 0.015 of the depth off where layers rise towards it, 0.1 at the steepest."""
    assert table.mask.all()
    assert np.isfinite(table.values).all()
    relative = table.values / np.median(table.values, axis=1, keepdims=True)
    np.testing.assert_allclose(relative[:, 1:-1], np.tile(expected()[1:-1], (len(relative), 1)), atol=tolerance)


@pytest.mark.parametrize("angle", [-90, 90, 0, 180, 37, -120])
def test_the_profile_is_known_however_the_slab_is_turned(tmp_path, angle):
    graph, stack = slab(tmp_path, normal(angle))
    check(DepthProfiles.Config(ends="mesh").build().make(graph, stack), tolerance=0.04)
    maker = DepthProfiles.Config().build()
    table = maker.make(graph, stack)
    check(table)
    assert table.columns[0] == "depth_00"
    assert table.columns[-1] == "depth_23"
    assert table.encoder == maker.identity()
    features = ProfileFeatures.Config().build()
    assert isinstance(features, FeatureMaker)
    whole = Brain(graph=graph, sections=stack)
    assert features.fit([whole], tmp_path, silent) == []
    np.testing.assert_array_equal(features.make(whole, tmp_path, silent).values, table.values)


@pytest.mark.parametrize("oblique", [-50, -25, 25, 50])
@pytest.mark.parametrize("beside", [-0.5, 0.0, 0.5])
def test_slanting_cuts_give_the_same_profile(tmp_path, oblique, beside):
    check(DepthProfiles.Config().build().make(*slab(tmp_path, normal(-70, oblique), beside_mm=beside)))


@pytest.mark.parametrize(("pial_mm", "white_mm"), [(0.4, 0.0), (-0.4, 0.0), (0.0, 0.5), (0.3, -0.5), (-0.4, -0.4)])
def test_lines_end_where_the_section_shows_it(tmp_path, pial_mm, white_mm):
    """Surfaces that lie beside the tissue's edges do not change the profile, unless lines are to end at them."""
    off, stack = with_surfaces_off(tmp_path, -75, pial_mm, white_mm)
    check(DepthProfiles.Config().build().make(off, stack), tolerance=0.2)
    with pytest.raises(AssertionError):
        check(DepthProfiles.Config(ends="mesh").build().make(off, stack), tolerance=0.2)


def test_without_white_matter_in_sight_the_mesh_says_where_cortex_ends(tmp_path):
    """A stain that does not tell white matter from cortex moves no end."""
    up = normal(-90)
    found = []
    for ends in ("seen", "mesh"):
        graph, stack = slab(tmp_path, up, spoil=lambda image, glass: image.__setitem__(image < glass - 5, glass // 2))
        found.append(DepthProfiles.Config(ends=ends).build().make(graph, stack))
    np.testing.assert_array_equal(found[0].mask, found[1].mask)
    np.testing.assert_allclose(found[0].values, found[1].values, atol=0.08)


def test_a_mirrored_section_is_turned_back(tmp_path):
    check(DepthProfiles.Config().build().make(*slab(tmp_path, normal(-60), mirrored=True)))


def test_stain_and_glass_do_not_matter(tmp_path):
    (tmp_path / "pale").mkdir()
    maker = DepthProfiles.Config().build()
    one = maker.make(*slab(tmp_path, normal(-80)))
    two = maker.make(*slab(tmp_path / "pale", normal(-80), gain=0.7, glass=225.0))
    np.testing.assert_allclose(one.values, two.values, atol=0.05)


def test_tears_are_bridged_and_lost_tissue_is_masked(tmp_path):
    def tear(image, glass):
        image[118:123] = glass

    def loss(image, glass):
        image[100:] = glass

    maker = DepthProfiles.Config().build()
    torn = maker.make(*slab(tmp_path, normal(-90), spoil=tear))
    assert torn.mask.all()
    assert np.isfinite(torn.values).all()
    assert torn.values.min() > 0.3
    assert not maker.make(*slab(tmp_path, normal(-90), spoil=loss)).mask.any()


def test_nodes_at_the_border_and_beyond_are_finite_or_masked(tmp_path):
    for centre in ((7.8, 0.0, 0.0), (0.0, 0.0, 5.9), (-7.9, 0.0, -5.9), (40.0, 0.0, 0.0)):
        table = DepthProfiles.Config().build().make(*slab(tmp_path, normal(-45), centre_mm=centre))
        assert np.isfinite(table.values).all()
    assert not table.mask.any()


def test_hidden_and_slanting_nodes_are_masked(tmp_path):
    graph, stack = slab(tmp_path, normal(-90, 50))
    assert not DepthProfiles.Config(max_obliqueness_deg=45).build().make(graph, stack).mask.any()
    unseen = NodeLocations(
        **{name: getattr(graph.locations, name) for name in graph.locations.__slots__ if name != "observed"},
        observed=np.arange(graph.n_nodes) > 3,
    )
    mask = DepthProfiles.Config().build().make(graph._replace(locations=unseen), stack).mask
    np.testing.assert_array_equal(mask, np.arange(graph.n_nodes) > 3)


def test_what_is_missing_is_told(tmp_path):
    graph, stack = slab(tmp_path, normal(-90))
    maker = DepthProfiles.Config().build()
    with pytest.raises(InputError, match="locations"):
        maker.make(graph._replace(locations=None), stack)
    with pytest.raises(InputError, match="thickness"):
        maker.make(graph._replace(surfaces={}), stack)
    with pytest.raises(InputError, match="space"):
        maker.make(graph, SectionStack(sections=stack.sections, space="other"))
    write_tiff(stack.sections[0].path, np.zeros(SHAPE, np.uint8), PIXEL_UM)
    with pytest.raises(InputError, match="bright glass"):
        maker.make(graph, stack)
    with pytest.raises(InputError, match="depths"):
        DepthProfiles.Config(depths=1)

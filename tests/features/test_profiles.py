"""Depth profiles of a slab whose staining is known: however it lies in the section, the same profile comes out."""

from pathlib import Path

import numpy as np
import pytest

from features.profiles import DepthProfiles, ProfileFeatures
from meshgnn.errors import InputError
from meshgnn.graph import MeshGraph, NodeLocations
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.progress import silent
from meshgnn.sockets import Brain, FeatureMaker
from meshgnn.source.sections import AXES, Section, SectionStack, write_tiff

SHAPE, PIXEL_UM, THICK_MM, SPACE = (240, 320), 50.0, 2.5, "slab"
COLUMN, ROW, ALONG = AXES["coronal"]


def density(depth):
    """Optical density of the slab: a ramp with a dark band at 0.55, white matter below, glass above."""
    inside = 0.3 + 0.4 * depth + 0.3 * np.exp(-(((depth - 0.55) / 0.1) ** 2))
    return np.where(depth < 0, 0, np.where(depth > 1, 0.2, inside))


def normal(angle_deg, oblique_deg=0.0):
    """Unit vector towards pial: in the section at `angle_deg` (column axis towards row axis), tilted out of it."""
    flat = np.cos(np.radians(angle_deg)) * COLUMN + np.sin(np.radians(angle_deg)) * ROW
    return np.cos(np.radians(oblique_deg)) * flat + np.sin(np.radians(oblique_deg)) * ALONG


def slab(folder: Path, n, beside_mm=0.0, gain=1.0, glass=240.0, mirrored=False, centre_mm=(0.5, 0.0, -0.3), spoil=None):
    """A section through a flat slab with normal `n`, and nodes on its midsurface `beside_mm` from the section."""
    section = Section(
        path=folder / "s.tif", index=3, position_mm=0.0, pixel_um=PIXEL_UM, thickness_um=20, shape=SHAPE,
        mirrored=mirrored,
    )  # fmt: skip
    centre = np.array(centre_mm)
    row, column = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    parts = [
        np.exp(-gain * density(0.5 - (section.pixel_to_mm(row + up, column + left) - centre) @ n / THICK_MM))
        for up in (-0.375, -0.125, 0.125, 0.375) for left in (-0.375, -0.125, 0.125, 0.375)
    ]  # fmt: skip
    image = np.round(glass * np.mean(parts, axis=0)).astype(np.uint8)
    image[[0, -1], :] = image[:, [0, -1]] = round(glass)
    if spoil is not None:
        spoil(image, round(glass))
    write_tiff(section.path, image[:, ::-1] if mirrored else image, PIXEL_UM)

    flat = n - (n @ ALONG) * ALONG
    tangent = np.cross(ALONG, flat / np.linalg.norm(flat))
    # The midsurface's own direction out of the section: nodes move along it, never off the surface.
    rise = ALONG - (ALONG @ n) / (flat @ flat) * flat
    steps = [np.linspace(-2, 2, 9), beside_mm + np.array([-0.05, 0.05])]
    a, b = (grid.ravel() for grid in np.meshgrid(*steps, indexing="ij"))
    nodes = centre + a[:, None] * tangent + b[:, None] * rise
    corner = np.arange(0, 16, 2)
    faces = np.concatenate([np.c_[corner, corner + 1, corner + 2], np.c_[corner + 1, corner + 3, corner + 2]])
    row, column, off = section.mm_to_pixel(nodes)
    count = len(nodes)
    places = NodeLocations(
        section=np.full(count, 3), row_px=row, column_px=column,
        normal_angle_deg=np.full(count, np.degrees(np.arctan2(flat @ ROW, flat @ COLUMN))),
        obliqueness_deg=np.full(count, np.degrees(np.arcsin(abs(n @ ALONG)))), residual_mm=np.abs(off),
        observed=np.ones(count, bool),
    )  # fmt: skip
    graph = MeshGraph(
        brain="slab",
        meshes=(SurfaceMesh(vertices_mm=nodes, faces=faces, hemisphere="L", space=SPACE),),
        surfaces={"pial": nodes + THICK_MM / 2 * n, "white": nodes - THICK_MM / 2 * n},
        locations=places,
    )
    return graph, SectionStack(sections=(section,), space=SPACE, folder=folder)


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
    up = normal(-75)
    graph, stack = slab(tmp_path, up)
    moved = {"pial": graph.surfaces["pial"] + pial_mm * up, "white": graph.surfaces["white"] + white_mm * up}
    middle = (moved["pial"] + moved["white"]) / 2
    row, column, _ = stack.at(3).mm_to_pixel(middle)
    kept = {name: getattr(graph.locations, name) for name in graph.locations.__slots__}
    places = NodeLocations(**(kept | {"row_px": row, "column_px": column}))
    mesh = SurfaceMesh(vertices_mm=middle, faces=graph.meshes[0].faces, hemisphere="L", space=SPACE)
    off = graph._replace(meshes=(mesh,), surfaces=moved, locations=places)
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

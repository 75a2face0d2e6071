"""Straightened patches of a slab whose staining is known: rows are depth, wherever the mesh says the cortex ends."""

from dataclasses import replace

import numpy as np
import pytest

from features import extract as extraction
from features import pretrain as pretraining
from features.model_files import load_encoder
from features.node_data.cortical_patches import CorticalPatches
from meshgnn.errors import InputError, SettingError
from meshgnn.graph import NodeLocations
from meshgnn.sockets import Brain
from meshgnn.source.sections import write_tiff
from meshgnn.store import load_table
from meshgnn.testing import assert_node_data
from tests.features.sections import annotated_brain
from tests.features.slab import PIXEL_UM, density, normal, slab, with_surfaces_off

ROWS, COLUMNS, BEYOND = 24, 12, 0.12


def patches(graph, stack, **settings) -> CorticalPatches:
    config = CorticalPatches.Config(**{"size_px": (ROWS, COLUMNS), "pixel_um": 2 * PIXEL_UM, **settings})
    return config.build(Brain(graph=graph, sections=stack))


def expected(beyond=BEYOND):
    """[ROWS] density of the slab, in units of the median of its cortex."""
    depth = (np.arange(ROWS) + 0.5) / ROWS * (1 + 2 * beyond) - beyond
    return depth, density(depth) / np.median(density((np.arange(100) + 0.5) / 100))


def check(data, tolerance=0.12, beyond=BEYOND):
    """Ends are blurred by averaging, and lie some hundredths of the depth off where layers rise towards them."""
    found = data.read(np.flatnonzero(data.observed))
    depth, value = expected(beyond)
    inside = (depth > 0.07) & (depth < 0.93)
    np.testing.assert_allclose(
        found[:, inside], np.broadcast_to(value[inside, None], found[:, inside].shape), atol=tolerance
    )
    np.testing.assert_allclose(found[:, depth < -0.09], 0, atol=tolerance)
    np.testing.assert_allclose(found[:, depth > 1.09], value[-1], atol=tolerance)


@pytest.mark.parametrize("angle", [-90, 90, 0, 180, 37, -120])
def test_rows_are_depth_however_the_slab_is_turned(tmp_path, angle):
    data = patches(*slab(tmp_path, normal(angle)))
    assert data.observed.all()
    assert_node_data(data)
    check(data)


@pytest.mark.parametrize("oblique", [-50, 25])
@pytest.mark.parametrize("beside", [-0.5, 0.5])
def test_slanting_cuts_give_the_same_patch(tmp_path, oblique, beside):
    check(patches(*slab(tmp_path, normal(-70, oblique), beside_mm=beside)))


@pytest.mark.parametrize(("pial_mm", "white_mm"), [(0.4, 0.0), (-0.4, 0.0), (0.0, 0.5), (0.3, -0.5), (-0.4, -0.4)])
def test_columns_end_where_the_section_shows_it(tmp_path, pial_mm, white_mm):
    graph, stack = with_surfaces_off(tmp_path, -75, pial_mm, white_mm)
    check(patches(graph, stack), tolerance=0.25)
    with pytest.raises(AssertionError):
        check(patches(graph, stack, ends="mesh"), tolerance=0.25)


def test_every_column_ends_by_itself(tmp_path):
    """A surface that lies slantingly to the mesh's is straightened."""
    graph, stack = slab(tmp_path, normal(-90))
    places = {name: getattr(graph.locations, name) for name in graph.locations.__slots__}
    turned = graph._replace(locations=NodeLocations(**(places | {"normal_angle_deg": np.full(graph.n_nodes, -75.0)})))
    found = patches(turned, stack).read([8])[0]
    straight = patches(graph, stack).read([8])[0]
    assert np.abs(found - straight)[2:-2].max() < 0.2
    assert np.abs(patches(turned, stack, ends="mesh").read([8])[0] - straight).max() > 0.4


@pytest.mark.parametrize("pixel_um", [PIXEL_UM, 2 * PIXEL_UM])
def test_ends_are_found_at_any_resolution(tmp_path, pixel_um):
    """Of fine pixels, ends are looked for in an average; the patch itself is as fine as asked for."""
    data = patches(*slab(tmp_path, normal(-80)), pixel_um=pixel_um, size_px=(ROWS, 4))
    check(data)


def test_without_white_matter_in_sight_the_mesh_says_where_cortex_ends(tmp_path):
    up = normal(-90)
    found = []
    for ends in ("seen", "mesh"):
        graph, stack = slab(tmp_path, up, spoil=lambda image, glass: image.__setitem__(image < glass - 5, glass // 2))
        found.append(patches(graph, stack, ends=ends).read(np.arange(graph.n_nodes)))
    np.testing.assert_allclose(found[0][:, 4:], found[1][:, 4:], atol=0.1)


def test_a_mirrored_section_is_turned_back_and_stain_does_not_matter(tmp_path):
    check(patches(*slab(tmp_path, normal(-60), mirrored=True)))
    check(patches(*slab(tmp_path, normal(-60), gain=0.7, glass=225.0)))


def test_a_patch_does_not_depend_on_what_is_read_before(tmp_path):
    graph, stack = slab(tmp_path, normal(-80))
    one, other = patches(graph, stack), patches(graph, stack)
    last = one.read([graph.n_nodes - 1])
    np.testing.assert_array_equal(other.read(np.arange(graph.n_nodes))[-1:], last)


def test_nodes_beyond_the_image_and_lost_tissue_are_finite_and_counted(tmp_path):
    for centre in ((7.8, 0.0, 0.0), (0.0, 0.0, 5.9), (40.0, 0.0, 0.0)):
        data = patches(*slab(tmp_path, normal(-45), centre_mm=centre))
        assert np.isfinite(data.read(np.flatnonzero(data.observed))).all()
    assert data.damage.report()["without_tissue"] == data.observed.sum() > 0
    _, inside = data.read_masked([0])
    assert not inside.any()

    def loss(image, glass):
        image[:] = glass

    data = patches(*slab(tmp_path, normal(-90), spoil=loss))
    assert not data.read([0]).any()
    assert data.damage.report()["without_tissue"] == 1


def test_nodes_that_are_cut_too_slantingly_are_not_observed(tmp_path):
    graph, stack = slab(tmp_path, normal(-90, 50))
    assert not patches(graph, stack, max_obliqueness_deg=45.0).observed.any()
    with pytest.raises(InputError, match="lies on no section"):
        patches(graph, stack, max_obliqueness_deg=45.0).read([0])


def test_pixels_that_are_not_finite_are_refused_or_skipped(tmp_path):
    graph, stack = slab(tmp_path, normal(-90))
    path = stack.sections[0].path
    image = np.full(stack.sections[0].shape, 240, np.float32)
    image[100:150] = 120
    column = round(graph.locations.column_px[0])
    image[:, column - 5 : column + 5] = np.nan
    write_tiff(path, image, PIXEL_UM)
    with pytest.raises(InputError, match="not finite"):
        patches(graph, stack).read(np.arange(graph.n_nodes))
    data = patches(graph, stack, damaged="skip")
    found, good = data.read_checked(np.arange(graph.n_nodes))
    assert np.isfinite(found).all()
    assert data.damage.report()["damaged"] == (~good).sum() > 0
    assert good.any()


def test_the_key_and_the_format_tell_patches_apart(tmp_path):
    graph, stack = slab(tmp_path, normal(-90))
    thicker = {**graph.surfaces, "pial": graph.surfaces["pial"] + 0.2}
    assert patches(graph, stack).key() != patches(graph._replace(surfaces=thicker), stack).key()
    config = CorticalPatches.Config()
    for change in ({"ends": "mesh"}, {"beyond": 0.2}, {"size_px": (16, 32)}, {"pixel_um": 50.0}):
        assert replace(config, **change).item_format() != config.item_format()
    assert CorticalPatches.Config(size_px=(32,)).size_px == (32, 32)
    assert replace(config, cache_mb=1.0, damaged="skip").item_format() == config.item_format()


@pytest.mark.parametrize(
    ("settings", "what"),
    [({"size_px": (3, 8)}, "size_px"), ({"size_px": (8, 8, 8)}, "size_px"), ({"pixel_um": 0.0}, "pixel_um"),
     ({"beyond": 0.5}, "beyond"), ({"max_obliqueness_deg": 90.0}, "max_obliqueness_deg")],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(settings, what):
    with pytest.raises(SettingError, match=what):
        CorticalPatches.Config(**settings)


def test_what_is_missing_is_told(tmp_path):
    graph, stack = slab(tmp_path, normal(-90))
    with pytest.raises(InputError, match="thickness"):
        patches(graph._replace(surfaces={}), stack)
    with pytest.raises(SettingError, match="too coarse"):
        patches(graph, stack, pixel_um=20.0)


def test_the_commands_learn_from_straightened_patches_and_encode_them(tmp_path, capsys):
    stack, reconstruction = annotated_brain(tmp_path / "a")
    sets = [
        f"stacks={stack}", f"reconstructions={reconstruction}", "epochs=1", "epoch_steps=2", "data=CorticalPatches",
        "data.size_px=16", "encoder.widths=8,16", "encoder.depth_bands=2", "held_out=0",
    ]  # fmt: skip
    words = [word for one in sets for word in ("--set", one)]
    assert pretraining.main([*words, "--out", str(tmp_path / "encoder")]) == 0, capsys.readouterr().err
    encoder = load_encoder(tmp_path / "encoder")
    assert isinstance(encoder.data, CorticalPatches.Config)
    assert encoder.data.size_px == (16, 16)
    sets = [f"stack={stack}", f"reconstruction={reconstruction}", f"encoder={tmp_path / 'encoder'}"]
    words = [word for one in sets for word in ("--set", one)]
    assert extraction.main([*words, "--out", str(tmp_path / "table")]) == 0, capsys.readouterr().err
    table = load_table(tmp_path / "table" / "cyto")
    assert table.mask[1:].all()
    assert not table.mask[0]
    assert np.isfinite(table.values).all()
    coarse = [*words, "--set", "pixel_um=50", "--out", str(tmp_path / "none")]
    assert extraction.main(coarse) == 2
    assert "pixel_um" in capsys.readouterr().err

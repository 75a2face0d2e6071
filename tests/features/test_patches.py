"""Patches: upright at every angle, mirrored sections, millimetres kept, borders masked, one decoding per section."""

import numpy as np
import pytest

from features.locations import read_locations
from features.node_data.section_patches import SectionPatches
from meshgnn.errors import InputError
from meshgnn.sockets import NodeData
from meshgnn.source import sections as section_files
from meshgnn.source.annotations import annotated_labels, read_annotations
from meshgnn.source.sections import read_stack
from tests.features.sections import annotated_brain, locations, write_stack

SHAPE = (220, 260)


def ramp(angle_deg: float) -> np.ndarray:
    """Grey that grows along a direction counted from the column axis towards the row axis; 128 in the middle."""
    rows, columns = np.indices(SHAPE)
    along = (columns - 130) * np.cos(np.radians(angle_deg)) + (rows - 110) * np.sin(np.radians(angle_deg))
    return np.clip(128 + 0.6 * along, 0, 255).astype(np.float32)


def sampler(folder, images, where, *, mirrored=False, pixel_um=100.0, **config):
    write_stack(folder, images, pixel_um=pixel_um, mirrored=mirrored)
    settings = SectionPatches.Config(**{"values": "grey", "size_px": 16, **config})
    return SectionPatches(settings, read_stack(folder, mirrored="turn", minimum=1), where)


@pytest.mark.parametrize("angle", [-180, -90, -30, 0, 45, 90, 135, 171.5])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_normal_points_up_at_every_angle_and_on_mirrored_sections(tmp_path, angle, mirrored):
    image = ramp(angle)
    source = sampler(
        tmp_path, [image[:, ::-1] if mirrored else image], locations(0, [110.0], [130.0], angle), mirrored=mirrored
    )
    assert isinstance(source, NodeData)
    patch = source.read([0])[0]
    np.testing.assert_allclose(np.diff(patch, axis=0), -0.6, atol=2e-3)
    np.testing.assert_allclose(np.diff(patch, axis=1), 0, atol=2e-3)
    assert patch.mean() == pytest.approx(128, abs=0.01)


def test_an_upright_patch_is_turned_not_flipped_and_otherwise_left_as_it_lies(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 200, SHAPE).astype(np.float32)
    where = locations(0, [100.5] * 3, [120.5] * 3, [-90.0, 0.0, 90.0])
    up, right, down = sampler(tmp_path, [image], where).read([0, 1, 2])
    np.testing.assert_allclose(up, image[93:109, 113:129], rtol=1e-4)
    np.testing.assert_allclose(right, np.rot90(up), rtol=1e-4)
    np.testing.assert_allclose(down, np.rot90(up, 2), rtol=1e-4)
    lying = sampler(tmp_path, [image], where, upright=False).read([0, 1, 2])
    np.testing.assert_allclose(lying, np.stack([up] * 3), rtol=1e-4)


@pytest.mark.parametrize(("pixel_um", "size"), [(50.0, 64), (100.0, 32), (200.0, 16), (230.0, 14)])
def test_the_field_of_view_is_kept_in_millimetres(tmp_path, pixel_um, size):
    rows, columns = np.indices((400, 400))
    image = (100 + 60 * np.exp(-((rows - 190.5) ** 2 + (columns - 210.5) ** 2) / (2 * 12.0**2))).astype(np.float32)
    where = locations(0, [190.5], [210.5])
    write_stack(tmp_path, [image], pixel_um=50.0)
    config = SectionPatches.Config(size_px=size, pixel_um=pixel_um, values="grey")
    source = SectionPatches(config, read_stack(tmp_path, minimum=1), where)
    patch = source.read([0])[0] - 100
    offset = (np.arange(size) - (size - 1) / 2) * pixel_um / 1000
    assert patch.sum() * (pixel_um / 1000) ** 2 == pytest.approx(60 * 2 * np.pi * 0.6**2, rel=0.02)
    assert abs((patch.sum(0) * offset).sum() / patch.sum()) < 0.005
    assert abs((patch.sum(1) * offset).sum() / patch.sum()) < 0.005


def test_a_fine_pattern_is_averaged_away_not_aliased(tmp_path):
    image = np.tile(np.array([[0, 200], [200, 0]], np.uint8), (100, 100))
    write_stack(tmp_path, [image], pixel_um=25.0)
    where = locations(0, [100.0], [100.0], 20.0)
    source = SectionPatches(
        SectionPatches.Config(size_px=16, pixel_um=100.0, values="grey"), read_stack(tmp_path, minimum=1), where
    )
    np.testing.assert_allclose(source.read([0])[0], 100 / 255, atol=1e-5)


def test_outside_the_image_is_glass_and_masked(tmp_path):
    image = np.full(SHAPE, 100, np.uint8)
    image[:, 150:] = 240
    where = locations(0, [0.5, 110.0, 110.0], [130.0, 130.0, 900.0])
    source = sampler(tmp_path, [image], where, values="density")
    patches, inside = source.read_masked([0, 1, 2])
    assert not inside[0, :7].any()
    assert inside[0, 7:].all()
    assert inside[1].all()
    assert not inside[2].any()
    assert (patches[~inside] == 0).all()
    np.testing.assert_allclose(patches[inside], 1.0, atol=0.02)
    with pytest.raises(InputError, match="node 1 lies on no section"):
        sampler(tmp_path, [image], locations(0, [5.0, 5.0], [5.0, 5.0], observed=[True, False])).read([0, 1])
    with pytest.raises(InputError, match="section 7"):
        sampler(tmp_path, [image], locations(7, [5.0], [5.0]))


def test_staining_strength_is_taken_out(tmp_path):
    rng = np.random.default_rng(0)
    density = rng.uniform(0.2, 0.9, SHAPE) * (np.indices(SHAPE)[0] > 60)
    images = [np.round(240 * np.exp(-gain * density)).astype(np.uint8) for gain in (0.7, 1.0, 1.4)]
    where = locations([0, 1, 2], [140.0] * 3, [130.0] * 3)
    patches = sampler(tmp_path, images, where, values="density").read([0, 1, 2])
    np.testing.assert_allclose(patches[0], patches[1], atol=0.04)
    np.testing.assert_allclose(patches[2], patches[1], atol=0.04)


@pytest.mark.parametrize("mirrored", [False, True])
def test_large_sections_are_read_tile_by_tile_once_each(tmp_path, monkeypatch, mirrored):
    from features import section_cache
    from meshgnn.source.tiff import TiffImage

    rng = np.random.default_rng(0)
    image = rng.integers(0, 200, (300, 400)).astype(np.uint8)
    nodes = rng.uniform([0, 0], [300, 400], (60, 2))
    where = locations(0, nodes[:, 0], nodes[:, 1], rng.uniform(-180, 180, 60).astype(np.float32))
    whole = sampler(tmp_path, [image], where, mirrored=mirrored).read(range(60))
    monkeypatch.setattr(section_cache, "BLOCK_PX", 128)
    monkeypatch.setattr(section_cache, "_CELL_PX", 64)
    read, real = [], TiffImage.tile
    monkeypatch.setattr(TiffImage, "tile", lambda self, number, level=0: read.append(number) or real(self, number))
    source = sampler(tmp_path, [image], where, mirrored=mirrored)
    source._cache.section(0)
    read.clear()  # grey levels
    np.testing.assert_allclose(source.read(range(60)), whole, atol=1e-6)
    assert 60 < len(read) == len(set(read)) <= 10 * 13  # each of the tiles once
    np.testing.assert_allclose(source.read([5, 3]), whole[[5, 3]], atol=1e-6)
    assert len(read) == len(set(read))
    poor = sampler(tmp_path, [image], where, mirrored=mirrored, cache_mb=0.005)
    np.testing.assert_allclose(poor.read(range(60)), whole, atol=1e-6)
    order = source.reading_order(np.arange(60))
    assert sorted(order.tolist()) == list(range(60))


def test_nodes_get_the_area_drawn_around_them(tmp_path):
    stack_folder, reconstruction = annotated_brain(tmp_path)
    stack, where = read_stack(stack_folder), read_locations(reconstruction)["L"][1]
    labels = annotated_labels(where, read_annotations(stack_folder), stack)
    expected = np.where(where.observed & (where.section < 3), where.column_px // 60, -1)
    np.testing.assert_array_equal(labels, expected)
    (reconstruction / "sub-x_hemi-L_desc-sections.tsv").write_text("section\trow_px\n0\t1\n")
    with pytest.raises(InputError, match="column 'column_px' is missing"):
        read_locations(reconstruction)
    with pytest.raises(InputError, match="reconstruct the stack first"):
        read_locations(tmp_path)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_pyramid_is_read_at_the_level_that_serves(tmp_path, monkeypatch, mirrored):
    """Averages of four pixels come from the level of two, and are those of the full image but for its rounding."""
    from features import section_cache
    from meshgnn.source.tiff import TiffImage
    from tests import image_formats

    image = np.random.default_rng(0).integers(0, 200, (300, 404)).astype(np.uint8)
    monkeypatch.setattr(section_cache, "BLOCK_PX", 64)
    monkeypatch.setattr(section_cache, "_CELL_PX", 64)
    read, real, blocks = [], TiffImage.tile, {}
    monkeypatch.setattr(
        TiffImage, "tile", lambda self, number, level=0: read.append(level) or real(self, number, level)
    )
    for kind in ("plain", "pyramid"):
        stack = write_stack(tmp_path / kind, [image], pixel_um=50.0, mirrored=mirrored)
        if kind == "pyramid":
            image_formats.pyramid(stack / "s0.tif", image, 50.0, steps=(2, 8))
        cache = section_cache.SectionCache(section_files.read_stack(stack, minimum=1), 200.0, 1 << 24)
        reduced = cache.section(0)
        read.clear()
        blocks[kind] = [cache.cell(reduced, down, across) for down in range(2) for across in range(2)]
        assert set(read) == {1 if kind == "pyramid" else 0}
    for one, other in zip(blocks["plain"], blocks["pyramid"]):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=0.51)

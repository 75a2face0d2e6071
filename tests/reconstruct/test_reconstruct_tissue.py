"""Tissue and grids: distances, strands across sulci, sections of different pixel sizes, stain the wrong way round."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from meshgnn.errors import InputError
from meshgnn.source.images import open_image
from meshgnn.source.sections import read_stack, write_tiff
from reconstruct.bridges import strands
from reconstruct.distance import to_background
from reconstruct.sampling import gradient, sample
from reconstruct.steps.tissue import ClassifyTissue
from tests.reconstruct.phantom import read_rows, write_table


@pytest.mark.parametrize("shape", [(30, 41, 22), (50, 61), (1, 9), (7, 1, 5)])
def test_distances_are_those_of_scipy(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    for share in (0.3, 0.9, 0.99):
        mask = rng.random(shape) < share
        mask.flat[0] = False
        np.testing.assert_allclose(to_background(mask), ndimage.distance_transform_edt(mask), rtol=1e-6)


def test_samples_are_those_of_scipy(rng: np.random.Generator) -> None:
    field = rng.standard_normal((7, 8, 9)).astype(np.float32)
    points = rng.uniform(-1, 9, (200, 3))
    exact = ndimage.map_coordinates(field.astype(np.float64), points.T, order=1, mode="nearest")
    np.testing.assert_allclose(sample(field, points), exact, atol=1e-5)
    slope = np.indices((9, 9, 9), dtype=np.float32)[1]
    np.testing.assert_allclose(gradient(slope, np.full((1, 3), 4.2)), [[0, 1, 0]], atol=1e-5)


def test_a_strand_across_a_sulcus_is_found_and_nothing_else() -> None:
    tissue = np.zeros((120, 160), bool)
    tissue[20:110, 10:150] = True
    tissue[20:80, 70:90] = False  # a sulcus, open above
    whole, none = strands(tissue, 13, 25)
    assert not whole.any()
    assert len(none) == 0
    bridged = tissue.copy()
    bridged[40:46, 70:90] = True
    found, places = strands(bridged, 13, 25)
    assert len(places) == 1
    np.testing.assert_allclose(places[0, :2], [42.5, 79.5], atol=1.5)
    assert found[40:46, 72:88].all()
    assert found.sum() < 200
    touching = tissue.copy()
    touching[20:60, 70:90] = True  # two banks that lie together: no strand
    assert not strands(touching, 13, 25)[0].any()


def test_sections_of_different_pixel_sizes_lie_on_one_grid(straight: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(straight, folder)
    rows = read_rows(folder)
    for k, pixel in ((4, 130.0), (9, 400.0)):
        with open_image(folder / str(rows[k][0])) as image:
            grey = image.read().astype(np.float64)
        other = ndimage.zoom(grey, 200 / pixel, order=1, grid_mode=True, mode="nearest")
        write_tiff(folder / str(rows[k][0]), np.clip(other, 0, 255).astype(np.uint8), pixel)
        rows[k][3] = pixel
    write_table(folder, rows)
    plain, mixed = (ClassifyTissue.Config().build()(read_stack(f)) for f in (straight, folder))
    np.testing.assert_array_equal(plain.index, mixed.index)
    for a, b, pixel in zip(plain.outer, mixed.outer, mixed.image_px_mm):
        size = (a < 0).sum() * plain.pixel_mm**2, (b < 0).sum() * mixed.pixel_mm**2
        assert size[0] == pytest.approx(size[1], rel=0.03), pixel
    middle = [
        stack.origin_mm[k] + np.argwhere(stack.outer[k] < 0).mean(0) * stack.pixel_mm + stack.image_px_mm[k] / 2
        for k in (4, 9)
        for stack in (plain, mixed)
    ]
    np.testing.assert_allclose(middle[0], middle[1], atol=0.3)
    np.testing.assert_allclose(middle[2], middle[3], atol=0.3)


def test_bright_tissue_is_told(straight: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dark"
    shutil.copytree(straight, folder)
    for path in folder.glob("*.tif"):
        with open_image(path) as image:
            grey = image.read()
        write_tiff(path, 255 - grey, 200)
    with pytest.raises(InputError, match="invert the image"):
        ClassifyTissue.Config().build()(read_stack(folder))


def test_a_table_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "sections.csv").write_bytes(b"\x00\x81bad")
    with pytest.raises(InputError, match="UTF-8"):
        read_stack(tmp_path)

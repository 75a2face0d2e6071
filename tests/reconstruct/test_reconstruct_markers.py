"""Markers of VisuAlign: the mesh is as good as without the warp that they tell."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from meshgnn.source.sections import open_image, read_stack, write_tiff
from tests.reconstruct.phantom import config, write_stack
from tests.reconstruct.test_reconstruct_given import PIXEL, error_mm, true_matrix, write_quicknii

Floats = NDArray[np.float64]
GRID = np.linspace(0, 1, 17)


def moved(shares: Floats, index: int) -> Floats:
    """[..., 2] (x, y), where the warp of section `index` takes shares [..., 2] of the picture: by up to 1.4 mm."""
    x, y = shares[..., 0], shares[..., 1]
    rim = np.sin(np.pi * x) * np.sin(np.pi * y)
    return (
        shares + 0.015 * np.stack([np.sin(4 * y + 2.1 * index), np.cos(4 * x + 1.3 * index)], axis=-1) * rim[..., None]
    )


def warp_image(path: Path, index: int) -> None:
    """Write the image with its tissue where `moved` takes it."""
    with open_image(path) as image:
        grey = image.read().astype(float)
    rows, columns = grey.shape
    seen = np.stack(np.meshgrid(*((np.arange(n) + 0.5) / n for n in (columns, rows))), axis=-1)
    source = seen.copy()
    for _ in range(30):
        source += seen - moved(source, index)
    places = [source[..., 1] * rows - 0.5, source[..., 0] * columns - 0.5]
    warped = ndimage.map_coordinates(grey, places, order=1, mode="nearest")
    write_tiff(path, np.clip(warped, 0, 255).astype(np.uint8), PIXEL * 1000)


@pytest.fixture(scope="module")
def warped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A stack whose sections are turned, shifted and warped, and the series with markers that tells how."""
    folder = tmp_path_factory.mktemp("markers") / "stack"
    poses = write_stack(folder, shift_mm=1.5, turn_deg=3)
    stack = read_stack(folder)
    matrices = {n: true_matrix(*poses[n], stack.at(n).position_mm) for n in poses}
    series = write_quicknii(folder.parent / "series.json", stack, matrices, 0.5, np.zeros(3))
    about = json.loads(series.read_text())
    for one in about["slices"]:
        linear = np.stack(np.meshgrid(GRID, GRID), axis=-1).reshape(-1, 2)
        size = np.array([one["width"], one["height"]])
        one["markers"] = np.hstack([linear * size, moved(linear, one["nr"]) * size]).tolist()
    series.write_text(json.dumps(about))
    for section in stack:
        warp_image(section.path, section.index)
    return folder, series


def test_the_warp_is_undone_and_kept(warped: tuple[Path, Path], tmp_path: Path) -> None:
    folder, series = warped
    settings = [f"source.registration={series}", "source.poses=keep"]
    whole = config(folder, *settings).build().run(tmp_path / "whole")
    about = json.loads(series.read_text())
    for one in about["slices"]:
        one["markers"] = []
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(about))
    linear = config(folder, f"source.registration={bare}", "source.poses=keep").build().run(tmp_path / "linear")
    assert error_mm(whole) < 0.6 * error_mm(linear), (error_mm(whole), error_mm(linear))
    # Nodes lie on the sections where the warp says, also for those who read the mesh's folder.
    from meshgnn.source.aligned import read_aligned

    aligned = read_aligned(tmp_path / "whole", folder)
    places = whole.locations[0]
    seen = np.flatnonzero(places.observed)[::50]
    for node, point in zip(seen, whole.midsurfaces[0].mesh.vertices_mm[seen]):
        row, column, _ = aligned.at(int(places.section[node])).mm_to_pixel(point)
        np.testing.assert_allclose([places.row_px[node], places.column_px[node]], [row, column], atol=0.6)


def test_markers_are_told_where_they_are_not_used(warped: tuple[Path, Path], tmp_path: Path) -> None:
    folder, series = warped
    result = config(folder, f"source.registration={series}", "align.rigid_rounds=2").build().run(tmp_path / "start")
    assert any("used by --set source.poses=keep alone" in line for line in result.report["warnings"])


def test_markers_that_fold_a_section_leave_its_linear_part(warped: tuple[Path, Path], tmp_path: Path) -> None:
    folder, series = warped
    copy = shutil.copytree(folder, tmp_path / "stack")
    about = json.loads(series.read_text())
    one = about["slices"][3]
    one["markers"] = [[10, 10, 60, 10], [60, 10, 10, 10], [30, 60, 30, 60]]
    changed = tmp_path / "fold.json"
    changed.write_text(json.dumps(about))
    result = config(copy, f"source.registration={changed}", "source.poses=keep").build().run(tmp_path / "out")
    assert any(f"section {one['nr']} has markers that fold the picture" in line for line in result.report["warnings"])

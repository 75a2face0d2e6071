"""How sections come to lie on the glass: scans cropped one by one, sections mounted upside down."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from meshgnn.graph import MeshGraph
from meshgnn.source.sections import open_section, read_stack
from reconstruct import Reconstruction, read_aligned, read_graph
from reconstruct.judge import Surface
from reconstruct.steps.align import AlignSections
from reconstruct.steps.tissue import ClassifyTissue
from tests.reconstruct.phantom import change, config, read_rows, write_table

PIXEL = 0.2


def apart(one: MeshGraph, two: MeshGraph) -> float:
    """Mean distance in mm of the meshes of two reconstructions."""
    return float(np.mean([
        Surface(b.vertices_mm.astype(np.float64), b.faces).distance(a.vertices_mm.astype(np.float64))[0].mean()
        for a, b in zip(one.meshes, two.meshes)
    ]))  # fmt: skip


def cropped(straight: Path, folder: Path, shift: int) -> dict[int, np.ndarray]:
    """A stack whose scans were cut one by one, each to another size; rows and columns cut off before, per section."""
    shutil.copytree(straight, folder)
    rng = np.random.default_rng(5)
    cuts = {}
    for section in read_stack(folder):
        before = rng.integers(0, 50, 2)
        after = before + rng.integers(0, shift + 1, 2)
        cuts[section.index] = before
        height, width = section.shape
        change(
            section.path,
            lambda grey, b=before, a=after, h=height, w=width: grey[b[0] : h - a[0], b[1] : w - a[1]],  # type: ignore[misc]
        )
    return cuts


def test_scans_of_different_size_start_with_their_middles_over_each_other(straight: Path, tmp_path: Path) -> None:
    cuts = cropped(straight, tmp_path / "cropped", 0)
    grid = np.stack(np.meshgrid(np.arange(-10, 11, 5.0), np.arange(-20, 21, 10.0), indexing="ij"), -1)
    for rounds in (0, 8):
        settings = AlignSections.Config(rigid_rounds=rounds, affine_rounds=0)
        whole, cut = (ClassifyTissue.Config().build()(read_stack(f)) for f in (straight, tmp_path / "cropped"))
        np.testing.assert_array_equal(whole.index, cut.index)
        first, second = settings.build()(whole), settings.build()(cut)
        away = [
            second.map(k, grid) + cuts[int(index)] * PIXEL - first.map(k, grid) for k, index in enumerate(whole.index)
        ]
        assert np.abs(away).mean() < (1e-9 if rounds == 0 else 0.4)  # of up to 5 mm


def test_a_mesh_from_cropped_scans_is_that_of_the_whole_ones(
    straight: Path, finished: tuple[Path, Reconstruction], tmp_path: Path
) -> None:
    cropped(straight, tmp_path / "cropped", 12)  # tissue a little beside the middle
    config(tmp_path / "cropped", "align.rigid_rounds=20").build().run(tmp_path / "out")
    assert apart(read_graph(tmp_path / "out"), read_graph(finished[0])) < 0.8


@pytest.fixture
def upside_down(straight: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "upside-down"
    shutil.copytree(straight, folder)
    rows = read_rows(folder)
    for k, row in enumerate(rows):
        row.append((k % 3 == 0 and 1) or 0)
        if row[-1]:
            change(folder / str(row[0]), lambda grey: grey[:, ::-1])
    write_table(folder, rows, "mirrored")
    return folder


def test_sections_mounted_upside_down_go_through(
    upside_down: Path, finished: tuple[Path, Reconstruction], tmp_path: Path
) -> None:
    config(upside_down).build().run(tmp_path / "out")
    found, wanted = read_graph(tmp_path / "out"), read_graph(finished[0])
    for a, b in zip(found.meshes, wanted.meshes):
        np.testing.assert_array_equal(a.vertices_mm, b.vertices_mm)
    stack, places = read_aligned(tmp_path / "out", upside_down), found.locations
    assert places is not None
    index = next(section.index for section in stack if section.mirrored)
    here = places.observed & (places.section == index)
    with open_section(stack.at(index)) as image:  # nodes lie in the grey matter of the image as it is read
        grey = image.read()
    beneath = grey[places.row_px[here].round().astype(int), places.column_px[here].round().astype(int)]
    assert here.sum() > 20
    assert np.median(beneath) < 160


def test_the_mark_for_upside_down_is_part_of_the_key(upside_down: Path, tmp_path: Path) -> None:
    config(upside_down).build().run(tmp_path / "out")
    rows = [[*row[:-1], 0] for row in read_rows(upside_down)]
    write_table(upside_down, rows, "mirrored")
    again = config(upside_down).build().run(tmp_path / "out")
    assert "tissue" not in again.report["reused"]

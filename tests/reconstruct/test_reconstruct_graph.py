"""What others take from a reconstruction: the graph, the surfaces, the aligned sections, the true labels."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.source.surface_folder import SurfaceFolder
from reconstruct import Reconstruction, read_aligned, read_graph, read_reconstruction, to_graph
from reconstruct.streamlines import trace
from tests.reconstruct.phantom import body


def test_the_stored_result_is_the_result(finished: tuple[Path, Reconstruction]) -> None:
    out, result = finished
    back = read_reconstruction(out)
    for a, b in zip(result.midsurfaces, back.midsurfaces, strict=True):
        assert a.mesh.content_hash() == b.mesh.content_hash()
        np.testing.assert_array_equal(a.pial_mm, b.pial_mm)
    for one, two in zip(result.locations, back.locations, strict=True):
        np.testing.assert_array_equal(one.row_px, two.row_px)
    assert read_graph(out).n_nodes == to_graph(result).n_nodes == sum(m.mesh.n_vertices for m in result.midsurfaces)


def test_pial_and_white_lie_on_the_boundaries(finished: tuple[Path, Reconstruction]) -> None:
    graph = read_graph(finished[0])
    inside = graph.cortex & graph.locations.observed  # type: ignore[union-attr]
    for name, depth in (("pial", 0.0), ("white", 3.0)):
        assert np.abs(body(*graph.surfaces[name][inside].T.astype(float), depth)).mean() < 0.4
    thickness = graph.tables["thickness"].values[:, 0]
    straight_way = np.linalg.norm(graph.surfaces["pial"] - graph.surfaces["white"], axis=1)
    assert (thickness[inside] > 0.99 * straight_way[inside]).all()  # a line is not shorter than the straight way
    assert np.median(thickness[inside] / straight_way[inside]) < 1.05
    outside = ~graph.cortex
    np.testing.assert_array_equal(graph.surfaces["pial"][outside], graph.vertices_mm[outside])
    read = SurfaceFolder.Config(folder=finished[0]).build().read().graph
    np.testing.assert_allclose(read.surfaces["pial"], graph.surfaces["pial"], atol=1e-4)


def test_lines_through_a_shell_run_along_its_radii() -> None:
    x, y, z = np.meshgrid(*[np.arange(-24, 25.0)] * 3, indexing="ij")
    r = np.sqrt(x**2 + y**2 + z**2)
    u = ((1 / np.maximum(r, 1) - 1 / 20) / (1 / 14 - 1 / 20)).astype(np.float32)
    direction = np.random.default_rng(0).standard_normal((200, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    for towards, radius, way in ((0, 20, 3.5), (1, 14, 2.5)):
        ends, length = trace(u, 16.5 * direction + 24, towards, 20)
        assert np.abs(ends - 24 - radius * direction).max() < 0.3
        assert np.abs(length - way).max() < 0.1
    assert (trace(np.zeros((5, 5, 5), np.float32), np.full((1, 3), 2.0), 1, 20)[1] == 0).all()


def test_aligned_sections_agree_with_the_locations(
    finished: tuple[Path, Reconstruction], straight: Path, tmp_path: Path
) -> None:
    out, result = finished
    stack, graph = read_aligned(out), to_graph(result)
    places = graph.locations
    assert places is not None
    for section in stack:
        here = places.section == section.index
        row, column, away = section.mm_to_pixel(graph.vertices_mm[here])
        np.testing.assert_allclose(row, places.row_px[here], atol=1e-3)
        np.testing.assert_allclose(column, places.column_px[here], atol=1e-3)
        np.testing.assert_allclose(np.abs(away), places.residual_mm[here], atol=1e-3)
    with pytest.raises(InputError, match="reconstruction"):
        read_aligned(tmp_path)
    moved = tmp_path / "moved"
    shutil.copytree(straight, moved)
    assert len(read_aligned(out, moved)) == len(stack)


def test_what_is_no_finished_reconstruction_is_told(finished: tuple[Path, Reconstruction], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="finished reconstruction"):
        read_graph(tmp_path)
    shutil.copytree(finished[0], tmp_path / "out")
    (tmp_path / "out" / "steps" / "midsurface-L" / "pial_mm.npy").unlink()
    with pytest.raises(InputError, match="--resume"):
        read_graph(tmp_path / "out")

"""Sizes of areas in closed form: shells between spheres."""

import csv
import math

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.export.area_map import AreaMap
from meshgnn.export.area_statistics import COLUMNS, area_sizes, node_volumes, write_areas
from meshgnn.export.command import export
from meshgnn.graph import Areas, MeshGraph
from meshgnn.mesh.metric import volume_mm3
from tests.synthetic import sphere

RADIUS, HALF = {"L": 20.0, "R": 16.0}, 1.5


def two_shells() -> AreaMap:
    """Hemispheres are whole spheres, 3 mm of cortex; area `up` is the part above z = 0, sure to 80 %."""
    meshes = tuple(sphere(4, RADIUS[side], side) for side in ("L", "R"))
    points = np.concatenate([mesh.vertices_mm for mesh in meshes]).astype(float)
    radius = np.repeat([RADIUS["L"], RADIUS["R"]], [mesh.n_vertices for mesh in meshes])[:, None]
    up = points[:, 2] > 0
    graph = MeshGraph(
        brain="shells", meshes=meshes, areas=Areas(names=("up", "down", "nowhere"), keys=(3, 7, 9)),
        surfaces={"pial": (points * (radius + HALF) / radius), "white": points * (radius - HALF) / radius},
    )  # fmt: skip
    chances = np.where(up[:, None], [[0.8, 0.2, 0]], [[0.4, 0.6, 0]]).astype(np.float32)
    return AreaMap(graph=graph, probabilities=chances)


def test_the_volume_between_spheres_is_split_among_nodes_without_rest():
    mesh = sphere(4, 20.0)
    points = mesh.vertices_mm.astype(float)
    pial, white = points * 21.5 / 20, points * 18.5 / 20
    own = node_volumes(mesh, pial, white)
    exact = volume_mm3(mesh.with_vertices(pial)) - volume_mm3(mesh.with_vertices(white))
    assert own.sum() == pytest.approx(exact, rel=1e-6)
    assert own.sum() == pytest.approx(4 / 3 * math.pi * (21.5**3 - 18.5**3), rel=6e-3)
    assert own.min() > 0
    np.testing.assert_allclose(node_volumes(mesh, white, pial), own)  # whichever way round the faces turn


def test_sizes_of_two_areas_are_those_of_half_shells():
    found = {(one.area, one.hemisphere): one for one in area_sizes(two_shells())}
    assert len(found) == 9
    for side, radius in RADIUS.items():
        up, down = found["up", side], found["down", side]
        assert up.surface_mm2 + down.surface_mm2 == pytest.approx(4 * math.pi * radius**2, rel=6e-3)
        whole = 4 / 3 * math.pi * ((radius + HALF) ** 3 - (radius - HALF) ** 3)
        assert up.volume_mm3 + down.volume_mm3 == pytest.approx(whole, rel=6e-3)
        assert up.surface_mm2 == pytest.approx(2 * math.pi * radius**2, rel=0.06)  # nodes lie on the border
        assert up.thickness_mm == pytest.approx(2 * HALF, rel=1e-4)
        assert (up.probability, down.probability) == (pytest.approx(0.8), pytest.approx(0.6))
        assert up.expected_surface_mm2 == pytest.approx(0.8 * up.surface_mm2 + 0.4 * down.surface_mm2, rel=1e-5)
        assert up.expected_volume_mm3 == pytest.approx(0.8 * up.volume_mm3 + 0.4 * down.volume_mm3, rel=1e-5)
        assert math.isnan(up.asymmetry_surface)
        nowhere = found["nowhere", side]
        assert (nowhere.surface_mm2, nowhere.volume_mm3, nowhere.nodes) == (0, 0, 0)
        assert math.isnan(nowhere.thickness_mm)
    both = found["up", "both"]
    assert both.surface_mm2 == pytest.approx(found["up", "L"].surface_mm2 + found["up", "R"].surface_mm2)
    assert both.asymmetry_surface == pytest.approx((20**2 - 16**2) / (20**2 + 16**2), abs=1e-4)
    assert math.isnan(found["nowhere", "both"].asymmetry_volume)


def test_shrinkage_scales_volumes_surfaces_and_lengths_by_their_powers():
    plain, fresh = area_sizes(two_shells()), area_sizes(two_shells(), shrinkage=2.0)
    for before, after in zip(plain, fresh):
        if before.nodes:
            assert after.volume_mm3 == pytest.approx(2 * before.volume_mm3)
            assert after.surface_mm2 == pytest.approx(2 ** (2 / 3) * before.surface_mm2)
            assert after.thickness_mm == pytest.approx(2 ** (1 / 3) * before.thickness_mm)
            assert after.expected_volume_mm3 == pytest.approx(2 * before.expected_volume_mm3)
            np.testing.assert_equal(after.asymmetry_volume, before.asymmetry_volume)
    for wrong in (0, -1, math.nan, math.inf):
        with pytest.raises(InputError, match="shrinkage must be above 0"):
            area_sizes(two_shells(), shrinkage=wrong)


def test_nodes_outside_cortex_or_without_a_map_count_for_no_area(tmp_path):
    full = two_shells()
    graph = full.graph._replace(cortex=full.graph.vertices_mm[:, 0] > 0)
    chances = np.where(graph.vertices_mm[:, 1:2] > 0, full.probabilities, 0)
    found = area_sizes(AreaMap(graph=graph, probabilities=chances))
    counted = (graph.vertices_mm[:, 0] > 0) & (graph.vertices_mm[:, 1] > 0)
    assert sum(one.nodes for one in found if one.hemisphere == "both") == counted.sum()


def test_what_cannot_be_told_is_an_empty_cell(tmp_path):
    graph = two_shells().graph
    alone = AreaMap(
        graph=MeshGraph(brain="x", meshes=graph.meshes[:1], areas=graph.areas),
        probabilities=two_shells().probabilities[graph.slices()["L"]],
    )
    [path] = export(alone, tmp_path, ["areas"], shrinkage=1.9)
    with path.open() as handle:
        rows = list(csv.DictReader(handle))
    assert tuple(rows[0]) == COLUMNS
    assert [row["hemisphere"] for row in rows] == ["L"] * 3
    assert [row["volume_mm3"] for row in rows] == [""] * 3
    assert [row["thickness_mm"] for row in rows] == [""] * 3
    assert rows[0]["key"] == "3"
    assert float(rows[0]["surface_mm2"]) > 1000
    write_areas(tmp_path / "none.csv", [])
    assert (tmp_path / "none.csv").read_text().strip() == ",".join(COLUMNS)

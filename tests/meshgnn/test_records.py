"""Records: checked when made, read-only afterwards."""

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.graph import Areas, FeatureTable, MeshGraph, NodeLocations
from meshgnn.mesh.record import SurfaceMesh
from tests.synthetic import brain, sphere

TRIANGLE = {"vertices_mm": np.eye(3), "faces": np.array([[0, 1, 2]]), "hemisphere": "L", "space": "test"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertices_mm": np.zeros((3, 2))}, "shape"),
        ({"vertices_mm": np.zeros((0, 3))}, "shape"),
        ({"vertices_mm": np.array([[0, 0, np.nan], [0, 1, 0], [1, 0, 0]])}, "not finite"),
        ({"faces": np.array([[0, 1, 3]])}, "vertex 3"),
        ({"faces": np.array([[0, 1, -1]])}, "face"),
        ({"faces": np.array([[0, 1, 1]])}, "twice"),
        ({"hemisphere": "left"}, "hemisphere"),
        ({"space": ""}, "space"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        SurfaceMesh(**{**TRIANGLE, **change})


def test_records_cannot_be_changed_and_do_not_hold_on_to_the_callers_array():
    points = np.eye(3, dtype=np.float32)
    mesh = SurfaceMesh(**{**TRIANGLE, "vertices_mm": points})
    points[0, 0] = 99
    assert mesh.vertices_mm[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        mesh.vertices_mm[0, 0] = 2
    with pytest.raises(AttributeError):
        mesh.space = "other"


def test_the_content_hash_follows_the_content():
    mesh = sphere()
    assert mesh.content_hash() == sphere().content_hash()
    assert mesh.content_hash() != mesh.with_vertices(mesh.vertices_mm * 1.001).content_hash()
    assert mesh.content_hash() != mesh.with_vertices(mesh.vertices_mm, space="other").content_hash()


def test_a_table_keeps_missing_apart_from_zero():
    table = FeatureTable(
        name="t", values=np.array([[1.0, 2], [np.nan, 3]]), mask=np.array([True, False]), columns=("a", "b")
    )
    assert table.mask.tolist() == [True, False]
    assert np.isfinite(table.values).all()
    assert table.select(["b"]).values.ravel().tolist() == [2, 0]
    with pytest.raises(InputError, match="no column 'z'"):
        table.select(["z"])
    with pytest.raises(InputError, match="not finite"):
        FeatureTable(name="t", values=np.array([[np.nan]]), mask=np.array([True]), columns=("a",))
    with pytest.raises(InputError, match="distinct names"):
        FeatureTable(name="t", values=np.zeros((1, 2)), mask=np.array([True]), columns=("a", "a"))


def test_a_graph_joins_hemispheres_without_an_edge_between_them():
    graph = brain()
    side = graph.hemisphere
    assert (side[graph.edges[0]] == side[graph.edges[1]]).all()
    keys = set(map(tuple, graph.edges.T.tolist()))
    assert all((b, a) in keys for a, b in keys)
    assert len(keys) == graph.edges.shape[1]


def test_a_graph_refuses_what_does_not_fit():
    graph = brain()
    with pytest.raises(InputError, match="different spaces"):
        MeshGraph(brain="x", meshes=(graph.meshes[0], graph.meshes[1].with_vertices(graph.meshes[1].vertices_mm, "b")))
    with pytest.raises(InputError, match="hemispheres"):
        MeshGraph(brain="x", meshes=(graph.meshes[0], graph.meshes[0]))
    with pytest.raises(InputError, match="labels run"):
        MeshGraph(brain="x", meshes=graph.meshes, labels=np.full(graph.n_nodes, 2), areas=Areas(names=("a",)))
    with pytest.raises(InputError, match="rows"):
        MeshGraph(brain="x", meshes=graph.meshes[:1], tables=graph.tables)


def test_areas_have_names_colours_and_keys():
    areas = Areas(names=("V1", "V2"))
    assert areas.keys == (1, 2)
    assert areas.colours.shape == (2, 4)
    with pytest.raises(InputError, match="same name"):
        Areas(names=("V1", "V1"))
    with pytest.raises(InputError, match="positive keys"):
        Areas(names=("V1", "V2"), keys=(0, 1))


def test_locations_are_checked():
    good = {
        "section": [0, -1], "row_px": [1.0, np.nan], "column_px": [1.0, np.nan], "normal_angle_deg": [0, 0],
        "obliqueness_deg": [10, 0], "residual_mm": [0.1, 0], "observed": [True, False],
    }  # fmt: skip
    assert NodeLocations(**good).observed.tolist() == [True, False]
    with pytest.raises(InputError, match="name its section"):
        NodeLocations(**{**good, "section": [-1, -1]})
    with pytest.raises(InputError, match="between 0 and 90"):
        NodeLocations(**{**good, "obliqueness_deg": [91, 0]})
    with pytest.raises(InputError, match="row_px"):
        NodeLocations(**{**good, "row_px": [np.nan, 0]})

"""PLY, GLB and Neuroglancer files say elsewhere what we meant."""

import json
from dataclasses import replace

import numpy as np
import pytest
import trimesh

from meshgnn.errors import InputError
from meshgnn.export.mesh_files import NO_AREA, class_colours, write_area_glb, write_area_plys, write_ply
from meshgnn.export.neuroglancer import write_neuroglancer
from tests.meshgnn.export import page_samples as samples


@pytest.fixture(scope="module")
def made():
    return samples.area_map(2)


def test_ply_keeps_vertices_and_colours(tmp_path, made):
    wanted = class_colours(made.predicted, made.graph.areas)
    files = write_area_plys(tmp_path, made)
    assert len(files) == 2
    for path, mesh, place in zip(files, made.graph.meshes, made.graph.slices().values()):
        theirs = trimesh.load(path, process=False)
        np.testing.assert_array_equal(theirs.vertices.astype(np.float32), mesh.vertices_mm)
        np.testing.assert_array_equal(theirs.faces, mesh.faces)
        np.testing.assert_allclose(theirs.visual.vertex_colors / 255, wanted[place], atol=0.003)
    outside = np.flatnonzero(made.predicted < 0)
    np.testing.assert_allclose(wanted[outside], np.tile(NO_AREA, (len(outside), 1)), atol=1e-6)


def test_glb_is_in_metres_with_linear_colours(tmp_path, made):
    write_area_glb(tmp_path / "b.glb", made)
    scene = trimesh.load(tmp_path / "b.glb", process=False)
    colours = class_colours(made.predicted, made.graph.areas)
    for mesh, place in zip(made.graph.meshes, made.graph.slices().values()):
        theirs = scene.geometry[f"hemi-{mesh.hemisphere}"]
        np.testing.assert_allclose(theirs.vertices * 1000, mesh.vertices_mm, atol=1e-4)
        light = theirs.visual.vertex_colors[:, :3] / 255
        srgb = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
        np.testing.assert_allclose(srgb, colours[place, :3], atol=0.03)


def test_colours_must_fit_the_mesh(tmp_path, made):
    with pytest.raises(InputError, match="need colours"):
        write_ply(tmp_path / "x.ply", made.graph.meshes[0], np.ones((3, 4)))
    assert not (tmp_path / "x.ply").exists()


def read_mesh(path):
    data = path.read_bytes()
    count = int(np.frombuffer(data, "<u4", 1)[0])
    points = np.frombuffer(data, "<f4", 3 * count, 4).reshape(-1, 3)
    rest = len(data) - 4 - 12 * count
    assert rest % 12 == 0
    return points, np.frombuffer(data, "<u4", rest // 4, 4 + 12 * count).reshape(-1, 3)


def test_neuroglancer_meshes_are_laid_out_as_the_format_says(tmp_path, made):
    files = write_neuroglancer(tmp_path, made)
    assert all(path.is_file() for path in files)
    for mesh, segment in zip(made.graph.meshes, (1, 2)):
        names = json.loads((tmp_path / "mesh" / f"{segment}:0").read_text())["fragments"]
        points, faces = read_mesh(tmp_path / "mesh" / names[0])
        np.testing.assert_allclose(points, mesh.vertices_mm * 1e6, rtol=1e-6)
        np.testing.assert_array_equal(faces, mesh.faces)
    info = json.loads((tmp_path / "mesh" / "info").read_text())
    assert info["@type"] == "neuroglancer_legacy_mesh"
    properties = json.loads((tmp_path / "mesh" / info["segment_properties"] / "info").read_text())
    assert properties["inline"]["ids"] == ["1", "2"]


def test_neuroglancer_areas_cover_the_labelled_faces_once(tmp_path, made):
    write_neuroglancer(tmp_path, made)
    graph = made.graph
    properties = json.loads((tmp_path / "areas" / "segment_properties" / "info").read_text())["inline"]
    labels = next(entry for entry in properties["properties"] if entry["type"] == "label")["values"]
    faces = 0
    for key, name in zip(properties["ids"], labels):
        assert graph.areas.names[graph.areas.keys.index(int(key))] == name
        for fragment in json.loads((tmp_path / "areas" / f"{key}:0").read_text())["fragments"]:
            points, triangles = read_mesh(tmp_path / "areas" / fragment)
            assert triangles.max() == len(points) - 1
            faces += len(triangles)
    corners = [made.predicted[place][mesh.faces] for mesh, place in zip(graph.meshes, graph.slices().values())]
    inside = sum(int((corner >= 0).all(1).sum()) for corner in corners)
    touched = sum(int((corner >= 0).any(1).sum()) for corner in corners)
    assert inside <= faces <= touched


def test_neuroglancer_skeletons_are_laid_out_as_the_format_says(tmp_path, made):
    write_neuroglancer(tmp_path, made)
    graph = made.graph
    info = json.loads((tmp_path / "skeleton" / "info").read_text())
    assert info["@type"] == "neuroglancer_skeletons"
    assert len(info["transform"]) == 12
    for segment, (mesh, place) in enumerate(zip(graph.meshes, graph.slices().values()), start=1):
        data = (tmp_path / "skeleton" / str(segment)).read_bytes()
        n_vertices, n_edges = map(int, np.frombuffer(data, "<u4", 2))
        assert (n_vertices, n_edges) == (mesh.n_vertices, mesh.n_vertices + mesh.n_faces - 2)  # Euler number 2
        at = 8
        points = np.frombuffer(data, "<f4", 3 * n_vertices, at).reshape(-1, 3)
        np.testing.assert_allclose(points, mesh.vertices_mm * 1e6, rtol=1e-6)
        at += points.nbytes
        edges = np.frombuffer(data, "<u4", 2 * n_edges, at).reshape(-1, 2)
        assert len(np.unique(np.sort(edges, axis=1), axis=0)) == n_edges
        at += edges.nbytes
        values = {}
        for attribute in info["vertex_attributes"]:
            kind = np.dtype(attribute["data_type"]).newbyteorder("<")
            values[attribute["id"]] = np.frombuffer(data, kind, n_vertices, at)
            at += values[attribute["id"]].nbytes
        assert at == len(data)
        keys = np.array([*graph.areas.keys, 0])
        np.testing.assert_array_equal(values["predicted"], keys[made.predicted[place]])
        np.testing.assert_array_equal(values["annotated"], keys[graph.labels[place]])
        np.testing.assert_allclose(values["uncertainty"], made.uncertainty[place])
        np.testing.assert_allclose(values["probability"], made.probabilities[place].max(1))


def test_neuroglancer_keys_above_16_bit_do_not_wrap(tmp_path, made):
    graph = made.graph
    keys = (*range(65_536, 65_535 + len(graph.areas)), 2**31 - 1)
    graph = graph.relabelled(graph.labels, replace(graph.areas, keys=keys))
    write_neuroglancer(tmp_path, replace(made, graph=graph))
    info = json.loads((tmp_path / "skeleton" / "info").read_text())
    assert info["vertex_attributes"][1] == {"id": "annotated", "data_type": "uint32", "num_components": 1}
    mesh = graph.meshes[0]
    data = (tmp_path / "skeleton" / "1").read_bytes()
    annotated = np.frombuffer(data, "<u4")[-3 * mesh.n_vertices : -2 * mesh.n_vertices]
    np.testing.assert_array_equal(annotated, np.array([*keys, 0])[graph.labels[: mesh.n_vertices]])

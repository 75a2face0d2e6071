"""Laws of meshes: counts by formula, areas, curvature, averages, distances."""

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from meshgnn.mesh import metric, topology
from meshgnn.mesh.align import MIRROR, Similarity, align_points, fit_similarity
from meshgnn.mesh.operators import geodesic_distance, geodesic_graph, one_ring_average
from meshgnn.mesh.record import SurfaceMesh
from tests.synthetic import sphere


def as_mesh(shape: trimesh.Trimesh) -> SurfaceMesh:
    return SurfaceMesh(vertices_mm=shape.vertices, faces=shape.faces, hemisphere="L", space="test")


@pytest.mark.parametrize("level", [0, 1, 3])
def test_icosphere_counts(level):
    mesh = sphere(level)
    edges, counts = topology.undirected_edges(mesh)
    assert (mesh.n_vertices, len(edges), mesh.n_faces) == (10 * 4**level + 2, 30 * 4**level, 20 * 4**level)
    assert (counts == 2).all()
    assert topology.euler_number(mesh) == 2


def test_a_torus_has_euler_number_zero():
    assert topology.euler_number(as_mesh(trimesh.creation.torus(10, 3))) == 0


def test_defects_are_counted_and_do_not_stop_anything():
    mesh = sphere(2)
    fin = np.concatenate([mesh.faces[1:], [[mesh.faces[5, 0], mesh.faces[5, 1], mesh.n_vertices]]])
    broken = SurfaceMesh(
        vertices_mm=np.concatenate([mesh.vertices_mm, [[0, 0, 50], [99, 99, 99]]]),
        faces=fin, hemisphere="L", space="test",
    )  # fmt: skip
    told = topology.summary(broken)
    assert told["edges_not_in_two_faces"] == 3 + 3  # the hole, and the fin's three edges (one of them in three faces)
    assert told["vertices_without_face"] == 1
    assert np.isfinite(geodesic_distance(geodesic_graph(broken), np.array([0]))[:-1]).all()


def test_area_volume_curvature_of_a_sphere():
    mesh = sphere(4, radius_mm=10)
    assert metric.face_areas(mesh).sum() == pytest.approx(4 * np.pi * 100, rel=0.01)
    assert metric.vertex_areas(mesh).sum() == pytest.approx(metric.face_areas(mesh).sum())
    assert metric.volume_mm3(mesh) == pytest.approx(4 / 3 * np.pi * 1000, rel=0.01)
    assert np.median(metric.mean_curvature(mesh)) == pytest.approx(0.1, rel=0.01)
    outward = np.einsum("ij,ij->i", metric.vertex_normals(mesh), mesh.vertices_mm / 10)
    assert outward.min() > 0.999


def test_averages_keep_constants_and_ignore_what_is_outside():
    mesh = sphere(3)
    edges = topology.directed_edges(mesh)
    mask = mesh.vertices_mm[:, 0] > -20
    values = np.where(mask, 7.0, np.nan)[:, None]
    for smooth in one_ring_average(values, mask, edges, (1, 5, 20)):
        np.testing.assert_allclose(smooth[mask], 7, rtol=1e-5)
        assert (smooth[~mask] == 0).all()
    noise = np.random.default_rng(0).normal(size=(mesh.n_vertices, 1))
    spread = [smooth.std() for smooth in one_ring_average(noise, np.ones(len(noise), bool), edges, (1, 4, 16))]
    assert spread[0] > spread[1] > spread[2]


def test_the_order_of_nodes_does_not_change_an_average():
    mesh = sphere(2)
    edges = topology.directed_edges(mesh)
    rng = np.random.default_rng(0)
    values, mask = rng.normal(size=(mesh.n_vertices, 2)), np.ones(mesh.n_vertices, bool)
    number = rng.permutation(mesh.n_vertices)
    (smooth,) = one_ring_average(values, mask, edges, (6,))
    (renumbered,) = one_ring_average(values[np.argsort(number)], mask, number[edges], (6,))
    np.testing.assert_allclose(renumbered[number], smooth, atol=1e-5)


def test_geodesic_distance_on_a_sphere_is_within_five_percent():
    mesh = sphere(4, radius_mm=10)
    graph = geodesic_graph(mesh)
    found = geodesic_distance(graph, np.array([0]))
    unit = mesh.vertices_mm.astype(float) / 10
    true = 10 * np.arccos(np.clip(unit @ unit[0], -1, 1))
    far = true > 3
    assert np.abs(found[far] / true[far] - 1).mean() < 0.03
    assert np.abs(found[far] / true[far] - 1).max() < 0.06
    assert (abs(graph - graph.T)).max() == 0


def test_geodesic_distance_starts_where_told():
    mesh = sphere(2)
    graph = geodesic_graph(mesh)
    near = geodesic_distance(graph, np.array([3, 7]), np.array([0.0, 0.5]))
    assert near[3] == pytest.approx(0)
    assert near[7] <= 0.5
    assert np.isinf(geodesic_distance(graph, np.array([], int))).all()


def test_alignment_recovers_a_known_motion():
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(800, 3)) * [30, 50, 20]
    turn = Rotation.from_euler("xyz", [6, -4, 8], degrees=True).as_matrix()
    true = Similarity(rotation=turn, shift_mm=np.array([4.0, -3, 2]), scale=1.1)
    exact = fit_similarity(cloud, true(cloud), with_scale=True)
    np.testing.assert_allclose(exact(cloud), true(cloud), atol=1e-6)
    found = align_points(cloud, true(cloud), with_scale=True)
    assert np.abs(found(cloud) - true(cloud)).mean() < 0.5
    np.testing.assert_allclose(MIRROR(MIRROR(cloud)), cloud)

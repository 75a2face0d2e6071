"""Spheres: no fold, little distortion; what is no sphere is refused; look-ups on spheres."""

import numpy as np
import pytest
import trimesh

from meshgnn.errors import InputError, SettingError
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.registration import SphericalMap
from meshgnn.registration.closed import closed_mesh
from meshgnn.registration.distortion import Distortion
from meshgnn.registration.icosphere import icosphere, nodes_of
from meshgnn.registration.locate import Sphere, orientation, unit
from meshgnn.registration.match import on_sphere_mm
from tests.meshgnn.registration.shapes import folded, mesh, mirror_image


@pytest.mark.parametrize("level", [0, 2, 4])
def test_icosphere_counts_and_coarse_nodes_first(level):
    grid = icosphere(level)
    assert (len(grid.points), len(grid.faces)) == (nodes_of(level), 20 * 4**level)
    assert (orientation(grid.points, grid.faces) > 0).all()
    np.testing.assert_array_equal(grid.points[:12], icosphere(0).points)


def test_a_look_up_returns_the_point_itself_whatever_it_starts_from():
    sphere = SphericalMap.Config(steps=5).build()(folded(3))
    there = Sphere(sphere.sphere, sphere.closed.mesh.faces)
    points = unit(np.random.default_rng(0).normal(size=(500, 3)))
    places = there.locate(points)
    assert places.weights.min() >= 0
    np.testing.assert_allclose(places.weights.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(unit(there.values(places, there.points)), points, atol=1e-12)
    other = there.locate(points, np.zeros(500, np.int64))
    np.testing.assert_array_equal(places.face, other.face)
    with pytest.raises(InputError, match="not finite"):
        there.locate(np.full((1, 3), np.nan))


def test_distortion_has_the_gradient_of_its_value_and_is_4_at_an_isometry():
    grid = icosphere(2)
    energy = Distortion(grid.points, grid.faces)
    assert energy(grid.points)[0] == pytest.approx(4, abs=1e-3)
    rng = np.random.default_rng(1)
    x, step = unit(grid.points + 0.03 * rng.normal(size=grid.points.shape)), rng.normal(size=grid.points.shape)
    value, gradient = energy(x)
    ahead, back = (energy(x + sign * 1e-6 * step)[0] for sign in (1, -1))
    assert (ahead - back) / 2e-6 == pytest.approx((gradient * step).sum(), rel=1e-5)
    assert value > 4
    assert energy(x * [1.0, 1.0, -1.0])[0] == np.inf


def test_a_folded_surface_becomes_a_sphere_without_folds_and_with_less_distortion_than_its_start():
    start, done = (SphericalMap.Config(steps=steps).build()(folded()) for steps in (0, 60))
    faces = start.closed.mesh.faces.astype(np.int64)
    energy = Distortion(start.closed.mesh.vertices_mm, faces)
    for one in (start, done):
        assert (orientation(one.sphere, faces) > 0).all()
        np.testing.assert_allclose(np.linalg.norm(one.sphere, axis=1), 1, atol=1e-12)
    assert energy(done.sphere)[0] < min(4.5, energy(start.sphere)[0])
    # It points where the surface lies.
    assert (unit(start.closed.mesh.vertices_mm) * done.sphere).sum(1).mean() > 0.95


def test_a_long_thin_shape_with_a_knob_does_not_fold():
    ball = icosphere(4).points
    points = ball * [10.0, 90.0, 10.0] + np.where(ball[:, :1] > 0.95, [40.0, 0, 0], 0)
    found = SphericalMap.Config().build()(mesh(points))
    assert (orientation(found.sphere, icosphere(4).faces) > 0).all()


def test_the_sphere_that_a_brain_brings_is_used_whatever_its_radius_and_mended():
    one = folded(3)
    ball = icosphere(3).points.copy()
    ball[5] = -ball[5] + 0.1  # one vertex on the wrong side
    found = SphericalMap.Config().build()(one, (unit(ball) * 250 + [10, 0, 0]).astype(np.float32))
    near = np.setdiff1d(np.arange(len(ball)), one.faces[(one.faces == 5).any(1)])
    assert (orientation(found.sphere, one.faces) > 0).all()
    assert np.abs(found.sphere - icosphere(3).points)[near].max() < 0.01
    not_one = SphericalMap.Config().build()(one, one.vertices_mm)  # a surface, not a sphere
    np.testing.assert_array_equal(not_one.sphere, SphericalMap.Config().build()(one).sphere)


def test_faces_that_turn_inward_make_the_same_sphere():
    one = folded(3)
    inward = SurfaceMesh(vertices_mm=one.vertices_mm, faces=one.faces[:, ::-1], hemisphere="L", space="test")
    assert closed_mesh(inward).turned
    assert (orientation(SphericalMap.Config().build()(inward).sphere, one.faces) > 0).all()


def test_flaps_and_stray_vertices_are_set_aside_and_placed():
    one = folded(3)
    a, b = one.faces[7, 0], one.faces[7, 1]
    count = one.n_vertices
    points = np.concatenate([one.vertices_mm, [one.vertices_mm[[a, b]].mean(0) * 1.1, one.vertices_mm[3] * 1.2]])
    flap = SurfaceMesh(
        vertices_mm=points, faces=np.concatenate([one.faces, [[a, b, count], [b, a, count]]]), hemisphere="L",
        space="test",
    )  # fmt: skip
    found = SphericalMap.Config(steps=5).build()(flap)
    assert (found.closed.flaps, found.closed.mesh.n_vertices) == (1, count)
    full = on_sphere_mm(found, found.sphere)
    assert full.shape == (count + 2, 3)
    np.testing.assert_allclose(np.linalg.norm(full, axis=1), 100, rtol=1e-6)
    np.testing.assert_allclose(full[count], 100 * unit(found.sphere[[a, b]].mean(0)[None])[0], rtol=1e-4)
    np.testing.assert_array_equal(full[count + 1], full[3])


def broken(kind: str) -> SurfaceMesh:
    one = folded(3)
    points, faces = one.vertices_mm, one.faces
    if kind == "hole":
        faces = faces[5:]
    elif kind == "pieces":
        points, faces = np.concatenate([points, points + 300]), np.concatenate([faces, faces + len(points)])
    elif kind == "triangle":
        points, faces = points[:3], np.array([[0, 1, 2]])
    elif kind == "turned":
        faces = np.concatenate([faces[:1, ::-1], faces[1:]])
    elif kind == "fin":
        a, b = faces[0, :2]
        points, faces = np.concatenate([points, [[0, 0, 90]]]), np.concatenate([faces, [[a, b, len(points)]]])
    elif kind == "handle":
        torus = trimesh.creation.torus(30, 10)
        points, faces = torus.vertices, torus.faces
    elif kind == "flat":
        points = points * [1, 1, 0]
    elif kind == "point":
        points = points * 0
    return SurfaceMesh(vertices_mm=points, faces=faces, hemisphere="L", space="test")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("hole", "edges lie at holes"), ("pieces", "in 2 pieces"), ("triangle", "3 vertices in closed faces"),
        ("turned", "turn against each other"), ("fin", "three or more faces"), ("handle", "Euler number 0"),
        ("flat", "is flat"), ("point", "is flat"),
    ],
)  # fmt: skip
def test_what_is_no_sphere_is_refused_in_one_line(kind, told):
    with pytest.raises(InputError, match=told) as error:
        SphericalMap.Config().build()(broken(kind))
    assert "\n" not in str(error.value)


def test_settings_are_checked():
    with pytest.raises(SettingError, match="steps"):
        SphericalMap.Config(steps=-1)


def test_the_mirror_image_of_a_surface_has_the_mirror_image_of_its_distortion():
    one = SphericalMap.Config(steps=20).build()(folded(3))
    two = SphericalMap.Config(steps=20).build()(mirror_image(folded(3)))
    energies = [
        Distortion(h.closed.mesh.vertices_mm, h.closed.mesh.faces.astype(np.int64))(h.sphere)[0] for h in (one, two)
    ]
    assert energies[0] == pytest.approx(energies[1], abs=0.02)

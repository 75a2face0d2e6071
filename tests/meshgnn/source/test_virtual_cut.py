"""Laws of the cut and of the layers, on shells whose answers are known."""

import numpy as np
import pytest

from meshgnn.mesh.record import SurfaceMesh
from meshgnn.mesh.topology import edges_not_in_two_faces, euler_number
from meshgnn.source.virtual.artefacts import Warp
from meshgnn.source.virtual.cut import cut, inside, plane_coordinates
from meshgnn.source.virtual.fields import SmoothField, flow, stream
from meshgnn.source.virtual.laminae import area_ratio, depth_of_share, volume_share
from meshgnn.source.virtual.settings import Settings
from meshgnn.source.virtual.surfaces import Hemisphere, loop_operator, read_template, subdivide

WHITE_MM, PIAL_MM = 20.0, 23.0


@pytest.fixture(scope="module")
def sphere() -> Hemisphere:
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=5)
    points = np.asarray(ball.vertices, np.float64)
    return Hemisphere(
        name="L",
        faces=np.asarray(ball.faces, np.int32),
        white_mm=points * WHITE_MM,
        pial_mm=points * PIAL_MM,
        sphere=points,
        cortex=np.ones(len(points), bool),
    )


@pytest.mark.parametrize("height", [0.0, 5.3, -12.0, 20.5, 22.9])
def test_cut_of_a_shell_is_an_annulus(sphere: Hemisphere, height: float) -> None:
    part = cut(sphere.white_mm, sphere.pial_mm, sphere.faces, height)
    exact = np.pi * (PIAL_MM**2 - max(height**2, WHITE_MM**2)) if abs(height) > WHITE_MM else np.pi * 129.0
    assert part.area_mm2() == pytest.approx(exact, rel=0.02, abs=1.5)


def test_cut_carries_depth_and_place(sphere: Hemisphere) -> None:
    part = cut(sphere.white_mm, sphere.pial_mm, sphere.faces, 3.0)
    assert np.allclose(part.weights.sum(2), 1)
    assert part.depth.min() >= 0
    assert part.depth.max() <= 1
    radius = np.sqrt((part.corners_mm**2).sum(2) + 9.0)
    exact = (PIAL_MM - radius) / (PIAL_MM - WHITE_MM)
    assert np.abs(part.depth - exact).max() < 0.02
    place = np.einsum("tcw,twk->tck", part.weights, sphere.sphere[sphere.faces[part.face]])
    place /= np.linalg.norm(place, axis=2, keepdims=True)
    direction = np.concatenate([part.corners_mm, np.full((*part.corners_mm.shape[:2], 1), 3.0)], axis=2)
    direction /= np.linalg.norm(direction, axis=2, keepdims=True)
    assert (place * direction).sum(2).min() > 0.9999


def test_outlines_enclose_their_disc(sphere: Hemisphere) -> None:
    part = cut(sphere.white_mm, sphere.pial_mm, sphere.faces, 4.0)
    pixel_mm = 0.1
    white = inside(part.white_mm / pixel_mm + 250, (500, 500))
    pial = inside(part.pial_mm / pixel_mm + 250, (500, 500))
    assert white.sum() * pixel_mm**2 == pytest.approx(np.pi * (WHITE_MM**2 - 16), rel=0.01)
    assert pial.sum() * pixel_mm**2 == pytest.approx(np.pi * (PIAL_MM**2 - 16), rel=0.01)
    assert not (white & ~pial).any()


def test_equal_volume_on_a_sphere(sphere: Hemisphere) -> None:
    ratio = area_ratio(sphere.white_mm, sphere.pial_mm, sphere.faces)
    assert np.allclose(ratio, (WHITE_MM / PIAL_MM) ** 2, rtol=1e-6)
    rho = np.linspace(0, 1, 11)
    radius = PIAL_MM - rho * (PIAL_MM - WHITE_MM)
    exact = (PIAL_MM**3 - radius**3) / (PIAL_MM**3 - WHITE_MM**3)
    share = np.array([volume_share(r, float(ratio[0])) for r in rho])
    assert np.abs(share - exact).max() < 0.001
    assert np.allclose(depth_of_share(share, ratio[:11]), rho, atol=1e-9)


def test_deep_layers_are_taller_in_gyri() -> None:
    """Bok: a given volume of deep layers takes more depth in a crown (white smaller than pial) than in a fundus."""
    crown, flat, fundus = (1 - depth_of_share(np.array(0.55), np.array(k)) for k in (0.6, 1.0, 1.6))
    assert crown > flat > fundus
    assert flat == pytest.approx(0.45)


def test_loop_subdivision_keeps_a_sphere_closed(sphere: Hemisphere) -> None:
    matrix, faces = loop_operator(len(sphere.sphere), sphere.faces)
    assert np.allclose(matrix.sum(axis=1), 1)
    assert len(faces) == 4 * len(sphere.faces)
    fine = subdivide(sphere, 1)
    mesh = SurfaceMesh(vertices_mm=fine.pial_mm.astype(np.float32), faces=fine.faces, hemisphere="L", space="test")
    assert euler_number(mesh) == 2
    assert edges_not_in_two_faces(mesh) == 0
    assert np.linalg.norm(fine.pial_mm, axis=1) == pytest.approx(PIAL_MM, rel=0.002)


def test_obliqueness_of_a_coronal_cut() -> None:
    """BigBrain cut coronally: 51 % of the surface has its normal more than 30 degrees out of the plane, 14 % > 60.

    fsaverage5, coarse and averaged, has 44 and 10 %.
    """
    hemi = read_template(None, "L")
    middle = (hemi.white_mm + hemi.pial_mm) / 2
    a, b, c = (middle[hemi.faces[hemi.cortex[hemi.faces].all(1)][:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    area = np.linalg.norm(normal, axis=1)
    out_of_plane = np.degrees(np.arcsin(np.abs(normal[:, 1]) / area))
    assert area[out_of_plane > 30].sum() / area.sum() == pytest.approx(0.51, abs=0.1)
    assert area[out_of_plane > 60].sum() / area.sum() == pytest.approx(0.14, abs=0.06)


@pytest.mark.parametrize("severity", [0.0, 1.0, 3.0])
def test_section_warp_is_invertible(severity: float) -> None:
    warp = Warp.draw(stream(3, "test"), Settings(severity=severity))
    grid = np.stack(np.meshgrid(np.linspace(-70, 70, 29), np.linspace(-60, 60, 25)), axis=-1)
    assert np.abs(warp.inverse(warp.forward(grid)) - grid).max() < 1e-6
    step = 0.01
    right = (warp.forward(grid + np.array([step, 0])) - warp.forward(grid)) / step
    down = (warp.forward(grid + np.array([0, step])) - warp.forward(grid)) / step
    assert (right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0]).min() > 0.3
    if severity == 0:
        assert np.allclose(warp.forward(grid), grid)


def test_flow_moves_by_about_its_size_and_crosses_nothing() -> None:
    points = np.random.default_rng(0).uniform(-60, 60, (2000, 3))
    field = SmoothField.draw(stream(1, "flow"), scale_mm=25, sd=4 / np.sqrt(3), channels=3)
    moved = flow(points, field)
    assert np.sqrt(((moved - points) ** 2).sum(1).mean()) == pytest.approx(4, rel=0.4)
    step = 1e-4
    columns = [(flow(points + step * axis, field) - moved) / step for axis in np.eye(3)]
    assert np.linalg.det(np.stack(columns, axis=-1)).min() > 0


def test_plane_coordinates_are_a_turn() -> None:
    points = np.random.default_rng(0).standard_normal((5, 3))
    for plane in ("coronal", "sagittal", "horizontal"):
        turned = plane_coordinates(points, plane)
        assert np.allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(points, axis=1))

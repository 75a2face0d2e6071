"""Registration: known rotations and warps are found, without folds, always the same; values go there and back."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from meshgnn.errors import InputError, SettingError
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.registration import resample, resample_labels
from meshgnn.registration.icosphere import icosphere
from meshgnn.registration.locate import orientation, unit
from meshgnn.registration.matching import Matching, node_share
from meshgnn.registration.rotation import best_rotation, rotation_matrix
from tests.meshgnn.registration.shapes import SMALL, folded, height_mm, mesh, mirror_image, surface, warp
from tests.synthetic import sphere


@pytest.fixture(scope="module")
def fixed():
    """A folded hemisphere that brings its sphere: the directions of its points."""
    return SMALL.build().hemisphere(folded(), icosphere(4).points)


@pytest.fixture(scope="module")
def warped():
    """The same folds, each in another place of the sphere, and [V, 3] the place of each on the fixed one."""
    true = warp(icosphere(4).points)
    return SMALL.build().hemisphere(mesh(surface(true)), icosphere(4).points), true


@pytest.fixture(scope="module")
def match(fixed, warped):
    return SMALL.build()(warped[0], fixed)


def angles(one, two):
    """[V] degrees between unit vectors."""
    return np.rad2deg(np.arccos(np.clip((one * two).sum(1), -1, 1)))


def test_a_hemisphere_lies_on_itself_where_it_is(fixed):
    found = SMALL.build()(fixed, fixed)
    assert angles(found.registered, fixed.sphere).max() < 0.5
    assert np.abs(found.measures.areal).max() < 0.1
    assert found.measures.mismatch.max() < 0.1
    assert found.measures.unsure_mm.max() < 2
    assert found.figures["folded_triangles"] == 0
    assert min(found.figures["correlation_registered"].values()) > 0.999


def test_a_known_rotation_is_found(fixed):
    turn = rotation_matrix(np.deg2rad([20.0, -10.0, 15.0]))
    # The sphere is turned, the surface is the same: only the search over rotations can bring it back.
    turned = replace(fixed, sphere=fixed.sphere @ turn.T)
    found = SMALL.build()(turned, fixed)
    assert angles(found.registered, fixed.sphere).max() < 1
    assert found.figures["rotation_deg"] == pytest.approx(27, abs=2)
    kept = replace(SMALL, reach_deg=0.0).build()(fixed, fixed)
    assert kept.figures["rotation_deg"] == 0


def test_the_best_rotation_of_values_on_the_grid_is_the_inverse_of_the_one_applied():
    points = icosphere(4).points
    values = np.c_[np.sin(3 * points[:, 0]) + points[:, 1], np.cos(4 * points[:, 2])]
    turn = rotation_matrix(np.array([0.3, 0.2, -0.25]))
    grid = icosphere(4)
    moving = grid.values(grid.locate(unit(points @ turn.T)), values)
    np.testing.assert_allclose(best_rotation(moving, values, reach_deg=45), turn, atol=0.02)


def test_a_known_warp_is_recovered_without_folds(match, warped, fixed):
    moving, true = warped
    start = replace(SMALL, steps=0).build()(moving, fixed)
    before, after = angles(start.registered, true), angles(match.registered, true)
    assert before.mean() > 4
    assert after.mean() < 0.4 * before.mean()
    assert np.quantile(after, 0.95) < np.quantile(before, 0.5)
    assert (orientation(match.registered, icosphere(4).faces) > 0).all()
    single = match.sphere_mm()
    assert (orientation(single, icosphere(4).faces) > 0).all()
    assert (match.figures["folded_triangles"], single.dtype) == (0, np.float32)
    told = [match.figures[f"correlation_{when}"]["10 mm"] for when in ("rotated", "registered")]
    assert told[1] > max(0.9, told[0])


def test_the_measures_tell_where_a_match_is_unsure(fixed):
    """A third of the moving hemisphere has folds of its own; there no match can be right."""
    points = icosphere(4).points
    share = 1 / (1 + np.exp(-(points[:, 1] - 0.2) / 0.05))
    mixed = surface(points, share * height_mm(points, seed=20) + (1 - share) * height_mm(points))
    found = SMALL.build()(SMALL.build().hemisphere(mesh(mixed), points), fixed)
    alike, different = points[:, 1] < -0.2, points[:, 1] > 0.5
    for name in ("mismatch", "unsure_mm"):
        values = getattr(found.measures, name)
        assert np.median(values[different]) > 1.5 * np.median(values[alike]), name
        assert not values.flags.writeable


def test_mirrored_hemispheres_correspond(match, warped, fixed):
    """The other side, registered to the fixed one: the mirror image of the same sphere."""
    registration = SMALL.build()
    other = registration.hemisphere(mirror_image(warped[0].closed.mesh), icosphere(4).points * [-1, 1, 1])
    found = registration(other, fixed)
    assert found.mirrored
    assert found.moving.closed.mesh.hemisphere == "L"
    np.testing.assert_allclose(found.sphere_mm() * [-1, 1, 1], match.sphere_mm(), atol=0.5)
    assert (orientation(found.sphere_mm(), other.closed.mesh.faces) > 0).all()


def test_values_and_labels_go_there_and_back(match, fixed):
    points = fixed.sphere
    values = np.c_[points[:, 0] * 30, np.sin(3 * points[:, 1])]
    there = resample(match.to_moving, values)
    back = resample(match.to_fixed, there)
    assert np.abs(back - values).max(0) == pytest.approx([0, 0], abs=1.5)
    assert np.corrcoef(back[:, 1], values[:, 1])[0, 1] > 0.999
    for weights in (match.to_moving, match.to_fixed):
        np.testing.assert_allclose(np.asarray(weights.sum(axis=1)).ravel(), 1, atol=1e-12)
    labels = np.where(points[:, 0] > 0.3, -1, np.digitize(points[:, 1], [-0.5, 0, 0.5])).astype(np.int32)
    carried = resample_labels(match.to_fixed, resample_labels(match.to_moving, labels))
    assert carried.dtype == np.int32
    assert (carried == labels).mean() > 0.95
    assert set(carried.tolist()) == set(labels.tolist())
    with pytest.raises(InputError, match="3 values for the 2562 vertices"):
        resample(match.to_moving, np.zeros(3))


def test_the_energy_has_the_gradient_of_its_value():
    grid, fine = icosphere(2), icosphere(3)
    energy = Matching(
        level=2, rest=grid.points, wanted=np.sin(2 * grid.points[:, :1]), share=node_share(grid.points, grid.faces),
        fixed=fine, values=np.cos(2 * fine.points[:, 1:2]), bending=0.01, stretching=0.1,
    )  # fmt: skip
    rng = np.random.default_rng(2)
    x, step = unit(grid.points + 0.02 * rng.normal(size=grid.points.shape)), rng.normal(size=grid.points.shape)
    step -= (step * x).sum(1, keepdims=True) * x
    gradient = energy(x)[1]
    ahead, back = (energy(unit(x + sign * 1e-6 * step))[0] for sign in (1, -1))
    assert (ahead - back) / 2e-6 == pytest.approx((gradient * step).sum(), rel=1e-3)


def test_further_features_take_part(fixed):
    """Two balls with one bump each cannot be matched by folds around the axis; a feature tells how they are turned."""
    points = icosphere(4).points
    longitude = np.arctan2(points[:, 1], points[:, 0])
    bump = points * (50 + 10 * np.exp(-((1 - points[:, 2:]) / 0.1)))
    one = SMALL.build().hemisphere(mesh(bump), points)
    value = np.cos(longitude)[:, None] * (np.abs(points[:, 2:]) < 0.9)
    turned = np.cos(longitude - 0.5)[:, None] * (np.abs(points[:, 2:]) < 0.9)
    found = SMALL.build()(one, one, moving_values=turned, fixed_values=value)
    belt = np.abs(points[:, 2]) < 0.5
    shift = np.arctan2(found.registered[belt, 1], found.registered[belt, 0]) - longitude[belt]
    assert np.median(np.angle(np.exp(1j * shift))) == pytest.approx(-0.5, abs=0.1)
    with pytest.raises(InputError, match="1 further features of the moving and 0"):
        SMALL.build()(one, one, moving_values=turned)
    with pytest.raises(InputError, match="no value at all"):
        SMALL.build()(one, one, moving_values=turned * np.nan, fixed_values=value)


def test_a_surface_without_folds_is_refused():
    ball = SMALL.build().hemisphere(sphere(3))
    with pytest.raises(InputError, match="curvature is the same everywhere"):
        SMALL.build()(ball, ball)


CODE = """
from tests.meshgnn.registration.test_registration import *
print(digest(SMALL.build()(SMALL.build().hemisphere(mesh(surface(warp(icosphere(4).points))), icosphere(4).points),
                           SMALL.build().hemisphere(folded(), icosphere(4).points))))
"""


def digest(match):
    return hashlib.sha256(match.registered.tobytes() + match.measures.unsure_mm.tobytes()).hexdigest()


def test_the_same_bits_at_any_number_of_threads(match):
    root = Path(__file__).resolve().parents[3]
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    threads = "2" if os.environ.get("OMP_NUM_THREADS") == "1" else "1"
    told = subprocess.run(
        [sys.executable, "-c", CODE], env=os.environ | dict.fromkeys(names, threads), cwd=root, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    assert told.stdout.strip() == digest(match)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scales_mm": (10.0,)}, {"grids": (5, 4, 3)}, {"bending": (-1.0, 0.0, 0.0)}, {"stretching": 0.0},
        {"reach_deg": 200.0}, {"steps": -1}, {"scales_mm": (0.0, 1.0, 2.0)},
        {"scales_mm": (), "grids": (), "bending": ()},
    ],
)  # fmt: skip
def test_settings_are_checked(wrong):
    with pytest.raises(SettingError):
        replace(SMALL, **wrong)


def test_a_mesh_with_a_vertex_that_is_no_number_never_comes_this_far():
    one = folded(3)
    points = one.vertices_mm.copy()
    points[3, 1] = np.nan
    with pytest.raises(InputError, match="not finite"):
        SurfaceMesh(vertices_mm=points, faces=one.faces, hemisphere="L", space="test")

"""The rotation that brings one sphere onto another, by trying many."""

import numpy as np

from meshgnn.registration.icosphere import icosphere
from meshgnn.registration.locate import Floats, Sphere

COARSE, FINE = 3, 4  # levels of the icosphere on which rotations are judged


def rotation_matrix(turn: Floats) -> Floats:
    """[3, 3] of a rotation vector [3] in radians (Rodrigues' formula)."""
    angle = float(np.sqrt((turn * turn).sum()))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = turn / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * np.einsum("ij,jk->ik", cross, cross))


def best_rotation(moving: Floats, fixed: Floats, *, reach_deg: float, step_deg: float = 15.0) -> Floats:
    """The rotation [3, 3] after which `moving` resembles `fixed` best: least mean squared difference.

    Rotation vectors on a cubic grid within `reach_deg` of no rotation are tried; around the best eight the grid is
    halved until it is finer than half a degree.

    Args:
        moving, fixed: [N, C] values on the nodes of an icosphere of level 4 at least (its coarse nodes come first).
        reach_deg: the largest rotation, up to 180.
        step_deg: of the first grid.
    """
    coarse, fine = icosphere(COARSE), icosphere(FINE)
    count = int(np.ceil(reach_deg / step_deg))
    ticks = np.arange(-count, count + 1) * np.deg2rad(step_deg)
    grid = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[np.sqrt((grid * grid).sum(1)) <= np.deg2rad(reach_deg) + 1e-9]
    errors = np.array([_error(turn, moving, fixed, coarse, fine) for turn in grid])
    best = grid[np.argsort(errors, kind="stable")[:8]]
    step = np.deg2rad(step_deg) / 2
    around = np.stack(np.meshgrid(*[[-1.0, 0.0, 1.0]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    while step > np.deg2rad(0.25):
        tried = np.unique((best[:, None] + step * around).reshape(-1, 3), axis=0)
        errors = np.array([_error(turn, moving, fixed, coarse, fine) for turn in tried])
        best = tried[np.argsort(errors, kind="stable")[: max(1, len(best) // 2)]]
        step /= 2
    return rotation_matrix(best[0])


def _error(turn: Floats, moving: Floats, fixed: Floats, coarse: Sphere, fine: Sphere) -> float:
    """Mean squared difference on the coarse nodes between `moving` and what lies there in `fixed`."""
    x = np.einsum("ij,kj->ik", coarse.points, rotation_matrix(turn))
    there = fine.values(fine.locate(x), fixed[: len(fine.points)])
    return float(((there - moving[: len(coarse.points)]) ** 2).mean())

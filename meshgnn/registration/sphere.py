"""A hemisphere laid on a sphere: a bijective start, then as little distortion as can be."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.progress import Progress, silent
from meshgnn.registration.closed import ClosedMesh, closed_mesh
from meshgnn.registration.distortion import Distortion
from meshgnn.registration.locate import Faces, Floats, orientation, unit
from meshgnn.registration.minimise import Laplacian, factors, minimise


@dataclass(frozen=True, kw_only=True, eq=False)
class Hemisphere:
    """A closed hemisphere and its sphere.

    Args:
        closed: the surface.
        sphere: [N, 3] unit vectors of its vertices, without folds, turned so that directions from the centre of the
            sphere agree with those on the surface as well as they can.
    """

    closed: ClosedMesh
    sphere: Floats


TINY = 1e-13  # orientation of a triangle that counts as folded


class SphericalMap:
    """Makes spheres of hemispheres.

    The start is bijective by construction: a face is opened, the rest laid in the plane with positive weights
    (Tutte 1963; Floater 1997), wrapped on the sphere by stereographic projection (Haker et al. 2000, IEEE TVCG 6:181)
    and balanced by the one conformal map of the sphere that brings the centre of area to its centre (Baden, Crane &
    Kazhdan 2018). Then the symmetric Dirichlet energy to the folded surface is minimised; see `Distortion`. Aim and
    constraint are those of Fischl, Sereno & Dale 1999 (NeuroImage 9:195): little metric distortion, no fold.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            steps: of the reduction of distortion, at most; 0 leaves the conformal start.
        """

        steps: int = 60

        def __post_init__(self) -> None:
            if not 0 <= self.steps <= 10_000:
                raise SettingError("<steps> must lie between 0 and 10000")

        def build(self) -> "SphericalMap":
            return SphericalMap(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(
        self, mesh: SurfaceMesh, sphere_mm: NDArray[np.floating] | None = None, progress: Progress = silent
    ) -> Hemisphere:
        """The sphere of a closed hemisphere.

        Args:
            mesh: midthickness, or whatever surface stands for it.
            sphere_mm: [V, 3] a sphere that the brain brings, of any radius about any centre; its folds are mended. It
                is not used if it is no sphere.

        Raises:
            InputError: the surface is not closed, or not a sphere in topology (see `closed_mesh`).
        """
        closed = closed_mesh(mesh)
        faces, points = closed.mesh.faces.astype(np.int64), closed.mesh.vertices_mm.astype(np.float64)
        laplacian = Laplacian(points, faces)
        brought = None if sphere_mm is None else _brought(np.asarray(sphere_mm)[closed.kept], faces, laplacian)
        if brought is not None:
            return Hemisphere(closed=closed, sphere=brought)
        energy = Distortion(points, faces)
        x = _conformal(points, faces, laplacian.weights(), energy.share)
        steps = self.config.steps
        if orientation(x, faces).min() <= TINY:
            x = _widened(x, points, faces, laplacian, energy)
            steps *= 4  # it has further to go
        x = unfolded(x, faces, laplacian)
        if steps:
            x = minimise(
                _Flattening(energy), x, laplacian, steps=steps,
                told=lambda step, value: progress("sphere", step + 1, steps),
            )  # fmt: skip
        progress("sphere", max(steps, 1), max(steps, 1))
        return Hemisphere(closed=closed, sphere=_turned(x, points, faces, energy.share))


class _Flattening:
    """The distortion alone, as an objective."""

    def __init__(self, distortion: Distortion) -> None:
        self.distortion = distortion

    def __call__(self, x: Floats) -> tuple[float, Floats]:
        return self.distortion(x)

    def stiffness(self, x: Floats) -> Floats:
        return self.distortion.stiffness(x)

    def pull(self, x: Floats) -> Floats:
        return np.zeros(len(x))


def unfolded(x: Floats, faces: Faces, laplacian: Laplacian, *, least: float = TINY, rounds: int = 400) -> Floats:
    """Unit vectors [N, 3] without folded triangles: their vertices move to the mean of their neighbours, in growing
    surroundings, until none is left.

    Args:
        least: orientation that counts as folded.

    Raises:
        InputError: some are left.
    """
    ring: sparse.csr_array | None = None
    start = x
    for step in range(rounds):
        folded = orientation(x, faces) <= least
        if not folded.any():
            return x
        if ring is None:
            ring = laplacian.weights()
            ring.data[:] = 1
        marked = np.zeros(len(x))
        marked[faces[folded].ravel()] = 1
        for _ in range(step // 20):
            marked = marked + ring @ marked
        moving = np.flatnonzero(marked > 0)
        x = x.copy()
        x[moving] = unit(ring[moving] @ x)
    return _relaid(start, faces, least)


def _relaid(start: Floats, faces: Faces, least: float, rounds: int = 50) -> Floats:
    """`unfolded` where means of neighbours only hand folds on.

    What a triangle's orientation is depends linearly on one of its corners: where a vertex can lie so that all its
    triangles face outward is a cone, and the place furthest from its sides the solution of a linear programme. Of the
    corners of a folded triangle the one with the most room moves there.
    """
    x = start.copy()
    rim = sparse.csr_array((np.ones(faces.size), (faces.ravel(), np.arange(faces.size))), shape=(len(x), faces.size))
    for _ in range(rounds):
        folded = np.flatnonzero(orientation(x, faces) <= least)
        if not len(folded):
            return x
        for face in folded:
            if orientation(x, faces[face : face + 1])[0] > least:
                continue
            corners = faces[face].tolist()
            rooms = [_room(x, faces, rim.indices[rim.indptr[one] : rim.indptr[one + 1]]) for one in corners]
            best = int(np.argmax([room for room, _ in rooms]))
            x[corners[best]] = rooms[best][1]
    raise InputError(f"{int((orientation(x, faces) <= least).sum())} triangles of the sphere stay folded")


def _room(x: Floats, faces: Faces, around: NDArray[np.integer]) -> tuple[float, Floats]:
    """Least sine of the angles to the opposite sides of a vertex's triangles at its best place, and that place [3].

    Args:
        around: where the vertex stands in the flattened faces.
    """
    face, corner = np.divmod(around, 3)
    sides = np.cross(x[faces[face, (corner + 1) % 3]], x[faces[face, (corner + 2) % 3]])
    sides /= np.maximum(np.linalg.norm(sides, axis=1, keepdims=True), 1e-300)
    limits = np.column_stack([-sides, np.ones(len(sides))])  # sides @ place >= room
    found = linprog([0, 0, 0, -1], limits, np.zeros(len(sides)), bounds=[(-1, 1)] * 3 + [(None, None)])
    here = x[faces.ravel()[around[0]]]
    if found.x is None or not np.linalg.norm(found.x[:3]) > 1e-9:
        return -np.inf, here
    return float(found.x[3] / np.linalg.norm(found.x[:3])), unit(found.x[None, :3])[0]


def _widened(x: Floats, points: Floats, faces: Faces, laplacian: Laplacian, energy: Distortion) -> Floats:
    """[N, 3] without triangles that are too small to compute with, where a conformal map [N, 3] has such ones.

    A conformal map shrinks long fingers exponentially. Convex combinations with other weights are bijective too: those
    towards a vertex are divided by its stretch (Yoshizawa, Belyaev & Seidel 2004, SMI, eq. 5), as long as that helps.
    """
    weights, best, power = laplacian.weights(), energy(x)[0], 1.0
    area = np.bincount(faces.ravel(), np.repeat(energy.share, 3), len(points))
    for _ in range(20):
        there = np.maximum(orientation(x, faces) / (8 * np.pi), 1e-18)
        squared = np.bincount(faces.ravel(), np.repeat(energy.share**2 / there, 3), len(points)) / area
        tried = sparse.csr_array(weights @ sparse.diags_array(squared ** (-power / 2)))
        trial = _conformal(points, faces, tried, energy.share)
        value = energy(trial)[0]
        if value < best:
            x, best, weights = trial, value, tried
        else:
            power /= 2
    return x


def _conformal(points: Floats, faces: Faces, weights: sparse.csr_array, share: Floats) -> Floats:
    """Bijective up to rounding, nearly conformal with cotangent weights: [N, 3]."""
    matrix = sparse.csr_array(sparse.diags_array(np.asarray(weights.sum(axis=1)).ravel()) - weights)
    rim = faces[0]
    inner = np.setdiff1d(np.arange(len(points)), rim)
    corners = np.array([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])
    plane = np.zeros((len(points), 2))
    plane[rim] = corners
    rows = matrix[inner]
    plane[inner] = factors(sparse.csc_array(rows[:, inner])).solve(-(rows[:, rim] @ corners))
    # Half of the area inside the unit circle.
    area: Floats = np.bincount(faces.ravel(), np.repeat(share / 3, 3), len(points)).astype(np.float64)
    centre = (area[:, None] * plane).sum(0)
    radius = np.sqrt(((plane - centre) ** 2).sum(1))
    order = np.argsort(radius, kind="stable")
    middle = radius[order][np.searchsorted(np.cumsum(area[order]), 0.5)]
    plane = (plane - centre) / max(float(middle), 1e-300)
    squared = (plane * plane).sum(1, keepdims=True)
    x = np.concatenate([2 * plane, squared - 1], axis=1) / (1 + squared)
    if np.median(orientation(x, faces)) < 0:
        x = x * [1.0, 1.0, -1.0]
    return _balanced(x, area)


def _balanced(x: Floats, area: Floats, steps: int = 100) -> Floats:
    """The Moebius image of x whose centre of area is the centre of the sphere (Baden et al. 2018, algorithm 1)."""
    for _ in range(steps):
        mean = (area[:, None] * x).sum(0)
        if np.sqrt((mean * mean).sum()) < 1e-9:
            break
        slope = 2 * (np.eye(3) * area.sum() - np.einsum("i,ij,ik->jk", area, x, x))
        shift = -np.linalg.solve(slope, mean)
        shift *= min(1.0, 0.7 / max(float(np.sqrt((shift * shift).sum())), 1e-300))
        moved = x + shift
        x = unit((1 - (shift * shift).sum()) * moved / (moved * moved).sum(1, keepdims=True) + shift)
    return x


def _turned(x: Floats, points: Floats, faces: Faces, share: Floats) -> Floats:
    """x turned as a whole so that it points where the surface lies (Kabsch 1976)."""
    area: Floats = np.bincount(faces.ravel(), np.repeat(share / 3, 3), len(points)).astype(np.float64)
    centre = (area[:, None] * points).sum(0)
    u, _, vt = np.linalg.svd(np.einsum("i,ij,ik->jk", area, points - centre, x))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    return unit(np.einsum("ij,kj->ik", x, (u * sign) @ vt))


def _brought(sphere_mm: NDArray[np.floating], faces: Faces, laplacian: Laplacian) -> Floats | None:
    """A sphere that a brain brings, as unit vectors without folds; None if it is no sphere."""
    if sphere_mm.shape != (laplacian.count, 3) or not np.isfinite(sphere_mm).all():
        return None
    points = np.asarray(sphere_mm, np.float64)
    best, x = 0.9, None
    for centre in (np.zeros(3), (points.min(0) + points.max(0)) / 2):
        radius = np.sqrt(((points - centre) ** 2).sum(1))
        roundness = float(radius.min() / max(radius.max(), 1e-300))
        if roundness > best:
            best, x = roundness, unit(points - centre)
    if x is None or (orientation(x, faces) > 0).mean() < 0.99:
        return None
    try:
        return unfolded(x, faces, laplacian)
    except InputError:
        return None

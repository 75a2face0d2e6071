"""Two hemispheres in correspondence: carrying values across, and how sure a place is."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from meshgnn.errors import InputError
from meshgnn.mesh.record import frozen
from meshgnn.registration.locate import Floats, Sphere, orientation
from meshgnn.registration.matching import node_share
from meshgnn.registration.minimise import Laplacian
from meshgnn.registration.sphere import Hemisphere

RADIUS_MM = 100.0
AROUND_MM = 10.0  # over which a vertex's mismatch is averaged


@dataclass(frozen=True, kw_only=True, eq=False)
class Measures:
    """How sure the place of each vertex of the moving hemisphere is; all [V], V as in the original mesh.

    Args:
        areal: log2 of the area after over that before the warp.
        mismatch: root mean square difference of the standardised features in the surroundings; 0 for equal folds, 1.4
            where folds have nothing to do with each other.
        unsure_mm: the shift on the sphere of radius 100 mm that would explain the mismatch, given how steep the
            features are there: small where folds agree and are distinct, large where either fails. It says nothing of
            areas that do not follow the folds.
    """

    areal: NDArray[np.float32]
    mismatch: NDArray[np.float32]
    unsure_mm: NDArray[np.float32]

    def __post_init__(self) -> None:
        for name in ("areal", "mismatch", "unsure_mm"):
            object.__setattr__(self, name, frozen(getattr(self, name), np.float32))


@dataclass(frozen=True, kw_only=True, eq=False)
class Match:
    """A moving hemisphere on the sphere of a fixed one.

    Args:
        moving, fixed: both hemispheres as they were matched; the moving one mirrored if they are of different sides.
        registered: [N, 3] unit vectors: where vertices of the closed moving surface lie on the fixed sphere.
        mirrored: whether x was turned round.
        measures: how sure each place is.
        figures: of the whole: correlation of features before and after, folds, areal distortion, see `Registration`.
    """

    moving: Hemisphere
    fixed: Hemisphere
    registered: Floats
    mirrored: bool
    measures: Measures
    figures: dict[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "registered", frozen(self.registered, np.float64))

    def sphere_mm(self) -> NDArray[np.float32]:
        """[V, 3] registered sphere of radius 100 mm of the moving mesh as it was given (of its own side)."""
        return on_sphere_mm(self.moving, self.registered, self.mirrored)

    @cached_property
    def to_moving(self) -> sparse.csr_array:
        """[V, V'] weights that carry values of the fixed mesh to the moving one: barycentric, rows summing to 1."""
        return _carry(self.fixed, self.fixed.sphere, self.moving, self.registered)

    @cached_property
    def to_fixed(self) -> sparse.csr_array:
        """[V', V] weights that carry values of the moving mesh to the fixed one: the same warp, read backwards."""
        return _carry(self.moving, self.registered, self.fixed, self.fixed.sphere)


def resample(weights: sparse.csr_array, values: NDArray[np.floating]) -> Floats:
    """Values [V', C] or [V'] on another mesh, [V, C] or [V]. With coordinates, points in mm on the other surface.

    Args:
        weights: `Match.to_moving` or `Match.to_fixed`.
        values: one row for each vertex there.

    Raises:
        InputError: another number of rows.
    """
    _fits(weights, values)
    return np.asarray(weights @ np.asarray(values, np.float64))


def resample_labels(weights: sparse.csr_array, labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Labels [V'] on another mesh, [V]: the label with the largest weight, -1 (none) counting as one of them; of
    equals the smallest.

    Raises:
        InputError: another number of labels.
    """
    _fits(weights, labels)
    names, number = np.unique(labels, return_inverse=True)
    shares = weights @ sparse.csr_array((np.ones(len(labels)), (np.arange(len(labels)), number.ravel())))
    return np.asarray(names[shares.toarray().argmax(1)], np.int32)


def measures(
    moving: Hemisphere, fixed: Hemisphere, registered: Floats, own: Floats, theirs: Floats
) -> tuple[Measures, Floats]:
    """Measures of a match, and the correlation [C] of features after it.

    Args:
        registered: [N, 3].
        own, theirs: [N, C], [N', C] standardised features of both.
    """
    faces, there = moving.closed.mesh.faces.astype(np.int64), _sphere(fixed)
    places = there.locate(registered)
    found = there.values(places, theirs)
    before, after = node_share(moving.sphere, faces), node_share(registered, faces)
    floor = 1e-3 / len(before)
    areal = np.log2(np.maximum(after, floor) / np.maximum(before, floor))
    off = ((found - own) ** 2).mean(1)
    steep = there.values(places, _steepness(there, theirs)) * (1 / RADIUS_MM) ** 2
    laplacian, area = Laplacian(registered, faces), after * 4 * np.pi
    spreading = laplacian.factor((AROUND_MM / RADIUS_MM) ** 2 / 2, area)
    off, steep = (np.maximum(spreading.solve(area * x), 0) for x in (off, steep))
    # A shift d explains a difference of |gradient| * d / sqrt(2) on average over directions.
    unsure = np.sqrt(2 * off / np.maximum(steep, 1e-12))
    spread = moving.closed.spread
    told = Measures(
        areal=spread @ areal,
        mismatch=spread @ np.sqrt(off),
        unsure_mm=spread @ np.minimum(unsure, np.pi * RADIUS_MM),
    )
    return told, correlation(own, found, before)


def correlation(one: Floats, two: Floats, share: Floats) -> Floats:
    """[C] weighted correlations of the columns of two tables [N, C]; 0 where one is constant."""
    one, two = (x - (share[:, None] * x).sum(0) / share.sum() for x in (one, two))
    both, first, second = ((share[:, None] * x).sum(0) for x in (one * two, one**2, two**2))
    product = first * second
    return np.divide(both, np.sqrt(product), out=np.zeros_like(both), where=product > 0)


def on_sphere_mm(hemisphere: Hemisphere, points: Floats, mirrored: bool = False) -> NDArray[np.float32]:
    """[V, 3] points of the closed surface [N, 3] for all vertices of the original mesh, at radius 100 mm."""
    full = hemisphere.closed.spread @ points
    length = np.sqrt((full**2).sum(1, keepdims=True))
    full = np.divide(full, length, out=np.tile([0.0, 0.0, 1.0], (len(full), 1)), where=length > 1e-9)
    return np.asarray(full * ([-RADIUS_MM, RADIUS_MM, RADIUS_MM] if mirrored else RADIUS_MM), np.float32)


def folded(points: NDArray[np.floating], hemisphere: Hemisphere) -> int:
    """Number of triangles that are turned over (or without area) on a sphere [N, 3] of the closed surface."""
    return int((orientation(points, hemisphere.closed.mesh.faces) <= 0).sum())


def _sphere(hemisphere: Hemisphere, points: Floats | None = None) -> Sphere:
    return Sphere(hemisphere.sphere if points is None else points, hemisphere.closed.mesh.faces)


def _steepness(sphere: Sphere, values: Floats) -> Floats:
    """[N] mean squared gradient per radian of values [N, C], averaged over the faces around each node."""
    a, b, c = (sphere.points[sphere.faces[:, k]] for k in range(3))
    x, y, z = (values[sphere.faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    double = np.maximum((normal**2).sum(1), 1e-18)
    # The gradient of a linear function on a triangle: sum over corners of value x (normal x opposite edge) / |normal|^2
    total = np.zeros(len(a))
    for channel in range(values.shape[1]):
        edges = x[:, channel, None] * (c - b) + y[:, channel, None] * (a - c) + z[:, channel, None] * (b - a)
        total += (edges**2).sum(1) / double
    size = np.sqrt(double)
    whole = np.bincount(sphere.faces.ravel(), np.repeat(size, 3), len(sphere.points))
    part = np.bincount(sphere.faces.ravel(), np.repeat(size * total / values.shape[1], 3), len(sphere.points))
    return np.asarray(part / np.maximum(whole, 1e-30))


def _carry(source: Hemisphere, on: Floats, target: Hemisphere, places: Floats) -> sparse.csr_array:
    """[V, V'] from all vertices of the source to all of the target."""
    sphere = Sphere(on, source.closed.mesh.faces)
    inner = sphere.matrix(sphere.locate(places))
    count = source.closed.spread.shape[0]
    kept = source.closed.kept
    chosen = sparse.csr_array((np.ones(len(kept)), (np.arange(len(kept)), kept)), shape=(len(kept), count))
    weights = sparse.csr_array(target.closed.spread @ inner @ chosen)
    weights.sort_indices()
    return weights


def _fits(weights: sparse.csr_array, values: NDArray[Any]) -> None:
    if len(values) != weights.shape[1]:
        raise InputError(f"{len(values)} values for the {weights.shape[1]} vertices of the mesh they come from")

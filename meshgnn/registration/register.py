"""Registration of one hemisphere to another by their folds."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.progress import Progress, silent
from meshgnn.registration.features import folding
from meshgnn.registration.icosphere import FINEST, icosphere
from meshgnn.registration.locate import Floats, Sphere, orientation, unit
from meshgnn.registration.match import RADIUS_MM, Match, correlation, folded, measures
from meshgnn.registration.matching import Matching, PlateLaplacian, node_share
from meshgnn.registration.minimise import Laplacian, minimise
from meshgnn.registration.rotation import FINE, best_rotation
from meshgnn.registration.sphere import Hemisphere, SphericalMap, unfolded

JUDGED_MM = (5.0, 10.0, 20.0, 40.0)  # scales whose correlations are reported, whatever was matched
LEAST = 1e-9  # a triangle's orientation that single precision cannot turn over


class Registration:
    """Registers hemispheres.

    Spheres (`SphericalMap`), the best of many rotations, then warps from coarse to fine: at each level the difference
    of depth potentials plus a thin plate's bending plus the symmetric Dirichlet energy is minimised over the places of
    an icosphere's nodes (`Matching`) by steps that cannot fold it. The order of features, from depth to curvature,
    and of grids is that of Fischl, Sereno, Tootell & Dale 1999 (Human Brain Mapping 8:272) and Yeo et al. 2010 (IEEE
    TMI 29:650); the explicit energy with a barrier takes the place of their smoothed updates, as in Robinson et al.
    2018 (NeuroImage 167:150). Without random numbers, on one thread: the same bits everywhere.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            scales_mm: length of the depth potential that is matched at each level, on a sphere of radius 100 mm.
            grids: level of the icosphere at each level: 4 has 2,562 nodes, 5 has 10,242, 6 has 40,962.
            bending: weight of the thin plate at each level; more makes smoother warps.
            stretching: weight of the symmetric Dirichlet energy.
            reach_deg: the largest rotation that is tried, 0 to 180; 0 keeps the orientation of the brains.
            steps: at each level, at most.
            features: columns of the brains' tables that are matched beside the folds.
            sphere: how spheres are made where a brain brings none.
        """

        scales_mm: tuple[float, ...] = (40.0, 20.0, 10.0, 5.0, 2.5)
        grids: tuple[int, ...] = (4, 4, 5, 5, 5)
        bending: tuple[float, ...] = (0.06, 0.06, 0.03, 0.015, 0.006)
        stretching: float = 0.05
        reach_deg: float = 45.0
        steps: int = 60
        features: tuple[str, ...] = ()
        sphere: SphericalMap.Config = field(default_factory=SphericalMap.Config)

        def __post_init__(self) -> None:
            if not self.scales_mm or not len(self.scales_mm) == len(self.grids) == len(self.bending):
                raise SettingError("<scales_mm>, <grids> and <bending> must have one value for each level")
            if not all(0.5 <= scale <= 1000 for scale in self.scales_mm):
                raise SettingError("<scales_mm> must lie between 0.5 and 1000")
            if not all(1 <= grid < FINEST for grid in self.grids) or list(self.grids) != sorted(self.grids):
                raise SettingError(f"<grids> must rise from 1 to {FINEST - 1} at most")
            if not all(0 <= weight < 1e6 for weight in self.bending):
                raise SettingError("<bending> must not be negative")
            if not 0 < self.stretching < 1e6:
                raise SettingError("<stretching> must be positive: it keeps triangles from folding")
            if not 0 <= self.reach_deg <= 180:
                raise SettingError("<reach_deg> must lie between 0 and 180")
            if not 0 <= self.steps <= 10_000:
                raise SettingError("<steps> must lie between 0 and 10000")

        def build(self) -> "Registration":
            return Registration(self)

    def __init__(self, config: Config) -> None:
        self.config = config
        self.spheres = config.sphere.build()

    def hemisphere(
        self, mesh: SurfaceMesh, sphere_mm: NDArray[np.floating] | None = None, progress: Progress = silent
    ) -> Hemisphere:
        """A hemisphere on its sphere: `sphere_mm` [V, 3] if the brain brings one, else made.

        Raises:
            InputError: see `closed_mesh`.
        """
        with threadpool_limits(1):
            return self.spheres(mesh, sphere_mm, progress)

    def __call__(
        self,
        moving: Hemisphere,
        fixed: Hemisphere,
        *,
        moving_values: NDArray[np.floating] | None = None,
        fixed_values: NDArray[np.floating] | None = None,
        progress: Progress = silent,
    ) -> Match:
        """The moving hemisphere on the fixed one's sphere. A hemisphere of the other side is mirrored first.

        Args:
            moving, fixed: from `hemisphere`.
            moving_values, fixed_values: [V, C], [V', C] further features, which are standardised; not finite = unknown,
                which takes the mean.

        Raises:
            InputError: nothing to match (curvature equal everywhere), or further features of one side only.
        """
        with threadpool_limits(1):
            return self._match(moving, fixed, moving_values, fixed_values, progress)

    def _match(
        self,
        moving: Hemisphere,
        fixed: Hemisphere,
        moving_values: NDArray[np.floating] | None,
        fixed_values: NDArray[np.floating] | None,
        progress: Progress,
    ) -> Match:
        c = self.config
        mirror = moving.closed.mesh.hemisphere != fixed.closed.mesh.hemisphere
        if mirror:
            moving = mirrored(moving)
        columns = [0 if values is None else np.shape(values)[1] for values in (moving_values, fixed_values)]
        if columns[0] != columns[1]:
            raise InputError(f"{columns[0]} further features of the moving and {columns[1]} of the fixed hemisphere")
        own, theirs = _Features(moving, moving_values), _Features(fixed, fixed_values)
        for one in (own, theirs):
            one.at((*c.scales_mm, *JUDGED_MM))  # all at once: they share the curvature
        rotation = np.eye(3)
        if c.reach_deg:
            rotation = best_rotation(
                own.on_grid(max(FINE, 4), c.scales_mm[0]), theirs.on_grid(max(FINE, 4), c.scales_mm[0]),
                reach_deg=c.reach_deg,
            )  # fmt: skip
        warp, level = np.einsum("ij,kj->ik", icosphere(c.grids[0]).points, rotation), c.grids[0]
        total = len(c.grids) * max(c.steps, 1)
        for number, (scale, grid, bending) in enumerate(zip(c.scales_mm, c.grids, c.bending)):
            if grid != level:
                warp, level = refined(warp, level, grid), grid
            points, faces = icosphere(grid).points, icosphere(grid).faces
            energy = Matching(
                level=grid, rest=np.einsum("ij,kj->ik", points, rotation), wanted=own.on_grid(grid, scale),
                share=node_share(points, faces), fixed=icosphere(grid + 1), values=theirs.on_grid(grid + 1, scale),
                bending=bending, stretching=c.stretching,
            )  # fmt: skip
            warp = minimise(
                energy, warp, PlateLaplacian(grid, bending), steps=c.steps, enough=1e-4,
                told=_teller(progress, number * c.steps, total),
            )  # fmt: skip
            progress("registration", (number + 1) * max(c.steps, 1), total)
        registered = _carried(moving, warp, level)
        told, after = measures(moving, fixed, registered, own.at(JUDGED_MM), theirs.at(JUDGED_MM))
        start = unit(np.einsum("ij,kj->ik", moving.sphere, rotation))
        there = Sphere(fixed.sphere, fixed.closed.mesh.faces)
        share = node_share(moving.sphere, moving.closed.mesh.faces.astype(np.int64))
        before = correlation(own.at(JUDGED_MM), there.values(there.locate(start), theirs.at(JUDGED_MM)), share)
        cosine = np.clip((start * registered).sum(1), -1, 1)
        area = np.abs(told.areal[moving.closed.kept].astype(np.float64))
        figures: dict[str, Any] = {
            "rotation_deg": _rounded(np.rad2deg(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))),
            "correlation_rotated": {f"{scale:g} mm": _rounded(x) for scale, x in zip(JUDGED_MM, before)},
            "correlation_registered": {f"{scale:g} mm": _rounded(x) for scale, x in zip(JUDGED_MM, after)},
            "shift_mm": _rounded((share * np.arccos(cosine)).sum() * RADIUS_MM),
            "folded_triangles": folded(registered * RADIUS_MM, moving),
            "areal_log2_sd": _rounded(np.sqrt((share * area**2).sum())),
            "areal_log2_95": _rounded(np.quantile(area, 0.95)),
            "areal_log2_largest": _rounded(area.max()),
            "unsure_mm_median": _rounded(np.median(told.unsure_mm)),
        }
        return Match(moving=moving, fixed=fixed, registered=registered, mirrored=mirror, measures=told, figures=figures)


def mirrored(hemisphere: Hemisphere) -> Hemisphere:
    """The mirror image (x -> -x) of a hemisphere, as one of the other side."""
    closed = hemisphere.closed
    mesh = SurfaceMesh(
        vertices_mm=closed.mesh.vertices_mm * np.array([-1, 1, 1], np.float32), faces=closed.mesh.faces[:, ::-1],
        hemisphere="R" if closed.mesh.hemisphere == "L" else "L", space=closed.mesh.space,
    )  # fmt: skip
    return Hemisphere(closed=replace(closed, mesh=mesh), sphere=hemisphere.sphere * [-1.0, 1.0, 1.0])


def refined(warp: Floats, level: int, finer: int) -> Floats:
    """A warp of the icosphere's nodes [N, 3] carried to a finer icosphere, without folds."""
    coarse, fine = icosphere(level), icosphere(finer)
    found = unit(coarse.values(coarse.locate(fine.points), warp))
    return unfolded(found, fine.faces, Laplacian(fine.points, fine.faces))


class _Features:
    """Standardised features of one hemisphere, at whatever scale and place."""

    def __init__(self, hemisphere: Hemisphere, values: NDArray[np.floating] | None) -> None:
        self.mesh, self.kept = hemisphere.closed.mesh, hemisphere.closed.kept
        self.sphere = Sphere(hemisphere.sphere, self.mesh.faces)
        self.further = np.zeros((len(self.kept), 0)) if values is None else self._standard(np.asarray(values))
        self._kept: dict[float, Floats] = {}

    def at(self, scales_mm: tuple[float, ...]) -> Floats:
        """[N, S] depth potentials on the mesh."""
        missing = tuple(scale for scale in dict.fromkeys(scales_mm) if scale not in self._kept)
        if missing:
            self._kept |= dict(zip(missing, folding(self.mesh, missing).T))
        return np.stack([self._kept[scale] for scale in scales_mm], axis=1)

    def on_grid(self, level: int, scale_mm: float) -> Floats:
        """[N', 1 + C] depth potential and further features on the nodes of an icosphere."""
        values = np.concatenate([self.at((scale_mm,)), self.further], axis=1)
        return self.sphere.values(self.sphere.locate(icosphere(level).points), values)

    def _standard(self, values: NDArray[np.floating]) -> Floats:
        values = values[self.kept].astype(np.float64)
        known = np.isfinite(values)
        if not known.any(0).all():
            raise InputError(f"hemisphere {self.mesh.hemisphere}: a further feature has no value at all")
        mean = np.array([column[fine].mean() for column, fine in zip(values.T, known.T)])
        off = np.where(known, values - mean, 0)
        spread = np.sqrt((off**2).sum(0) / known.sum(0))
        return np.asarray(np.clip(np.divide(off, spread, out=np.zeros_like(off), where=spread > 1e-12), -3, 3))


def _carried(moving: Hemisphere, warp: Floats, level: int) -> Floats:
    """The moving sphere carried along, fold-free even once it is written in single precision."""
    grid, faces = icosphere(level), moving.closed.mesh.faces.astype(np.int64)
    found = unit(grid.values(grid.locate(moving.sphere), warp))
    laplacian = Laplacian(moving.closed.mesh.vertices_mm.astype(np.float64), faces)
    found = unfolded(found, faces, laplacian, least=LEAST)
    assert (orientation(found, faces) > 0).all()
    return found


def _teller(progress: Progress, first: int, total: int) -> Callable[[int, float], None]:
    return lambda step, value: progress("registration", min(first + step + 1, total - 1), total, {"energy": value})


def _rounded(value: float | np.floating) -> float:
    return round(float(value), 4)

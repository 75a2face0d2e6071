"""How far a reconstruction lies from the truth of a virtual brain.

The yardstick is the surface u = 0.5 of the Laplace equation in the true ribbon (not the node-wise mean of white and
pial, which lies elsewhere), drawn on a fine grid. Distances run from the nodes of the reconstruction to that surface
(point to triangle), over nodes whose nearest true place has a ribbon: the medial wall is left out. Sections alone
cannot know the pose of the brain, so the best rigid motion of the whole reconstruction comes first (trimmed ICP, both
hemispheres together). The way back, from the true surface to the reconstruction, is given too: it sees what is
missing.

The floor is what the pipeline's own grid and surface extraction leave if it is given the true ribbon.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from meshgnn.graph import NodeLocations
from meshgnn.mesh import metric
from meshgnn.mesh.align import IDENTITY, closest_points
from meshgnn.mesh.record import SurfaceMesh
from reconstruct import laplace, remesh, tetra, voxelise
from reconstruct.records import Midsurface, Ribbon

Points = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class TrueMidsurface:
    """u = 0.5 in the true ribbon of one hemisphere.

    Args:
        vertices_mm, faces: [V, 3], [F, 3], dense.
        cortex: [V] bool, where the true ribbon has a thickness.
    """

    vertices_mm: Points
    faces: NDArray[np.int32]
    cortex: NDArray[np.bool_]


def true_ribbon(white: SurfaceMesh, pial: SurfaceMesh, voxel_mm: float) -> Ribbon:
    """Signed distances of true surfaces on a grid."""
    points = np.concatenate([white.vertices_mm, pial.vertices_mm]).astype(np.float64)
    low = points.min(0) - 4 * voxel_mm
    shape = np.ceil((points.max(0) + 4 * voxel_mm - low) / voxel_mm).astype(int)
    size = (int(shape[0]), int(shape[1]), int(shape[2]))
    affine = np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0])
    affine[:3, 3] = low
    band = 1.5
    fields = [
        voxelise.signed_distance((mesh.vertices_mm - low) / voxel_mm, mesh.faces, size, band) * voxel_mm
        for mesh in (pial, white)
    ]
    return Ribbon(
        pial=fields[0], white=np.maximum(fields[0], fields[1]), affine=affine, space=white.space,
        hemisphere=white.hemisphere,
    )  # fmt: skip


def true_midsurface(
    white: SurfaceMesh, pial: SurfaceMesh, voxel_mm: float = 0.5, least_mm: float = 0.3
) -> TrueMidsurface:
    """The yardstick; `least_mm` is the distance between white and pial below which there is no cortex."""
    ribbon = true_ribbon(white, pial, voxel_mm)
    u, _ = laplace.solve(ribbon.pial, ribbon.white, tolerance=1e-4)
    vertices, faces = tetra.surface(np.clip(u, -1, 2), 0.5)
    points = ribbon.to_mm(vertices)
    thick = np.linalg.norm(white.vertices_mm - pial.vertices_mm, axis=1) > least_mm
    tree = cKDTree((white.vertices_mm + pial.vertices_mm) / 2)
    return TrueMidsurface(vertices_mm=points, faces=faces, cortex=thick[tree.query(points)[1]])


class Surface:
    """Distances to a triangle mesh."""

    def __init__(self, vertices: Points, faces: NDArray[np.int32]) -> None:
        self.vertices, self.faces = np.ascontiguousarray(vertices, np.float64), np.ascontiguousarray(faces, np.int32)
        self.tree = cKDTree(self.vertices)
        self.head, self.following = remesh._lists(self.faces, len(self.vertices))

    def distance(self, points: Points, candidates: int = 4) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Distance [N] in mm and the nearest vertex [N]."""
        near = self.tree.query(points, k=candidates)[1].astype(np.int64)
        found = voxelise.nearest_on_faces(
            np.ascontiguousarray(points, np.float64), self.vertices, self.faces, self.head, self.following, near
        )  # fmt: skip
        return found, near[:, 0]

    def facing(
        self,
        points: Points,
        normals: Points,
        own: Points,
        allowed: NDArray[np.bool_] | None = None,
        candidates: int = 16,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Distance [N] in mm to the sheet that faces as the points do, and its nearest vertex [N].

        The opposite bank of a sulcus faces the other way and does not count; inf and -1 where none of the nearest
        `candidates` vertices faces alike.

        Args:
            points, normals: [N, 3].
            own: [V, 3] normals of this surface.
            allowed: [V] vertices that may be found; all if absent.
        """
        near = self.tree.query(points, k=min(candidates, len(self.vertices)))[1].astype(np.int64)
        near = near.reshape(len(points), -1)
        alike = (own[near] * normals[:, None]).sum(2) > 0
        if allowed is not None:
            alike &= allowed[near]
        first = near[np.arange(len(near)), alike.argmax(1)]
        found = voxelise.nearest_on_faces(
            np.ascontiguousarray(points, np.float64), self.vertices, self.faces, self.head, self.following,
            np.where(alike, near, first[:, None]),
        )  # fmt: skip
        some = alike.any(1)
        return np.where(some, found, np.inf), np.where(some, first, -1)


def rigid_fit(
    points: Points, target: Points, rounds: int = 25, trim: float = 0.9
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotation [3, 3] and shift [3] that bring points [N, 3] to a dense target cloud [M, 3], by `closest_points`."""
    rotation, shift = np.eye(3), np.zeros(3)
    for motion, _ in islice(closest_points(points, target, IDENTITY, keep=trim), rounds):
        settled = np.abs(motion.rotation - rotation).max() < 1e-6
        rotation, shift = motion.rotation, motion.shift_mm
        if settled:
            break
    return rotation, shift


def judge(
    found: Sequence[Midsurface],
    truth: Mapping[str, Mapping[str, SurfaceMesh]],
    locations: Sequence[NodeLocations] = (),
    extract: Callable[[Ribbon], Midsurface] | None = None,
    voxel_mm: float = 0.7,
    yardstick_mm: float = 0.5,
    workers: int = 2,
    faults: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The block `reconstruction` of metrics.json.

    Args:
        found: one per hemisphere.
        truth: surfaces by hemisphere and kind ("white", "pial").
        extract: the midsurface step of the pipeline, for the floor; no floor without it.
        voxel_mm: of the pipeline's grid, for the floor.
        yardstick_mm: of the grid on which the true surface is drawn.
        workers: hemispheres worked on side by side.
        faults: planted bridges, as in the truth.
    """

    def yardstick(item: Midsurface) -> tuple[TrueMidsurface, Surface, NDArray[np.float64]]:
        one = truth[item.mesh.hemisphere]
        true = true_midsurface(one["white"], one["pial"], yardstick_mm)
        surface = Surface(true.vertices_mm, true.faces)
        if extract is None:
            return true, surface, np.zeros(0)
        best = extract(true_ribbon(one["white"], one["pial"], voxel_mm))
        distance, nearest = surface.distance(best.mesh.vertices_mm.astype(np.float64))
        return true, surface, distance[true.cortex[nearest]]

    with ThreadPoolExecutor(max(1, workers)) as pool:
        yard = dict(zip((item.mesh.hemisphere for item in found), pool.map(yardstick, found)))
    rng = np.random.default_rng(0)
    everything = np.concatenate([item.mesh.vertices_mm[item.cortex].astype(np.float64) for item in found])
    target = np.concatenate([true.vertices_mm[true.cortex] for true, *_ in yard.values()])
    some = everything[rng.permutation(len(everything))[:15000]]
    rotation, shift = rigid_fit(some, target[rng.permutation(len(target))[:400000]])
    there, back, floor = [], [], []
    result: dict[str, Any] = {}
    for item in found:
        side = item.mesh.hemisphere
        truth_here, surface, best = yard[side]
        moved = item.mesh.vertices_mm.astype(np.float64) @ rotation.T + shift
        distance, nearest = surface.distance(moved)
        there.append(distance[truth_here.cortex[nearest]])
        own = Surface(moved, item.mesh.faces)
        sample = rng.permutation(np.flatnonzero(truth_here.cortex))[:40000]
        back.append(own.distance(truth_here.vertices_mm[sample], 8)[0])
        result[f"euler_{side}"] = int(item.report["euler_number"])
        floor.append(best)
    one = np.concatenate(there)
    result |= {
        "distance_mm_mean": _round(one.mean()), "distance_mm_p95": _round(np.percentile(one, 95)),
        "distance_mm_median": _round(np.median(one)),
        "back_mm_mean": _round(np.concatenate(back).mean()),
        "back_mm_p95": _round(np.percentile(np.concatenate(back), 95)),
        "rigid_shift_mm": [_round(v) for v in rotation @ everything.mean(0) + shift - everything.mean(0)],
        "rigid_turn_deg": _round(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))),
    }  # fmt: skip
    if extract is not None:
        result |= {
            "floor_mm_mean": _round(np.concatenate(floor).mean()),
            "floor_mm_p95": _round(np.percentile(np.concatenate(floor), 95)),
        }
    if faults:
        faults_found = [planted(one, item, rotation, shift) for one in faults for item in found
                if item.mesh.hemisphere == one["hemisphere"]]  # fmt: skip
        result |= {
            "faults_planted": len(faults_found),
            "faults_repaired": sum(one["open"] and one["repair"] is not None for one in faults_found),
            "faults": faults_found,
        }
    return result | coverage(locations)


def planted(
    fault: Mapping[str, Any], found: Midsurface, rotation: Points, shift: Points, within_mm: float = 5.0
) -> dict[str, Any]:
    """Whether a bridge that was planted between two banks of a sulcus was opened, and by which repair.

    Args:
        fault: hemisphere, start_mm, end_mm, radius_mm.
        rotation, shift: from the reconstruction to the truth.

    Returns:
        Its middle in the space of the reconstruction, whether the midsurface keeps the banks apart there ("open"), and
        the nearest listed repair within `within_mm` of the strand (None if there is none).
    """
    start, end = ((np.array(fault[name]) - shift) @ rotation for name in ("start_mm", "end_mm"))
    middle = (start + end) / 2
    vertices = found.mesh.vertices_mm.astype(np.float64)
    near = cKDTree(vertices).query(middle, k=8)[1]
    normal = metric.vertex_normals(found.mesh)[near]
    outside = bool((((middle - vertices[near]) * normal).sum(1) > 0).mean() > 0.5)
    candidates = []
    for one in found.repairs:
        place = np.array(one["position_mm"])
        t = np.clip((place - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
        away = float(np.linalg.norm(place - start - t * (end - start)))
        if away < within_mm:  # a strand that was seen as one says more than a cut nearby
            candidates.append((one["kind"] != "bridge cut", away, one))
    candidates.sort(key=lambda candidate: candidate[:2])
    nearest = None
    if candidates:
        _, away, one = candidates[0]
        nearest = {"where": one["where"], "kind": one["kind"], "away_mm": round(away, 2)}
    return {
        "hemisphere": found.mesh.hemisphere, "position_mm": [_round(v) for v in middle], "open": outside,
        "repair": nearest,
    }  # fmt: skip


def coverage(locations: Sequence[NodeLocations]) -> dict[str, float]:
    """Share of observed nodes and median distance to the section plane."""
    if not locations:
        return {}
    return {
        "observed_share": _round(np.concatenate([item.observed for item in locations]).mean()),
        "section_residual_mm_median": _round(np.median(np.concatenate([item.residual_mm for item in locations]))),
    }


def judge_stack(
    folder: Path, found: Sequence[Midsurface], locations: Sequence[NodeLocations], **rest: Any
) -> dict[str, Any]:
    """`judge` against the truth in the stack folder of a virtual brain."""
    from meshgnn.source.virtual.truth import read_truth

    truth = read_truth(folder)
    return judge(found, truth.surfaces, locations, faults=truth.faults, **rest)


def _round(value: Any) -> float:
    return round(float(value), 4)

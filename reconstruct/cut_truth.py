"""The truth beside a stack that was cut (`reconstruct.cut`), and how far a reconstruction lies from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from meshgnn.errors import InputError
from meshgnn.graph import NodeLocations
from meshgnn.mesh.record import HEMISPHERES, SurfaceMesh
from meshgnn.source.gifti import read_surface
from meshgnn.store import read_json
from reconstruct import judge
from reconstruct.records import Midsurface
from reconstruct.sampling import sample

Points = NDArray[np.float64]
FILE = Path("truth") / "cut.json"
LEAST_GREY = 0.3


def is_cut(folder: Path) -> bool:
    """Whether the truth of a cut stack lies beside it."""
    return (folder / FILE).is_file()


@dataclass(frozen=True, kw_only=True, eq=False)
class CutTruth:
    """What a stack was cut through.

    Args:
        grey: [X, Y, Z] float32 in 0..1, or the stain of a volume.
        affine: [4, 4] voxel -> mm of the reference.
        stained: True where `grey` is a stain and no class of tissue.
        centre_mm: [3] reference = stack space + this.
        surfaces: by hemisphere and kind (white, pial, midthickness), in the stack's space; may be empty.
        to_reference: [3, 3] by section number, (column_px, row_px, 1) -> mm of the reference.
    """

    grey: NDArray[np.float32]
    affine: Points
    stained: bool
    centre_mm: Points
    surfaces: dict[str, dict[str, SurfaceMesh]]
    to_reference: dict[int, Points]

    def at(self, field: NDArray[np.float32], points_mm: Points) -> Points:
        """Values [N] of a field at points [N, 3] of the reference; 0 outside of the grid."""
        back = np.linalg.inv(self.affine)
        voxels = points_mm @ back[:3, :3].T + back[:3, 3]
        within = ((voxels >= 0) & (voxels <= np.array(field.shape) - 1)).all(1)
        return np.where(within, sample(field, voxels), 0.0)


def read_cut(folder: Path) -> CutTruth:
    """Read the truth of the stack in `folder`.

    Raises:
        InputError: no truth of a cut stack there, or it is damaged.
    """
    import nibabel

    if not is_cut(folder):
        raise InputError(f"{folder}: no {FILE}; these sections were not cut by cut_sections")
    record = read_json(folder / FILE)
    truth = folder / FILE.parent
    try:
        image: Any = nibabel.load(truth / "grey.nii.gz")
        grey = np.asarray(image.get_fdata(dtype=np.float32))
        sections = {int(one["index"]): np.array(one["to_reference"], np.float64) for one in record["sections"]}
        surfaces: dict[str, dict[str, SurfaceMesh]] = {}
        for side in HEMISPHERES:
            for kind in ("white", "pial", "midthickness"):
                for path in sorted(truth.glob(f"sub-*_hemi-{side}_{kind}.surf.gii")):
                    points, faces = read_surface(path)
                    surfaces.setdefault(side, {})[kind] = SurfaceMesh(
                        vertices_mm=points, faces=faces, hemisphere=side, space=record["reference"]
                    )
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{truth}: damaged ({error}); cut the sections again") from None
    return CutTruth(
        grey=grey, affine=np.asarray(image.affine, np.float64), stained=bool(record["stained"]),
        centre_mm=np.array(record["centre_mm"], np.float64), surfaces=surfaces, to_reference=sections,
    )  # fmt: skip


def onto_grey(points: Points, truth: CutTruth, blur_mm: float = 1.0) -> tuple[Points, Points]:
    """Rotation [3, 3] and shift [3] from the stack's space to the reference under which points [N, 3] see most grey.

    Starts where the stack was cut; shifts and turns are sought by the simplex method of Nelder and Mead.
    """
    voxel = float(np.linalg.norm(truth.affine[:3, 0]))
    soft = ndimage.gaussian_filter(truth.grey, blur_mm / voxel)
    some = points[:: max(1, len(points) // 6000)]
    middle = some.mean(0)

    def motion(p: Points) -> tuple[Points, Points]:
        turn = Rotation.from_rotvec(np.radians(p[:3])).as_matrix()
        return turn, middle - turn @ middle + truth.centre_mm + p[3:]

    def misfit(p: Points) -> float:
        turn, shift = motion(p)
        return -float(truth.at(soft, some @ turn.T + shift).mean())

    start = np.vstack([np.zeros(6), 2.0 * np.eye(6)])
    best = minimize(misfit, start[0], method="Nelder-Mead",
                    options={"initial_simplex": start, "xatol": 0.01, "fatol": 1e-6, "maxiter": 800})  # fmt: skip
    return motion(best.x)


def judge_cut(
    folder: Path, found: Sequence[Midsurface], locations: Sequence[NodeLocations] = (), **rest: Any
) -> dict[str, Any]:
    """The block `reconstruction` of metrics.json against what was cut.

    Of surfaces, what `judge.judge` says, and the distance to the surface half way between white and pial; of maps, the
    share of nodes (`grey_share`) and of nodes in cortex (`grey_share_cortex`) where grey exceeds 0.3, after the rigid
    motion under which nodes see most grey. A stain has no classes: nothing is judged.

    Args:
        found: one per hemisphere.
        locations: where their nodes lie on the sections.
        rest: of `judge.judge`.
    """
    truth = read_cut(folder)
    plain: dict[str, Any] = {f"euler_{item.mesh.hemisphere}": int(item.report["euler_number"]) for item in found}
    plain |= judge.coverage(locations)
    if truth.surfaces:
        # Surfaces of decimated meshes cross themselves: what the grid alone leaves of them would tell of that.
        rest = {**rest, "extract": None}
        return judge.judge(found, truth.surfaces, locations, **rest) | _halfway(found, truth)
    if truth.stained:
        return plain
    nodes = np.concatenate([item.mesh.vertices_mm for item in found]).astype(np.float64)
    cortex = np.concatenate([item.cortex for item in found])
    rotation, shift = onto_grey(nodes[cortex], truth)
    grey = truth.at(truth.grey, nodes @ rotation.T + shift) > LEAST_GREY
    moved = rotation @ nodes.mean(0) + shift - truth.centre_mm - nodes.mean(0)
    return plain | {
        "grey_share": round(float(grey.mean()), 4), "grey_share_cortex": round(float(grey[cortex].mean()), 4),
        "rigid_shift_mm": [round(float(v), 4) for v in moved],
        "rigid_turn_deg": round(float(np.degrees(Rotation.from_matrix(rotation).magnitude())), 4),
    }  # fmt: skip


def _halfway(found: Sequence[Midsurface], truth: CutTruth, least_mm: float = 0.3) -> dict[str, float]:
    """Distance of nodes from the true midthickness after a rigid fit, where the ribbon is at least `least_mm` wide."""
    used = [item for item in found if item.mesh.hemisphere in truth.surfaces]
    if not used:
        return {}
    clouds, surfaces = [], []
    for item in used:
        kinds = truth.surfaces[item.mesh.hemisphere]
        middle = kinds["midthickness"]
        thick = np.linalg.norm(kinds["white"].vertices_mm - kinds["pial"].vertices_mm, axis=1) > least_mm
        # Corners and middles of triangles: closest points need a dense target.
        points = middle.vertices_mm.astype(np.float64)
        whole = middle.faces[thick[middle.faces].all(1)]
        clouds.append(np.concatenate([points[thick], points[whole].mean(1)]))
        surfaces.append((judge.Surface(points, middle.faces), thick))
    every = np.concatenate([item.mesh.vertices_mm[item.cortex].astype(np.float64) for item in used])
    rotation, shift = judge.rigid_fit(every[:: max(1, len(every) // 15000)], np.concatenate(clouds))
    away = []
    for item, (surface, thick) in zip(used, surfaces):
        distance, nearest = surface.distance(item.mesh.vertices_mm.astype(np.float64) @ rotation.T + shift, 8)
        away.append(distance[thick[nearest]])
    one = np.concatenate(away)
    return {
        "midthickness_mm_mean": round(float(one.mean()), 4),
        "midthickness_mm_p95": round(float(np.percentile(one, 95)), 4),
    }  # fmt: skip

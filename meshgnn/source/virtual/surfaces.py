"""Surfaces of a brain: template, Loop subdivision, deformation of the folds, mounting for the cut."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import sparse

from meshgnn.errors import InputError
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.mesh.topology import edges_not_in_two_faces
from meshgnn.optional import data_folder
from meshgnn.source.virtual.fields import Floats, SmoothField, flow, stream
from meshgnn.source.virtual.folding import refold

SIDES = {"L": "left", "R": "right"}
THICKEN = 1.1  # more, and banks of the template's sulci begin to meet


@dataclass(frozen=True, kw_only=True, eq=False)
class Hemisphere:
    """White and pial surface of one hemisphere on the same triangles, and the sphere that names their nodes.

    Args:
        name: L or R.
        faces: [F, 3] int32, outward.
        white_mm, pial_mm: [V, 3] RAS.
        sphere: [V, 3] unit vectors.
        cortex: [V] bool, False on the medial wall (where white and pial meet).
    """

    name: str
    faces: npt.NDArray[np.int32]
    white_mm: Floats
    pial_mm: Floats
    sphere: Floats
    cortex: npt.NDArray[np.bool_]


def read_template(folder: Path | None, hemisphere: str) -> Hemisphere:
    """White, pial and sphere of one hemisphere: nilearn's fsaverage5, or `{white,pial,sphere}_{left,right}.gii[.gz]`.

    Raises:
        InputError: a surface is missing, does not fit the others, or is not closed.
    """
    import nibabel

    folder = folder or data_folder("nilearn") / "datasets" / "data" / "fsaverage5"
    arrays: dict[str, Floats] = {}
    faces: dict[str, npt.NDArray[np.int32]] = {}
    for kind in ("white", "pial", "sphere"):
        stem = f"{kind}_{SIDES[hemisphere]}.gii"
        path = next((folder / name for name in (stem, stem + ".gz") if (folder / name).is_file()), None)
        if path is None:
            raise InputError(f"{folder}: no {stem} or {stem}.gz; a template needs white, pial and sphere")
        image = nibabel.load(path)
        arrays[kind] = np.asarray(image.agg_data("pointset"), np.float64)  # type: ignore[attr-defined]
        faces[kind] = np.asarray(image.agg_data("triangle"), np.int32)  # type: ignore[attr-defined]
    triangles = faces["white"]
    if len({len(points) for points in arrays.values()}) > 1 or not np.array_equal(triangles, faces["pial"]):
        raise InputError(f"{folder}: white, pial and sphere of {SIDES[hemisphere]} do not have the same nodes")
    for kind, points in arrays.items():
        if edges_not_in_two_faces(
            SurfaceMesh(vertices_mm=points.astype(np.float32), faces=triangles, hemisphere="L", space="template")
        ):
            raise InputError(f"{folder}: the {kind} surface of {SIDES[hemisphere]} is not closed")
    a, b, c = (arrays["white"][triangles[:, k]] for k in range(3))
    if np.einsum("ij,ij->i", a, np.cross(b, c)).sum() < 0:
        triangles = np.ascontiguousarray(triangles[:, ::-1])
    sphere = arrays["sphere"] / np.linalg.norm(arrays["sphere"], axis=1, keepdims=True)
    thickness = np.linalg.norm(arrays["pial"] - arrays["white"], axis=1)
    return Hemisphere(
        name=hemisphere,
        faces=triangles,
        white_mm=arrays["white"],
        pial_mm=arrays["pial"],
        sphere=sphere,
        cortex=thickness > 0.3,
    )


def loop_operator(n_nodes: int, faces: npt.NDArray[np.int32]) -> tuple[sparse.csr_array, npt.NDArray[np.int32]]:
    """One round of Loop subdivision of a closed mesh (Warren's weights): matrix [V', V] and faces [4 F, 3]."""
    triangles = faces.astype(np.int64)
    sides = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    apex = np.concatenate([triangles[:, 2], triangles[:, 0], triangles[:, 1]])
    low, high = sides.min(1), sides.max(1)
    keys, number = np.unique(low * n_nodes + high, return_inverse=True)
    count = len(keys)
    i, j = keys // n_nodes, keys % n_nodes
    odd = np.arange(count)
    rows = [odd, odd, number]
    columns = [i, j, apex]
    values = [np.full(count, 3 / 8), np.full(count, 3 / 8), np.full(len(apex), 1 / 8)]
    valence = np.bincount(np.r_[i, j], minlength=n_nodes)
    beta = np.where(valence == 3, 3 / 16, 3 / (8 * np.maximum(valence, 1)))
    rows += [count + np.arange(n_nodes), count + i, count + j]
    columns += [np.arange(n_nodes), j, i]
    values += [1 - valence * beta, beta[i], beta[j]]
    # Even nodes first, as in the coarse mesh.
    row = (np.concatenate(rows) + n_nodes) % (count + n_nodes)
    matrix = sparse.csr_array(
        (np.concatenate(values), (row, np.concatenate(columns))), shape=(count + n_nodes, n_nodes)
    )
    matrix.sum_duplicates()
    middle = number.reshape(3, -1).T + n_nodes  # of edges 01, 12, 20
    a, b, c = triangles.T
    ab, bc, ca = middle.T
    fine = np.concatenate([np.c_[a, ab, ca], np.c_[ab, b, bc], np.c_[ca, bc, c], np.c_[ab, bc, ca]])
    return matrix, np.ascontiguousarray(fine, np.int32)


def subdivide(hemisphere: Hemisphere, rounds: int) -> Hemisphere:
    """Loop subdivision of white, pial and sphere alike; coarse nodes keep their numbers."""
    for _ in range(rounds):
        matrix, faces = loop_operator(len(hemisphere.sphere), hemisphere.faces)
        sphere = matrix @ hemisphere.sphere
        hemisphere = Hemisphere(
            name=hemisphere.name,
            faces=faces,
            white_mm=matrix @ hemisphere.white_mm,
            pial_mm=matrix @ hemisphere.pial_mm,
            sphere=sphere / np.linalg.norm(sphere, axis=1, keepdims=True),
            cortex=(matrix @ hemisphere.cortex.astype(np.float64)) > 0.5,
        )
    return hemisphere


def deform(
    hemispheres: tuple[Hemisphere, ...],
    seed: int,
    *,
    fold_mm: float,
    refold_mm: float = 0.0,
    thickness_sd: float,
    linear_scale: float,
    tilt_deg: tuple[float, float, float],
    landmarks_mm: Floats,
    area_thickness: tuple[Floats, ...] = (),
) -> tuple[tuple[Hemisphere, ...], Floats]:
    """An individual's folds from the template's, mounted for the cut, bounding box centred on the origin.

    Each hemisphere is refolded (see `folding`, sd `refold_mm`), then space is carried along a smooth random flow (rms
    `fold_mm`, correlation lengths 25 and 9 mm), so nothing that was apart can cross; the cortex is made thicker or
    thinner by a smooth factor, by the areas' own (`area_thickness`, [V] for each hemisphere) and by what the folding
    took away from it; the whole is scaled and turned by `tilt_deg` about x, y and z. Landmarks [N, 3] (template RAS)
    go along.
    """
    rng = stream(seed, "folds")
    wide = SmoothField.draw(rng, scale_mm=25, sd=0.85 * fold_mm / np.sqrt(3), channels=3)
    fine = SmoothField.draw(rng, scale_mm=9, sd=0.5 * fold_mm / np.sqrt(3), channels=3)
    size = linear_scale * float(np.exp(0.03 * rng.standard_normal()))
    turn = np.eye(3)
    for axis, degrees in enumerate(tilt_deg):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        one = np.eye(3)
        k, m = (axis + 1) % 3, (axis + 2) % 3
        one[k, k], one[k, m], one[m, k], one[m, m] = c, -s, s, c
        turn = _product(one, turn)

    def carry(points: Floats, side: str) -> Floats:
        apart = np.array([1.0 if side == "R" else -1.0, 0, 0])  # the template's hemispheres touch at the midline
        return flow(flow(refold(points, seed, side, refold_mm) + apart, fine), wide) * size

    moved: list[Hemisphere] = []
    for hemi in hemispheres:
        own = stream(seed, "thickness", hemi.name)
        factor = np.exp(SmoothField.draw(own, scale_mm=20, sd=thickness_sd).at(hemi.sphere * 75)[:, 0])
        if area_thickness:
            factor = factor * area_thickness[len(moved)]
        half = (hemi.pial_mm - hemi.white_mm) / 2
        centre = hemi.white_mm + half
        before = np.maximum(_across(centre - half, centre + half, hemi.faces), 0.1)
        # Where folding squeezes the cortex, it starts out thicker; so far and no further keeps surfaces apart.
        white, pial = (carry(centre + sign * half, hemi.name) for sign in (-1.0, 1.0))
        squeezed = _across(white, pial, hemi.faces) / before
        factor = factor * np.clip(size / np.maximum(squeezed, 0.3), 0.9, THICKEN)
        grown = half * np.clip(factor, 0.6, THICKEN)[:, None]
        white, pial = (carry(centre + sign * grown, hemi.name) for sign in (-1.0, 1.0))
        moved.append(replace(hemi, white_mm=_product(white, turn.T), pial_mm=_product(pial, turn.T)))
    points = np.zeros((0, 3))
    for point in landmarks_mm:
        side = "R" if point[0] > 0 else "L"
        points = np.concatenate([points, _product(carry(point[None], side), turn.T)])
    everything = np.concatenate([hemi.pial_mm for hemi in moved])
    middle = (everything.min(0) + everything.max(0)) / 2
    centred = tuple(replace(hemi, white_mm=hemi.white_mm - middle, pial_mm=hemi.pial_mm - middle) for hemi in moved)
    return centred, points - middle


def _across(white: Floats, pial: Floats, faces: npt.NDArray[np.int32], rounds: int = 3) -> Floats:
    """Thickness [V] of the ribbon across itself (not along the nodes' own way), averaged over some one-rings."""
    middle = (white + pial) / 2
    a, b, c = (middle[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    length = np.sqrt((normal**2).sum(1))
    thick = np.abs((normal * (pial - white)[faces].mean(1)).sum(1)) / np.maximum(length, 1e-12)
    count = len(white)
    share = np.maximum(np.bincount(faces.ravel(), minlength=count), 1)
    for _ in range(rounds):
        node = np.bincount(faces.ravel(), np.repeat(thick, 3), count) / share
        thick = node[faces].mean(1)
    return np.bincount(faces.ravel(), np.repeat(thick, 3), count) / share


def _product(points: Floats, matrix: Floats) -> Floats:
    """points @ matrix for 3 columns, by plain sums: no threaded library, same bits everywhere."""
    return points[:, 0:1] * matrix[0] + points[:, 1:2] * matrix[1] + points[:, 2:3] * matrix[2]

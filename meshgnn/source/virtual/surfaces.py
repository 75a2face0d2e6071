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

SIDES = {"L": "left", "R": "right"}


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
    thickness_sd: float,
    linear_scale: float,
    tilt_deg: tuple[float, float, float],
    landmarks_mm: Floats,
) -> tuple[tuple[Hemisphere, ...], Floats]:
    """An individual's folds from the template's, mounted for the cut, bounding box centred on the origin.

    Space is carried along a smooth random flow (rms `fold_mm`, correlation lengths 25 and 9 mm), so nothing that was
    apart can cross; the cortex is made thicker or thinner by a smooth factor; the whole is scaled and turned by
    `tilt_deg` about x, y and z. Landmarks [N, 3] (template RAS) go along.
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
    moved = []
    for hemi in hemispheres:
        own = stream(seed, "thickness", hemi.name)
        factor = np.exp(SmoothField.draw(own, scale_mm=20, sd=thickness_sd).at(hemi.sphere * 75)[:, :1])
        half = (hemi.pial_mm - hemi.white_mm) / 2
        centre = hemi.white_mm + half
        apart = np.array([1.0 if hemi.name == "R" else -1.0, 0, 0])  # the template's hemispheres touch at the midline
        surfaces = []
        for sign in (-1.0, 1.0):
            points = centre + sign * half * np.minimum(factor, 1.25) + apart
            surfaces.append(_product(flow(flow(points, fine), wide) * size, turn.T))
        moved.append(replace(hemi, white_mm=surfaces[0], pial_mm=surfaces[1]))
    points = landmarks_mm + np.where(landmarks_mm[:, :1] > 0, 1.0, -1.0) * np.array([1.0, 0, 0])
    points = _product(flow(flow(points, fine), wide) * size, turn.T)
    everything = np.concatenate([hemi.pial_mm for hemi in moved])
    middle = (everything.min(0) + everything.max(0)) / 2
    centred = tuple(replace(hemi, white_mm=hemi.white_mm - middle, pial_mm=hemi.pial_mm - middle) for hemi in moved)
    return centred, points - middle


def _product(points: Floats, matrix: Floats) -> Floats:
    """points @ matrix for 3 columns, by plain sums: no threaded library, same bits everywhere."""
    return points[:, 0:1] * matrix[0] + points[:, 1:2] * matrix[1] + points[:, 2:3] * matrix[2]

"""A small made-up brain: two warped spheres, mirror images of each other, with planted areas and features."""

import numpy as np
import trimesh

from meshgnn.graph import Areas, FeatureTable, MeshGraph
from meshgnn.mesh.record import SurfaceMesh


def sphere(subdivisions: int = 3, radius_mm: float = 30.0, hemisphere: str = "L", x_mm: float = 0.0) -> SurfaceMesh:
    ball = trimesh.creation.icosphere(subdivisions, radius=radius_mm)
    vertices = np.asarray(ball.vertices) + np.array([x_mm, 0, 0])
    return SurfaceMesh(vertices_mm=vertices, faces=np.asarray(ball.faces), hemisphere=hemisphere, space="test")


def brain(
    subdivisions: int = 3, n_areas: int = 4, noise: float = 0.7, seed: int = 0, medial_wall: bool = True
) -> MeshGraph:
    """Areas are cells around random directions; three features carry the area plus noise, one is noise alone."""
    rng = np.random.default_rng(seed)
    left = sphere(subdivisions, x_mm=-32.0)
    right_points = left.vertices_mm * [-1, 1, 1]
    right = SurfaceMesh(vertices_mm=right_points, faces=left.faces[:, ::-1], hemisphere="R", space="test")
    centres = rng.normal(size=(n_areas, 3))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    signal = rng.normal(size=(n_areas, 3))
    labels, values, cortex = [], [], []
    for mesh, side in ((left, 1), (right, -1)):
        unit = (mesh.vertices_mm - mesh.vertices_mm.mean(0)) * [side, 1, 1] / 30
        label = (unit @ centres.T).argmax(1)
        medial = unit[:, 0] > 0.93 if medial_wall else np.zeros(len(unit), bool)
        feature = signal[label] + noise * rng.normal(size=(len(unit), 3))
        values.append(np.c_[feature, rng.normal(size=len(unit))])
        labels.append(np.where(medial, -1, label))
        cortex.append(~medial)
    mask = np.concatenate(cortex)
    table = FeatureTable(
        name="surface", values=np.concatenate(values), mask=mask, columns=("a", "b", "c", "junk"), units=("mm",) * 4
    )
    points = np.concatenate([left.vertices_mm, right.vertices_mm])
    middle = np.concatenate([np.tile(mesh.vertices_mm.mean(0), (mesh.n_vertices, 1)) for mesh in (left, right)])
    return MeshGraph(
        brain="Ball",
        meshes=(left, right),
        cortex=mask,
        tables={"surface": table},
        labels=np.concatenate(labels),
        areas=Areas(names=tuple(f"A{k + 1}" for k in range(n_areas))),
        surfaces={
            "pial": (middle + (points - middle) * 1.04).astype(np.float32),
            "white": (middle + (points - middle) * 0.96).astype(np.float32),
        },
    )

"""Meshes as PLY and GLB for viewers; trimesh does the writing.

PLY keeps mm. GLB is in metres, as glTF demands (a factor of 0.001), with one named node per hemisphere.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import trimesh

from meshgnn.mesh.record import SurfaceMesh
from meshgnn.store import written_aside


def _shape(mesh: SurfaceMesh, scale: float = 1.0) -> trimesh.Trimesh:
    points = mesh.vertices_mm.astype(np.float64) * scale
    return trimesh.Trimesh(vertices=points, faces=mesh.faces, process=False)  # process would merge vertices


def write_ply(path: Path, mesh: SurfaceMesh) -> None:
    """Binary PLY in mm, vertices in order."""
    with written_aside(path) as aside:
        aside.write_bytes(_shape(mesh).export(file_type="ply", encoding="binary"))  # type: ignore[arg-type]


def write_glb(path: Path, meshes: Sequence[SurfaceMesh]) -> None:
    """One GLB with a node `hemi-L` and `hemi-R`, in metres, vertices in order."""
    scene = trimesh.Scene()
    for mesh in meshes:
        scene.add_geometry(
            _shape(mesh, 0.001), node_name=f"hemi-{mesh.hemisphere}", geom_name=f"hemi-{mesh.hemisphere}"
        )
    with written_aside(path) as aside:
        aside.write_bytes(scene.export(file_type="glb"))

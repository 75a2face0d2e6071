"""fsaverage5 as a brain to register to: nilearn ships it."""

from pathlib import Path

import numpy as np

from meshgnn.graph import MeshGraph
from meshgnn.mesh.record import HEMISPHERES, SurfaceMesh
from meshgnn.registration.brains import REGISTERED
from meshgnn.registration.match import RADIUS_MM
from meshgnn.source.surface_folder import SurfaceFolder
from meshgnn.source.virtual.surfaces import read_template

FSAVERAGE5 = "fsaverage5"


def fsaverage5() -> MeshGraph:
    """Both hemispheres of fsaverage5 (10,242 vertices each, MNI305 mm) with their spheres as `sphere_reg`.

    Raises:
        InputError: nilearn is not installed.
    """
    sides = {side: read_template(None, side) for side in HEMISPHERES}
    meshes = tuple(
        SurfaceMesh(
            vertices_mm=((one.white_mm + one.pial_mm) / 2).astype(np.float32),
            faces=one.faces,
            hemisphere=side,
            space="fsaverage",
        )
        for side, one in sides.items()
    )
    surfaces = {
        "white": [one.white_mm for one in sides.values()],
        "pial": [one.pial_mm for one in sides.values()],
        REGISTERED: [RADIUS_MM * one.sphere for one in sides.values()],
    }
    return MeshGraph(
        brain=FSAVERAGE5, meshes=meshes, cortex=np.concatenate([one.cortex for one in sides.values()]),
        surfaces={name: np.concatenate(points).astype(np.float32) for name, points in surfaces.items()},
    )  # fmt: skip


def common_mesh(name: str) -> MeshGraph:
    """fsaverage5 by this name, or the brain of a surface folder. Raises InputError if there is neither."""
    return fsaverage5() if name == FSAVERAGE5 else SurfaceFolder.Config(folder=Path(name)).build().read().graph

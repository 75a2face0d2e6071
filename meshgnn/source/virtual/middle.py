"""The brain that virtual subjects vary about: the template's mesh with the middle layout of areas on it."""

import numpy as np

from meshgnn.graph import MeshGraph
from meshgnn.mesh.record import HEMISPHERES, SurfaceMesh
from meshgnn.source.virtual.areas import isocortical_areas
from meshgnn.source.virtual.planted import middle_layout
from meshgnn.source.virtual.subjects import SPACE


def middle_brain() -> MeshGraph:
    """fsaverage4 (2562 nodes of each hemisphere) from nilearn's fsaverage5, midthickness, in MNI305, with the 33
    isocortical areas of the virtual brains where no individual variation has moved them."""
    meshes, labels, cortex = [], [], []
    for side in HEMISPHERES:
        hemi, label = middle_layout(side)
        points = ((hemi.white_mm + hemi.pial_mm) / 2).astype(np.float32)
        meshes.append(SurfaceMesh(vertices_mm=points, faces=hemi.faces, hemisphere=hemi.name, space=SPACE))  # type: ignore[arg-type]
        labels.append(np.where(hemi.cortex, label, -1))
        cortex.append(hemi.cortex)
    return MeshGraph(
        brain="template", meshes=tuple(meshes), cortex=np.concatenate(cortex), labels=np.concatenate(labels),
        areas=isocortical_areas(),
    )  # fmt: skip

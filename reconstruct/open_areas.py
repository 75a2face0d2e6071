"""Areas of precomputed volumes at the nodes of a mesh."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from meshgnn.graph import Areas
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.progress import Progress, silent
from meshgnn.source.precomputed import PrecomputedVolume, Reader
from reconstruct.sources import Precomputed


def area_labels(
    source: Precomputed.Config, meshes: Sequence[SurfaceMesh], progress: Progress = silent
) -> tuple[Areas, list[NDArray[np.int64]]]:
    """Areas, and the class number of every node of each mesh, -1 where no volume names one.

    An area is named by its volume, less `_left` or `_right`, and by its value if that is not 1; where two claim a node
    the first one has it. Chunks without nodes are not asked for, those that are missing hold nothing.
    """
    known: dict[str, int] = {}
    labels = [np.full(mesh.n_vertices, -1, np.int64) for mesh in meshes]
    for number, address in enumerate(source.areas):
        volume = PrecomputedVolume(address, timeout_s=source.timeout_s, missing="zero")
        scale = volume.scale_for(source.voxel_mm)
        reader, back = volume.reader(scale), np.linalg.inv(volume.affine(scale))
        title = volume.address.rsplit("/", 1)[-1].removesuffix("_left").removesuffix("_right")
        for mesh, own in zip(meshes, labels):
            points = mesh.vertices_mm.astype(np.float64) @ back[:3, :3].T + back[:3, 3]
            for node, value in _values_at(reader, np.rint(points).astype(np.int64)).items():
                if own[node] < 0:
                    own[node] = known.setdefault(title if value == 1 else f"{title} {value}", len(known))
        progress("areas", number + 1, len(source.areas))
    return Areas(names=tuple(known)), labels


def _values_at(reader: Reader, voxels: NDArray[np.int64]) -> dict[int, int]:
    """Values other than 0 at voxels [V, 3], counted from the volume's first, by their place in the list."""
    scale = reader.scale
    inside = np.flatnonzero(((voxels >= 0) & (voxels < scale.size)).all(1))
    found: dict[int, int] = {}
    if not len(inside):
        return found
    chunks, which = np.unique(voxels[inside] // scale.chunk, axis=0, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    for chunk, part in zip(chunks, np.split(inside[order], np.flatnonzero(np.diff(which.ravel()[order])) + 1)):
        low = chunk * scale.chunk
        values = reader(low + scale.start, np.minimum(low + scale.chunk, scale.size) + scale.start)
        own = values[tuple((voxels[part] - low).T)]
        found |= {int(node): int(value) for node, value in zip(part, own) if value}
    return found

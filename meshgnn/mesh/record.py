"""The mesh record."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

import numpy as np
import numpy.typing as npt

from meshgnn.errors import InputError

Hemisphere = Literal["L", "R"]
HEMISPHERES: tuple[Hemisphere, Hemisphere] = ("L", "R")


def frozen(array: npt.ArrayLike, dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
    """A read-only, C-ordered copy of `array` (no copy if it is one already)."""
    result = np.ascontiguousarray(array, dtype=dtype)
    if result.flags.writeable:
        if result is array or result.base is not None:
            result = result.copy()
        result.setflags(write=False)
    return result


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class SurfaceMesh:
    """One hemisphere's triangle mesh.

    Args:
        vertices_mm: [V, 3] float32, RAS coordinates in mm.
        faces: [F, 3] int32, indices into the vertices.
        hemisphere: "L" or "R".
        space: name of the coordinate space (BigBrain, fsLR, virtual-01, ...).

    The mesh may be open, non-manifold or disconnected: real ones are. Vertices without a face are allowed.

    Raises:
        InputError: wrong shapes, a vertex that is not finite, a face index out of range, a face that names a vertex
            twice, or no vertex at all.
    """

    vertices_mm: npt.NDArray[np.float32]
    faces: npt.NDArray[np.int32]
    hemisphere: Hemisphere
    space: str

    def __post_init__(self) -> None:
        vertices = np.asarray(self.vertices_mm)
        faces = np.asarray(self.faces)
        if vertices.ndim != 2 or vertices.shape[1] != 3 or len(vertices) == 0:
            raise InputError(f"a mesh needs vertices of shape [V, 3], got {vertices.shape}")
        if faces.ndim != 2 or faces.shape[1] != 3:
            raise InputError(f"a mesh needs triangles of shape [F, 3], got {faces.shape}")
        if not np.isfinite(vertices).all():
            raise InputError(f"{int((~np.isfinite(vertices)).any(1).sum())} mesh vertices are not finite")
        if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
            wrong = int(faces.min() if faces.min() < 0 else faces.max())
            raise InputError(f"a face names vertex {wrong}, but the mesh has {len(vertices)} vertices")
        twice = (faces[:, 0] == faces[:, 1]) | (faces[:, 1] == faces[:, 2]) | (faces[:, 0] == faces[:, 2])
        if twice.any():
            raise InputError(f"{int(twice.sum())} faces name one vertex twice")
        if self.hemisphere not in HEMISPHERES:
            raise InputError(f"hemisphere must be L or R, got {self.hemisphere!r}")
        if not self.space:
            raise InputError("a mesh must name its coordinate space")
        object.__setattr__(self, "vertices_mm", frozen(vertices, np.float32))
        object.__setattr__(self, "faces", frozen(faces, np.int32))

    @property
    def n_vertices(self) -> int:
        return len(self.vertices_mm)

    @property
    def n_faces(self) -> int:
        return len(self.faces)

    def content_hash(self) -> str:
        """Hash of connectivity and coordinates: files that belong to a mesh name it by this hash."""
        digest = sha256(self.vertices_mm.tobytes())
        digest.update(self.faces.tobytes())
        digest.update(f"{self.hemisphere} {self.space}".encode())
        return digest.hexdigest()[:16]

    def with_vertices(self, vertices_mm: npt.ArrayLike, space: str | None = None) -> "SurfaceMesh":
        """The same triangles on other coordinates [V, 3] (pial, inflated, another space)."""
        return SurfaceMesh(
            vertices_mm=np.asarray(vertices_mm, dtype=np.float32),
            faces=self.faces,
            hemisphere=self.hemisphere,
            space=space or self.space,
        )

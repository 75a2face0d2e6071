"""Runs on a surface folder's meshes: a series over time per vertex, of GIfTI, FreeSurfer and CIFTI files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.source import cifti, freesurfer, gifti
from meshgnn.source.folder_values import check_length, known
from meshgnn.source.surface_files import SurfaceFile


class FolderSeries:
    """Reads the series files of a folder.

    Attributes:
        used: the files read.
        warnings: one line each.
    """

    def __init__(self, files: Sequence[SurfaceFile], meshes: Sequence[SurfaceMesh]) -> None:
        self.files = [file for file in files if file.kind == "series"]
        self.meshes = tuple(meshes)
        self.used: list[Path] = []
        self.warnings: list[str] = []

    def read(self) -> dict[str, NDArray[np.float32]]:
        """[V, T] by name, of the series that every hemisphere has; NaN where a file has no number.

        Raises:
            InputError: a damaged file, a file of another mesh, two series of one name, hemispheres of different
                numbers of frames.
        """
        parts: dict[str, dict[str, NDArray[np.float32]]] = {}
        origin: dict[str, Path] = {}
        for file in self.files:
            for mesh in self.meshes:
                if file.hemisphere not in ("", mesh.hemisphere):
                    continue
                values = self._values(file, mesh)
                if values is None:
                    continue
                own = parts.setdefault(file.name, {})
                if mesh.hemisphere in own:
                    raise InputError(
                        f"{file.path}: a second series {file.name!r} (the first: {origin[file.name]}); keep one"
                    )
                other = next(iter(own.values()), values)
                if other.shape[1] != values.shape[1]:
                    raise InputError(
                        f"{file.path}: has {values.shape[1]} frames, {origin[file.name]} has {other.shape[1]}; both "
                        "hemispheres of a run have the same"
                    )
                own[mesh.hemisphere], origin[file.name] = values, file.path
        found = {}
        for name, by_hemisphere in parts.items():
            missing = [mesh.hemisphere for mesh in self.meshes if mesh.hemisphere not in by_hemisphere]
            if missing:
                self.warnings.append(f"series {name!r} is missing in hemisphere {missing[0]}; left out")
                continue
            found[name] = np.concatenate([by_hemisphere[mesh.hemisphere] for mesh in self.meshes])
        return found

    def _values(self, file: SurfaceFile, mesh: SurfaceMesh) -> NDArray[np.float32] | None:
        """[V, T] of one file; None if it lacks the hemisphere, or is of another mesh by nature."""
        if file.format == "cifti":
            found = cifti.read_series(file.path, mesh.hemisphere)
            if found is None:
                return None
            read = found
        else:
            read = gifti.read_values(file.path)[0] if file.format == "gifti" else freesurfer.read_series(file.path)
        if file.guessed and len(read) != mesh.n_vertices:
            self.warnings.append(f"{file.path.name}: {len(read)} series, so it is of another mesh; left out")
            return None
        check_length(file.path, len(read), mesh)
        self.used.append(file.path)
        there = known(read)
        # A CIFTI file lists the vertices of cortex alone; that others have no value is no gap.
        gaps = int(((~there).any(1) & (there.any(1) | (file.format != "cifti"))).sum())
        if gaps:
            self.warnings.append(f"{file.path.name}: {gaps} vertices have frames without a value (NaN or infinite)")
        return np.where(there, read, np.float32(np.nan))

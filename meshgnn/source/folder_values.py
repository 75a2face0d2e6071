"""The features of a surface folder: per-vertex values of GIfTI, FreeSurfer and CIFTI files as tables."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.graph import FeatureTable
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.source import cifti, freesurfer, gifti
from meshgnn.source.surface_files import SurfaceFile

# Larger numbers are marks for "no value" (the largest float32 among them), and overflow when averaged.
LARGEST = 1e30


def known(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where there is a number, and no mark for one that is missing."""
    return np.abs(values) < LARGEST  # not so for NaN


def check_length(path: Path, length: int, mesh: SurfaceMesh) -> None:
    """Raises InputError when a file's values are not one per vertex."""
    if length != mesh.n_vertices:
        raise InputError(
            f"{path}: has {length} values, but the mesh of hemisphere {mesh.hemisphere} has {mesh.n_vertices} "
            "vertices; it belongs to another mesh"
        )


class FolderValues:
    """Reads the value files of a folder.

    Attributes:
        used: the files read.
        warnings: one line each.
        listed: hemisphere -> [V] vertices that some CIFTI file has an entry for.
    """

    def __init__(self, files: Sequence[SurfaceFile], meshes: Sequence[SurfaceMesh]) -> None:
        self.files = [file for file in files if file.kind == "values"]
        self.meshes = tuple(meshes)
        self.used: list[Path] = []
        self.warnings: list[str] = []
        self.listed: dict[str, NDArray[np.bool_]] = {}

    def read(self) -> dict[str, NDArray[np.float32]]:
        """Columns [V] by name, in file order, of the features that every hemisphere has.

        Raises:
            InputError: a damaged file, a file of another mesh, or two features of one name.
        """
        parts: dict[str, dict[str, NDArray[np.float32]]] = {}
        origin: dict[str, Path] = {}
        for file in self.files:
            for mesh in self.meshes:
                if file.hemisphere not in ("", mesh.hemisphere):
                    continue
                for column, values in self._columns(file, mesh).items():
                    if mesh.hemisphere in parts.setdefault(column, {}):
                        raise InputError(
                            f"{file.path}: a second feature {column!r} (the first: {origin[column]}); keep one"
                        )
                    parts[column][mesh.hemisphere] = values
                    origin[column] = file.path
        complete = {}
        for column, by_hemisphere in parts.items():
            missing = [mesh.hemisphere for mesh in self.meshes if mesh.hemisphere not in by_hemisphere]
            if missing:
                self.warnings.append(f"feature {column!r} is missing in hemisphere {missing[0]}; left out")
                continue
            complete[column] = np.concatenate([by_hemisphere[mesh.hemisphere] for mesh in self.meshes])
        return complete

    def _columns(self, file: SurfaceFile, mesh: SurfaceMesh) -> dict[str, NDArray[np.float32]]:
        """The columns of one file for one hemisphere by name; {} if it has none or is of another mesh by nature."""
        names = [""]
        if file.format == "gifti":
            values, names = gifti.read_values(file.path)
        elif file.format == "freesurfer":
            values = freesurfer.read_values(file.path)[:, None]
        else:
            found = cifti.read_scalars(file.path, mesh.hemisphere)
            if found is None:
                return {}
            values, names = found
        if file.guessed and len(values) != mesh.n_vertices:
            self.warnings.append(f"{file.path.name}: {len(values)} values, so it is of another mesh; left out")
            return {}
        check_length(file.path, len(values), mesh)
        self.used.append(file.path)
        if file.format == "cifti":
            entries = known(values).any(1)
            self.listed[mesh.hemisphere] = entries | self.listed.get(mesh.hemisphere, np.zeros_like(entries))
        if values.shape[1] == 1:
            return {file.name: values[:, 0]}
        titles = [f"{file.name}_{name or k}" for k, name in enumerate(names)]
        if len(set(titles)) < len(titles):  # maps of one name: number them
            titles = [f"{title}_{k}" for k, title in enumerate(titles)]
        return {title: values[:, k] for k, title in enumerate(titles)}

    def tables(self, columns: dict[str, NDArray[np.float32]], cortex: NDArray[np.bool_]) -> dict[str, FeatureTable]:
        """Tables of the columns: "surface" holds those that are complete in cortex, others those with the same gaps.

        A gap masks rows of its own table only, so that leaving a feature out leaves its gaps out too. A feature
        without a value in more than half of a hemisphere's cortex is left out, with a warning.
        """
        groups: dict[bytes, list[str]] = {}
        for name, column in columns.items():
            there = known(column)
            gaps = {
                side: float((~there[part] & cortex[part]).sum() / max(1, cortex[part].sum()))
                for side, part in self._places().items()
            }
            worst = max(gaps, key=lambda side: gaps[side])
            if gaps[worst] > 0.5:
                self.warnings.append(
                    f"feature {name!r} has no value in {gaps[worst]:.0%} of the cortex of hemisphere {worst}; left out"
                )
                continue
            groups.setdefault((~there & cortex).tobytes(), []).append(name)
        tables: dict[str, FeatureTable] = {}
        for group in groups.values():
            stacked = np.stack([columns[name] for name in group], axis=1)
            complete = np.logical_and.reduce(known(stacked), axis=1)
            inside = int((~complete & cortex).sum())
            if inside:
                self.warnings.append(
                    f"{', '.join(group)}: {inside} vertices in cortex have no value (NaN or infinite); their rows are "
                    "masked"
                )
            title = "surface" if not inside else f"surface {group[0]}"
            tables[title] = FeatureTable(
                name=title, values=np.where(complete[:, None], stacked, 0), mask=complete, columns=tuple(group)
            )
        return tables

    def _places(self) -> dict[str, slice]:
        ends = np.cumsum([0, *(mesh.n_vertices for mesh in self.meshes)])
        return {mesh.hemisphere: slice(int(ends[k]), int(ends[k + 1])) for k, mesh in enumerate(self.meshes)}

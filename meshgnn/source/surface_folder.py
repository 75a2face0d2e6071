"""A brain from a folder of surfaces, per-vertex features and atlas labels, as the tools of the field write them.

GIfTI by BIDS-style names, FreeSurfer by its own names, CIFTI scalars and labels; formats may be mixed. Layout in
docs/user-guide.md.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError
from meshgnn.graph import Areas, FeatureTable, MeshGraph
from meshgnn.mesh.record import HEMISPHERES, Hemisphere, SurfaceMesh
from meshgnn.source import cifti, freesurfer, gifti
from meshgnn.source.area_names import join_tables
from meshgnn.source.socket import LabelTable, Reading
from meshgnn.source.surface_files import SurfaceFile, scan


class SurfaceFolder:
    """Reads one brain of a surface folder."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            folder: the surface folder.
            atlas: which labels; may stay empty if the folder holds one atlas.
            brain: the `sub-` entity; may stay empty if the folder holds one brain.
            space: the `space-` entity; may stay empty if the folder uses one.
            hemispheres: which to read; both where both are there, if empty.
        """

        folder: Path = Path()
        atlas: str = ""
        brain: str = ""
        space: str = ""
        hemispheres: tuple[Hemisphere, ...] = ()

        def build(self) -> "SurfaceFolder":
            return SurfaceFolder(self)

    def __init__(self, config: Config) -> None:
        self.config = config
        self._warnings: list[str] = []
        self._used: list[Path] = []

    # -- what is there ------------------------------------------------------------------------------------------

    def files(self) -> list[SurfaceFile]:
        """The files of the chosen brain and space.

        Raises:
            InputError: nothing understood in the folder, or a choice of brain or space is needed.
        """
        folder = self.config.folder
        if folder == Path():
            raise InputError("no surface folder given; add --set source.folder=DIR")
        files = scan(folder)
        if not files:
            raise InputError(
                f"{folder}: no surface files found; expected names like sub-X_hemi-L_midthickness.surf.gii, "
                "lh.pial or X.dscalar.nii"
            )
        files = self._choose(files, "brain", self.config.brain)
        return self._choose(files, "space", self.config.space)

    def _choose(self, files: list[SurfaceFile], entity: str, wanted: str) -> list[SurfaceFile]:
        there = sorted({getattr(file, entity) for file in files} - {""})
        if wanted and wanted not in there:
            raise InputError(
                f"{self.config.folder}: no {entity} {wanted!r}; there is {', '.join(there) or 'none named'}"
            )
        if not wanted and len(there) > 1:
            raise InputError(
                f"{self.config.folder}: holds {len(there)} of {entity}: {', '.join(there)}; choose one with "
                f"--set source.{entity}={there[0]}"
            )
        chosen = wanted or (there[0] if there else "")
        return [file for file in files if getattr(file, entity) in ("", chosen)]

    def atlases(self) -> list[str]:
        """Names of the atlases that the folder holds."""
        return sorted({file.name for file in self.files() if file.kind == "labels"})

    # -- reading ------------------------------------------------------------------------------------------------

    def read(self) -> Reading:
        """The brain as a record.

        NaN outside the cortex mask is ignored; inside, the row is masked and counted in a warning.

        Raises:
            InputError: see the messages; always one line that names the file.
        """
        self._warnings, self._used = [], []
        files = self.files()
        hemispheres = self._hemispheres(files)
        space = next((file.space for file in files if file.space), "") or self._brain_name(files)
        surfaces: dict[str, list[NDArray[np.float32]]] = {}
        meshes = []
        for hemisphere in hemispheres:
            mesh, others = self._mesh(files, hemisphere, space)
            meshes.append(mesh)
            for name, points in others.items():
                surfaces.setdefault(name, []).append(points)
        surfaces = {name: parts for name, parts in surfaces.items() if len(parts) == len(meshes)}
        values, known = self._features(files, meshes)
        atlas, labels, areas = self._labels(files, meshes)
        cortex = np.concatenate([self._cortex(files, mesh) for mesh in meshes])
        if not cortex.any():
            raise InputError(f"{self.config.folder}: the cortex mask holds no vertex")
        tables = {"surface": self._table(values, known, cortex)} if values else {}
        labels = np.where(cortex, labels, -1)
        graph = MeshGraph(
            brain=self._brain_name(files),
            meshes=tuple(meshes),
            cortex=cortex,
            tables=tables,
            labels=labels,
            areas=areas,
            surfaces={name: np.concatenate(parts) for name, parts in surfaces.items()},
        )
        return Reading(graph=graph, files=tuple(dict.fromkeys(self._used)), warnings=tuple(self._warnings), atlas=atlas)

    def _brain_name(self, files: list[SurfaceFile]) -> str:
        named = next((file.brain for file in files if file.brain), "")
        description = self.config.folder / "dataset_description.json"
        if not named and description.is_file():
            try:
                named = str(json.loads(description.read_text(encoding="utf-8")).get("Name", ""))
            except (OSError, ValueError, AttributeError):
                self._warnings.append(f"{description}: not readable as JSON; ignored")
        return "".join(c if c.isalnum() else "" for c in named) or self.config.folder.resolve().name

    def _hemispheres(self, files: list[SurfaceFile]) -> tuple[Hemisphere, ...]:
        there = {file.hemisphere for file in files if file.kind == "surface"}
        wanted = self.config.hemispheres or tuple(h for h in HEMISPHERES if h in there)
        for hemisphere in wanted:
            if hemisphere not in there:
                raise InputError(f"{self.config.folder}: no surface of hemisphere {hemisphere} (hemi-{hemisphere}, "
                                 f"{hemisphere.lower()}h.)")  # fmt: skip
        if not wanted:
            raise InputError(f"{self.config.folder}: no midthickness, pial or white surface found")
        return tuple(sorted(set(wanted)))

    def _mesh(
        self, files: list[SurfaceFile], hemisphere: Hemisphere, space: str
    ) -> tuple[SurfaceMesh, dict[str, NDArray[np.float32]]]:
        """The midthickness mesh, and the other surfaces of the same vertices."""
        found: dict[str, NDArray[np.float32]] = {}
        faces: NDArray[np.int32] | None = None
        first: Path | None = None
        for file in files:
            if file.kind != "surface" or file.hemisphere != hemisphere:
                continue
            if file.name in found:
                raise InputError(f"{file.path}: a second {file.name} surface of hemisphere {hemisphere}; keep one")
            points, triangles = (gifti if file.format == "gifti" else freesurfer).read_surface(file.path)
            if faces is None:
                faces, first = triangles, file.path
            if len(points) != len(next(iter(found.values()), points)):
                raise InputError(
                    f"{file.path}: has {len(points)} vertices, {first} has {len(next(iter(found.values())))}"
                )
            if triangles.shape != faces.shape or (triangles != faces).any():
                if file.name in ("flat", "sphere.reg", "orig"):  # flat maps are cut open: not the same triangles
                    continue
                raise InputError(f"{file.path}: its triangles differ from those of {first}; they are different meshes")
            found[file.name] = points
            self._used.append(file.path)
        if "midthickness" in found:
            middle = found.pop("midthickness")
        elif "pial" in found and "white" in found:
            middle = (found["pial"] + found["white"]) * np.float32(0.5)
        elif "white" in found or "pial" in found:
            name = "white" if "white" in found else "pial"
            middle = found[name]
            self._warnings.append(
                f"hemisphere {hemisphere}: only the {name} surface is there; used in place of midthickness"
            )
        else:
            raise InputError(
                f"{self.config.folder}: hemisphere {hemisphere} has no midthickness, pial or white surface"
            )
        assert faces is not None
        try:
            return SurfaceMesh(vertices_mm=middle, faces=faces, hemisphere=hemisphere, space=space), found
        except InputError as error:
            raise InputError(f"{first}: {error}") from None

    def _features(
        self, files: list[SurfaceFile], meshes: list[SurfaceMesh]
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, Path]]:
        """Columns [V] by name, in file order, for features that every hemisphere has."""
        parts: dict[str, dict[str, NDArray[np.float32]]] = {}
        origin: dict[str, Path] = {}
        for file in files:
            if file.kind != "values":
                continue
            for mesh in meshes:
                if file.hemisphere not in ("", mesh.hemisphere):
                    continue
                read = self._read_values(file, mesh.hemisphere)
                if read is None:
                    continue
                values, names = read
                self._check_length(file.path, len(values), mesh)
                single = values.shape[1] == 1
                for k, name in enumerate(names):
                    column = file.name if single else f"{file.name}_{name or k}"
                    if mesh.hemisphere in parts.setdefault(column, {}):
                        raise InputError(f"{file.path}: a second feature {column!r} (the first: {origin[column]})")
                    parts[column][mesh.hemisphere] = values[:, k]
                    origin[column] = file.path
        complete = {}
        for column, by_hemisphere in parts.items():
            missing = [mesh.hemisphere for mesh in meshes if mesh.hemisphere not in by_hemisphere]
            if missing:
                self._warnings.append(f"feature {column!r} is missing in hemisphere {missing[0]}; left out")
                continue
            complete[column] = np.concatenate([by_hemisphere[mesh.hemisphere] for mesh in meshes])
        return complete, origin

    def _read_values(self, file: SurfaceFile, hemisphere: str) -> tuple[NDArray[np.float32], list[str]] | None:
        self._used.append(file.path)
        if file.format == "gifti":
            return gifti.read_values(file.path)
        if file.format == "freesurfer":
            return freesurfer.read_values(file.path)[:, None], [file.name]
        return cifti.read_scalars(file.path, hemisphere)

    def _table(
        self, values: dict[str, NDArray[np.float32]], origin: dict[str, Path], cortex: NDArray[np.bool_]
    ) -> FeatureTable:
        bad = {name: ~np.isfinite(column) for name, column in values.items()}
        for name, missing in bad.items():
            if missing[cortex].all():
                raise InputError(f"{origin[name]}: feature {name!r} is NaN at every vertex of cortex; remove the file")
        stacked = np.stack(list(values.values()), axis=1)
        gaps = np.any(list(bad.values()), axis=0)
        inside = int((gaps & cortex).sum())
        if inside:
            worst = max(bad, key=lambda name: int((bad[name] & cortex).sum()))
            self._warnings.append(
                f"{inside} vertices in cortex have NaN in a feature (most in {worst!r}); their rows are masked"
            )
        return FeatureTable(
            name="surface", values=np.where(gaps[:, None], 0, stacked), mask=~gaps, columns=tuple(values)
        )

    def _labels(self, files: list[SurfaceFile], meshes: list[SurfaceMesh]) -> tuple[str, NDArray[np.int32], Areas]:
        there = sorted({file.name for file in files if file.kind == "labels"})
        atlas = self.config.atlas or (there[0] if len(there) == 1 else "")
        if self.config.atlas and self.config.atlas not in there:
            raise InputError(f"{self.config.folder}: no atlas {atlas!r}; there is {', '.join(there) or 'none'}")
        if not atlas:
            if len(there) > 1:
                self._warnings.append(
                    f"several atlases ({', '.join(there)}); choose one with --set source.atlas={there[0]}"
                )
            return "", np.full(sum(mesh.n_vertices for mesh in meshes), -1, np.int32), Areas(names=())
        keys: list[NDArray[np.int32]] = []
        tables: list[LabelTable] = []
        for mesh in meshes:
            found = None
            for file in files:
                if file.kind != "labels" or file.name != atlas or file.hemisphere not in ("", mesh.hemisphere):
                    continue
                if found is not None:
                    raise InputError(f"{file.path}: a second {atlas!r} for hemisphere {mesh.hemisphere}; keep one")
                if file.format == "cifti":
                    found = cifti.read_labels(file.path, mesh.hemisphere)
                else:
                    found = (
                        gifti.read_labels(file.path)
                        if file.format == "gifti"
                        else freesurfer.read_annotation(file.path)
                    )
                if found is None:
                    continue
                self._used.append(file.path)
                self._check_length(file.path, len(found[0]), mesh)
                stray = set(np.unique(found[0]).tolist()) - set(found[1]) - {0}
                if stray:
                    raise InputError(f"{file.path}: key {min(stray)} is used but not in its label table")
            if found is None:
                self._warnings.append(f"atlas {atlas!r} is missing in hemisphere {mesh.hemisphere}: no labels there")
                found = (np.zeros(mesh.n_vertices, np.int32), {})
            keys.append(found[0])
            tables.append(found[1])
        labels, areas = join_tables(keys, tables, [mesh.hemisphere for mesh in meshes])
        return atlas, labels, areas

    def _cortex(self, files: list[SurfaceFile], mesh: SurfaceMesh) -> NDArray[np.bool_]:
        masks = [file for file in files if file.kind == "mask" and file.hemisphere == mesh.hemisphere]
        if len(masks) > 1:
            raise InputError(f"{masks[1].path}: a second cortex mask (the first: {masks[0].path}); keep one")
        for file in masks:
            self._used.append(file.path)
            if file.format == "freesurfer":
                inside = np.zeros(mesh.n_vertices, bool)
                listed = freesurfer.read_vertex_list(file.path)
                self._check_length(file.path, max(mesh.n_vertices, int(listed.max(initial=-1)) + 1), mesh)
                inside[listed] = True
                return inside
            if file.path.name.endswith(".label.gii"):
                keys: NDArray[Any] = gifti.read_labels(file.path)[0]
            else:
                keys = gifti.read_values(file.path)[0][:, 0]
            self._check_length(file.path, len(keys), mesh)
            return keys > 0
        return np.ones(mesh.n_vertices, bool)

    def _check_length(self, path: Path, length: int, mesh: SurfaceMesh) -> None:
        if length != mesh.n_vertices:
            raise InputError(f"{path}: has {length} values, but the mesh of hemisphere {mesh.hemisphere} has "
                             f"{mesh.n_vertices} vertices; it belongs to another mesh")  # fmt: skip

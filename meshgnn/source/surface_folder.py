"""A brain from a folder of surfaces, per-vertex features and atlas labels, as the tools of the field write them.

GIfTI by BIDS-style names, FreeSurfer by its own names, CIFTI scalars and labels; formats may be mixed. Layout in
docs/user-guide.md.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError
from meshgnn.graph import Areas, MeshGraph
from meshgnn.mesh.record import HEMISPHERES, Hemisphere, SurfaceMesh
from meshgnn.source import cifti, freesurfer, gifti
from meshgnn.source.area_names import join_tables
from meshgnn.source.folder_series import FolderSeries
from meshgnn.source.folder_values import FolderValues, check_length
from meshgnn.source.plausible import check_possible, implausible
from meshgnn.source.socket import LabelTable, Reading
from meshgnn.source.surface_files import SurfaceFile, registration_rank, scan

# Surfaces that can stand for the mesh itself, best first, and the radius of registered spheres.
BASIS = ("midthickness", "pial", "white")
RADIUS_MM = 100


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
        """The files of one brain or space: the one wanted, or the only one that has surfaces."""
        folder = self.config.folder
        surfaces = [file for file in files if file.kind == "surface"]
        if entity == "space" and not wanted and surfaces and not any(file.space for file in surfaces):
            # Surfaces in a space of their own: what was sampled to another one may or may not fit their vertices.
            return [replace(file, guessed=True) if file.space else file for file in files]
        named = sorted({getattr(file, entity) for file in files} - {""})
        there = sorted({getattr(file, entity) for file in surfaces} - {""}) or named
        if wanted and wanted not in there:
            raise InputError(f"{folder}: no {entity} {wanted!r}; there is {', '.join(there) or 'none named'}")
        if not wanted and len(there) > 1:
            raise InputError(
                f"{folder}: holds {len(there)} of {entity}: {', '.join(there)}; choose one with "
                f"--set source.{entity}={there[0]}"
            )
        chosen = wanted or (there[0] if there else "")
        kept = [file for file in files if self._belongs(file, entity, chosen)]
        if not wanted and len(kept) < len(files):
            other = ", ".join(sorted(set(named) - {chosen}))
            self._warnings.append(f"{len(files) - len(kept)} files of {entity} {other} are left out: no surface of it")
        return kept

    @staticmethod
    def _belongs(file: SurfaceFile, entity: str, chosen: str) -> bool:
        named = getattr(file, entity)
        # HCP files: masks, atlases and spheres of the plain mesh also fit its registered variants (_MSMAll).
        shared = entity == "space" and (file.kind in ("mask", "labels") or file.name == "sphere_reg")
        return named in ("", chosen) or (shared and chosen.startswith(f"{named}_"))

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
        brain = self._brain_name(files)
        space = next((file.space for file in files if file.kind == "surface" and file.space), "")
        # "native" is every brain's own space, not one that brains share.
        space = f"{brain}native" if space == "native" else space or brain
        surfaces: dict[str, list[NDArray[np.float32]]] = {}
        meshes = []
        for hemisphere in self._hemispheres(files):
            mesh, others = self._mesh(files, hemisphere, space)
            meshes.append(mesh)
            for name, points in others.items():
                surfaces.setdefault(name, []).append(points)
        for name in [name for name, parts in surfaces.items() if len(parts) < len(meshes)]:
            self._warnings.append(f"the {name} surface is missing in one hemisphere; left out")
            del surfaces[name]
        values = FolderValues(files, meshes)
        columns = values.read()
        atlas, labels, areas = self._labels(files, meshes)
        cortex = np.concatenate([self._cortex(files, mesh, values) for mesh in meshes])
        tables = values.tables(columns, cortex)
        series = FolderSeries(files, meshes)
        over_time = series.read()
        graph = MeshGraph(
            brain=brain,
            meshes=tuple(meshes),
            cortex=cortex,
            tables=tables,
            labels=np.where(cortex, labels, -1),
            areas=areas,
            surfaces={name: np.concatenate(parts) for name, parts in surfaces.items()},
        )
        return Reading(
            graph=graph,
            files=tuple(dict.fromkeys([*self._used, *values.used, *series.used])),
            warnings=tuple(dict.fromkeys([*self._warnings, *values.warnings, *series.warnings, *implausible(graph)])),
            atlas=atlas,
            series=over_time,
        )

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
        here: dict[str, SurfaceFile] = {}
        for file in self._one_sphere([f for f in files if f.kind == "surface" and f.hemisphere == hemisphere]):
            if file.name in here:
                raise InputError(f"{file.path}: a second {file.name} surface of hemisphere {hemisphere}; keep one")
            here[file.name] = file
        basis = [name for name in BASIS if name in here]
        if not basis:
            raise InputError(
                f"{self.config.folder}: hemisphere {hemisphere} has no midthickness, pial or white surface"
            )
        first = here[basis[0]].path
        found: dict[str, NDArray[np.float32]] = {}
        mesh: SurfaceMesh | None = None
        for name in [*basis, *(name for name in here if name not in basis)]:
            path = here[name].path
            points, triangles = (gifti if here[name].format == "gifti" else freesurfer).read_surface(path)
            if mesh is None:
                try:
                    mesh = SurfaceMesh(vertices_mm=points, faces=triangles, hemisphere=hemisphere, space=space)
                    check_possible(mesh)
                except InputError as error:
                    raise InputError(f"{path}: {error}") from None
            reason = self._other_mesh(points, triangles, mesh)
            if reason and name in BASIS:
                raise InputError(f"{path}: {reason} those of {first}; they are different meshes")
            if not reason and name == "sphere_reg" and np.abs(np.linalg.norm(points, axis=1) - RADIUS_MM).max() > 5:
                reason = f"it is no sphere of radius {RADIUS_MM} mm about the origin, unlike"
            if name in BASIS and not np.isfinite(points).all():
                raise InputError(f"{path}: a vertex is not finite")
            if reason or not np.isfinite(points).all():
                if name != "flat":  # flat maps are cut open: never the same triangles
                    why = f"{reason} those of {first.name}" if reason else "a vertex is not finite"
                    self._warnings.append(f"{path.name}: left out, {why}")
                continue
            found[name] = points
            self._used.append(path)
        if "midthickness" in found:
            middle = found.pop("midthickness")
        elif len(basis) == 2:
            middle = (found["pial"] + found["white"]) * np.float32(0.5)
        else:
            middle = found[basis[0]]
            self._warnings.append(
                f"hemisphere {hemisphere}: only the {basis[0]} surface is there; used in place of midthickness"
            )
        assert mesh is not None
        return mesh.with_vertices(middle), found

    def _one_sphere(self, files: list[SurfaceFile]) -> list[SurfaceFile]:
        """`files` with one registered sphere at most, the one that joins left and right best."""
        spheres = sorted(
            (f for f in files if f.name == "sphere_reg"), key=lambda f: (registration_rank(f.path), f.path)
        )
        if len(spheres) > 1:
            self._warnings.append(f"several registered spheres; {spheres[0].path.name} is used")
        return [file for file in files if file.name != "sphere_reg" or file is spheres[0]]

    @staticmethod
    def _other_mesh(points: NDArray[np.float32], triangles: NDArray[np.int32], mesh: SurfaceMesh) -> str:
        """Why these are not the vertices and triangles of `mesh`; "" if they are."""
        if len(points) != mesh.n_vertices:
            return f"its {len(points)} vertices are not"
        if triangles.shape != mesh.faces.shape or (triangles != mesh.faces).any():
            return "its triangles are not"
        return ""

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
                if found is not None and file.guessed and len(found[0]) != mesh.n_vertices:
                    self._warnings.append(
                        f"{file.path.name}: {len(found[0])} labels, so it is of another mesh; left out"
                    )
                    found = None
                if found is None:
                    continue
                self._used.append(file.path)
                check_length(file.path, len(found[0]), mesh)
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

    def _cortex(self, files: list[SurfaceFile], mesh: SurfaceMesh, values: FolderValues) -> NDArray[np.bool_]:
        """[V] the cortex mask of a hemisphere: of its file, else what a CIFTI file lists, else everything."""
        masks = [file for file in files if file.kind == "mask" and file.hemisphere == mesh.hemisphere]
        if len(masks) > 1:
            raise InputError(f"{masks[1].path}: a second cortex mask (the first: {masks[0].path}); keep one")
        if not masks:
            listed = values.listed.get(mesh.hemisphere)
            if listed is None or listed.all():
                return np.ones(mesh.n_vertices, bool)
            self._warnings.append(
                f"hemisphere {mesh.hemisphere} has no cortex mask; cortex is what the CIFTI files have values for"
            )
            return listed
        path = masks[0].path
        self._used.append(path)
        if masks[0].format == "freesurfer":
            inside = np.zeros(mesh.n_vertices, bool)
            vertices = freesurfer.read_vertex_list(path)
            check_length(path, max(mesh.n_vertices, int(vertices.max(initial=-1)) + 1), mesh)
            inside[vertices] = True
        else:
            labelled = path.name.endswith(".label.gii")
            keys: NDArray[Any] = gifti.read_labels(path)[0] if labelled else gifti.read_values(path)[0][:, 0]
            check_length(path, len(keys), mesh)
            inside = keys > 0
        if not inside.any():
            raise InputError(f"{path}: the cortex mask of hemisphere {mesh.hemisphere} holds no vertex; 1 = cortex")
        return inside

"""GIfTI surfaces, labels and scalar maps for Connectome Workbench, nilearn and FreeSurfer. nibabel does the writing.

Types are those GIfTI knows (int32, float32); label key 0 is unlabelled; the hemisphere and mm are always stated. A mesh
hash in every values file names the mesh it belongs to.
"""

from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import gifti
from numpy.typing import NDArray

from meshgnn.export.area_map import AreaMap
from meshgnn.graph import Areas, MeshGraph
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.store import write_json, write_text, written_aside

PARTICIPANTS = "participants.tsv"
TRUST = {"unmapped": "p of being usual among annotated nodes", "setSize": "areas in the set"}
_STRUCTURE = {"L": "CortexLeft", "R": "CortexRight"}


def _meta(mesh: SurfaceMesh, **more: str) -> gifti.GiftiMetaData:
    about = {"AnatomicalStructurePrimary": _STRUCTURE[mesh.hemisphere], "meshgnn_mesh": mesh.content_hash(), **more}
    return gifti.GiftiMetaData(about)


def _write(path: Path, image: gifti.GiftiImage) -> None:
    with written_aside(path) as aside:
        aside.write_bytes(image.to_bytes())


def write_surface(path: Path, mesh: SurfaceMesh, kind: str = "MidThickness") -> None:
    """A `.surf.gii`; `kind` is Workbench's secondary structure (MidThickness, Pial, GrayWhite)."""
    system = gifti.GiftiCoordSystem("NIFTI_XFORM_SCANNER_ANAT", "NIFTI_XFORM_SCANNER_ANAT", np.eye(4))
    points = gifti.GiftiDataArray(
        mesh.vertices_mm,
        intent="NIFTI_INTENT_POINTSET",
        datatype="NIFTI_TYPE_FLOAT32",
        coordsys=system,
        meta=_meta(mesh, AnatomicalStructureSecondary=kind, GeometricType="Anatomical", Space=mesh.space),
    )
    faces = gifti.GiftiDataArray(mesh.faces, intent="NIFTI_INTENT_TRIANGLE", datatype="NIFTI_TYPE_INT32")
    _write(path, gifti.GiftiImage(darrays=[points, faces], meta=_meta(mesh)))


def write_labels(path: Path, mesh: SurfaceMesh, labels: NDArray[np.integer], areas: Areas, name: str = "areas") -> None:
    """A `.label.gii` from class numbers [V] (-1 becomes key 0, unlabelled)."""
    table = gifti.GiftiLabelTable()
    entries = [(0, "unlabelled", (0.0, 0.0, 0.0, 0.0)), *zip(areas.keys, areas.names, areas.colours.tolist())]
    for key, title, colour in entries:
        label: Any = gifti.GiftiLabel(key, *colour)
        label.label = title
        table.labels.append(label)
    keys = np.concatenate([np.asarray(areas.keys, np.int32), [0]])[labels].astype(np.int32)
    array = gifti.GiftiDataArray(
        keys, intent="NIFTI_INTENT_LABEL", datatype="NIFTI_TYPE_INT32", meta=_meta(mesh, Name=name)
    )
    _write(path, gifti.GiftiImage(darrays=[array], labeltable=table, meta=_meta(mesh)))


def write_scalars(path: Path, mesh: SurfaceMesh, values: NDArray[np.floating], names: list[str]) -> None:
    """A `.func.gii` or `.shape.gii` from values [V, C], one named map per column."""
    arrays: list[Any] = [
        gifti.GiftiDataArray(
            np.ascontiguousarray(values[:, k], np.float32),
            intent="NIFTI_INTENT_SHAPE",
            datatype="NIFTI_TYPE_FLOAT32",
            meta=_meta(mesh, Name=name),
        )
        for k, name in enumerate(names)
    ]
    _write(path, gifti.GiftiImage(darrays=arrays, meta=_meta(mesh)))


def participant(folder: Path, brain: str) -> tuple[str, dict[str, str]]:
    """A name of its own for the files of a brain in `folder`, and all names there by brain: BIDS allows but letters and
    digits, so that case1_1 and case11 would be one. participants.tsv in the folder keeps who got which."""
    path, names = folder / PARTICIPANTS, {}
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
        names = {line.split("\t")[1]: line.split("\t")[0].removeprefix("sub-") for line in lines if "\t" in line}
    brain = " ".join(brain.split())  # as a cell of the table
    taken = {name.casefold() for name in names.values()}
    plain = "".join(c for c in brain if c.isalnum()) or "brain"
    if brain not in names:
        free = (name for number in count(2) for name in [f"{plain}x{number}"] if name.casefold() not in taken)
        names[brain] = plain if plain.casefold() not in taken else next(free)
    return names[brain], names


def write_area_map(folder: Path, area_map: AreaMap) -> list[Path]:
    """Labels, probabilities, uncertainty and the midthickness of every hemisphere, by BIDS-style names.

    A folder may take several brains; participants.tsv says which files belong to which.
    """
    graph, written = area_map.graph, []
    brain, names = participant(folder, graph.brain)
    write_text(
        folder / PARTICIPANTS,
        "\n".join(["participant_id\tbrain", *(f"sub-{name}\t{one}" for one, name in names.items())]) + "\n",
    )
    predicted, uncertainty, likely = area_map.predicted, area_map.uncertainty, area_map.likely
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        stem = folder / f"sub-{brain}_hemi-{mesh.hemisphere}"
        surface = stem.with_name(f"{stem.name}_midthickness.surf.gii")
        labels = stem.with_name(f"{stem.name}_atlas-predicted_dseg.label.gii")
        chances = stem.with_name(f"{stem.name}_desc-probability.func.gii")
        doubt = stem.with_name(f"{stem.name}_desc-uncertainty.shape.gii")
        write_surface(surface, mesh)
        write_labels(labels, mesh, predicted[place], graph.areas, "predicted areas")
        write_scalars(chances, mesh, area_map.probabilities[place], list(graph.areas.names))
        write_scalars(doubt, mesh, uncertainty[place, None], ["uncertainty"])
        written += [surface, labels, chances, doubt]
        trust = {"unmapped": area_map.unmapped_p, "setSize": None if likely is None else likely.sum(1)}
        for name, values in trust.items():
            if values is not None:
                written.append(stem.with_name(f"{stem.name}_desc-{name}.shape.gii"))
                write_scalars(written[-1], mesh, values[place, None], [TRUST[name]])
    description = folder / "dataset_description.json"
    write_json(
        description,
        {
            "Name": f"Predicted areas of {', '.join(names)}",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "meshgnn"}],
        },
    )
    return [*written, folder / PARTICIPANTS, description]


def write_surface_folder(folder: Path, graph: MeshGraph, atlas: str) -> list[Path]:
    """A brain as a surface folder: surfaces, one file per feature, cortex mask, labels."""
    brain = "".join(c for c in graph.brain if c.isalnum()) or "brain"
    kinds = {"pial": "Pial", "white": "GrayWhite"}
    mask = Areas(names=("cortex",), colours=np.array([[0.5, 0.5, 0.5, 1]], np.float32))
    written = []
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        stem = f"sub-{brain}_hemi-{mesh.hemisphere}"
        write_surface(folder / f"{stem}_midthickness.surf.gii", mesh)
        written.append(folder / f"{stem}_midthickness.surf.gii")
        for name, points in graph.surfaces.items():
            written.append(folder / f"{stem}_{'desc-reg_sphere' if name == 'sphere_reg' else name}.surf.gii")
            write_surface(written[-1], mesh.with_vertices(points[place]), kinds.get(name, name.capitalize()))
        for table in graph.tables.values():
            for k, column in enumerate(table.columns):
                values = np.where(table.mask[place], table.values[place, k], np.nan)
                written.append(folder / f"{stem}_desc-{column}.shape.gii")
                write_scalars(written[-1], mesh, values[:, None], [column])
        written.append(folder / f"{stem}_desc-cortex_mask.label.gii")
        write_labels(written[-1], mesh, np.where(graph.cortex[place], 0, -1), mask, "cortex")
        if len(graph.areas):
            written.append(folder / f"{stem}_atlas-{atlas}_dseg.label.gii")
            write_labels(written[-1], mesh, graph.labels[place], graph.areas, atlas)
    written.append(folder / "dataset_description.json")
    about = {"Name": graph.brain, "BIDSVersion": "1.10.0", "DatasetType": "derivative"}
    write_json(written[-1], {**about, "GeneratedBy": [{"Name": "meshgnn"}]})
    return written


__all__ = ["write_area_map", "write_labels", "write_scalars", "write_surface", "write_surface_folder"]

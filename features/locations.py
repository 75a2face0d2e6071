"""Where nodes lie on sections, as reconstruction writes it, and where the section meets the midsurface. numpy only."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.graph import LOCATION_COLUMNS as COLUMNS
from meshgnn.graph import MeshGraph, NodeLocations
from meshgnn.mesh.metric import vertex_normals
from meshgnn.source.sections import SectionStack

# The tangent grows without bound where the section runs along the surface, and the surface bends away long before:
# up to here following it halves the distance to the true place, beyond it overshoots (measured on a virtual brain).
STEEPEST_DEG = 60.0


def read_locations(folder: Path) -> dict[str, tuple[Path, NodeLocations]]:
    """Table and locations of every hemisphere ("L", "R") of a reconstructed brain.

    Args:
        folder: of a reconstruction, with `sub-*_hemi-L_desc-sections.tsv` and (or) `sub-*_hemi-R_...`.

    Raises:
        InputError: no such file, two brains in one folder, a missing column, a value that is not a number.
    """
    files = {side: sorted(Path(folder).glob(f"sub-*_hemi-{side}_desc-sections.tsv")) for side in "LR"}
    if not any(files.values()):
        raise InputError(f"{folder}: no sub-*_hemi-L_desc-sections.tsv here; reconstruct the stack first")
    if max(map(len, files.values())) > 1:
        raise InputError(f"{folder}: holds several brains; keep one reconstruction per folder")
    return {side: (found[0], _read(found[0])) for side, found in files.items() if found}


def join_locations(parts: list[NodeLocations]) -> NodeLocations:
    """Locations end to end (of hemispheres, in the order of their nodes)."""
    return NodeLocations(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS})


def towards_pial(graph: MeshGraph) -> NDArray[np.float64]:
    """Unit normals [V, 3] of the midsurface, towards pial."""
    if "pial" in graph.surfaces and "white" in graph.surfaces:
        return _unit(graph.surfaces["pial"].astype(np.float64) - graph.surfaces["white"])
    return np.concatenate([vertex_normals(mesh) for mesh in graph.meshes])


def along_surface_mm(
    points_mm: NDArray[np.floating], normals: NDArray[np.float64], locations: NodeLocations, stack: SectionStack
) -> NDArray[np.float64]:
    """How far within the section, towards pial, the midsurface is met from where each node is projected: [V] mm.

    A node that lies d beside the plane is followed along the surface into it, by d tan(obliqueness) within the
    section: to the first order that is where the section shows the node's cortex. 0 where a node is not observed.

    Args:
        points_mm: [V, 3] nodes.
        normals: [V, 3] unit normals towards pial.
        locations: of the nodes.
        stack: the sections that the locations name.
    """
    along = stack.sections[0].normal
    here = points_mm.astype(np.float64) @ along
    beside = np.zeros(len(here))
    for index in np.unique(locations.section[locations.observed]):
        mine = locations.observed & (locations.section == index)
        beside[mine] = stack.at(int(index)).position_mm - here[mine]
    slope = np.tan(np.radians(np.minimum(locations.obliqueness_deg.astype(np.float64), STEEPEST_DEG)))
    return np.where(locations.observed, -beside * slope * np.sign(normals @ along), 0.0)


def on_midsurface(locations: NodeLocations, shift_mm: NDArray[np.float64], stack: SectionStack) -> NodeLocations:
    """Locations whose pixels are moved by `shift_mm` [V] along the cortical normal as it runs within the section."""
    pixel_mm = np.ones(len(shift_mm))
    for index in np.unique(locations.section[locations.observed]):
        pixel_mm[locations.section == index] = stack.at(int(index)).pixel_um / 1000
    angle = np.radians(locations.normal_angle_deg.astype(np.float64))
    return replace(
        locations,
        row_px=locations.row_px + shift_mm / pixel_mm * np.sin(angle),
        column_px=locations.column_px + shift_mm / pixel_mm * np.cos(angle),
    )


def centres(graph: MeshGraph, stack: SectionStack) -> NodeLocations:
    """Where patches of the graph's nodes are centred: where each node's section meets the midsurface.

    Raises:
        InputError: no locations, mesh and sections in different spaces.
    """
    if graph.locations is None:
        raise InputError(f"{graph.brain}: features of sections need node locations on them")
    if graph.space != stack.space:
        raise InputError(f"{graph.brain}: the mesh lies in space {graph.space!r}, the sections in {stack.space!r}")
    shift = along_surface_mm(graph.vertices_mm, towards_pial(graph), graph.locations, stack)
    return on_midsurface(graph.locations, shift, stack)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _read(path: Path) -> NodeLocations:
    with path.open(newline="", encoding="utf-8") as handle:
        reader = csv.reader(handle, delimiter="\t")
        head = next(reader, [])
        missing = [name for name in COLUMNS if name not in head]
        if missing:
            raise InputError(f"{path}: column {missing[0]!r} is missing; reconstruct the stack again")
        try:
            values = np.array(list(reader), np.float64).reshape(-1, len(head))
        except ValueError as error:
            raise InputError(f"{path}: a value is not a number ({error}); reconstruct the stack again") from None
    if not len(values):
        raise InputError(f"{path}: no node")
    columns: dict[str, NDArray[Any]] = {name: values[:, head.index(name)] for name in COLUMNS}
    return NodeLocations(**columns)

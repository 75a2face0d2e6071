"""A brain with sections, from the folders of its stack and of its reconstruction."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.content import image_key
from features.locations import centres, join_locations, read_locations
from meshgnn.errors import InputError
from meshgnn.graph import MeshGraph, NodeLocations
from meshgnn.mesh.record import HEMISPHERES, SurfaceMesh
from meshgnn.sockets import Brain
from meshgnn.source.aligned import check_same_sections
from meshgnn.source.annotations import annotated_labels, read_annotations
from meshgnn.source.gifti import read_surface
from meshgnn.source.sections import SectionStack


def read_reconstruction(folder: Path, space: str) -> MeshGraph:
    """The brain that a reconstruction wrote, left hemisphere first, with where its nodes lie on sections.

    Raises:
        InputError: no reconstruction, surfaces that are missing or do not fit the table of nodes.
    """
    parts: list[NodeLocations] = []
    meshes: list[SurfaceMesh] = []
    surfaces: dict[str, list[NDArray[np.float32]]] = {"pial": [], "white": []}
    for side, (table, where) in read_locations(folder).items():
        stem = table.name.removesuffix("_desc-sections.tsv")
        points, faces = read_surface(table.with_name(f"{stem}_midthickness.surf.gii"))
        for name, found in surfaces.items():
            found.append(read_surface(table.with_name(f"{stem}_{name}.surf.gii"))[0])
            if len(found[-1]) != len(points):
                raise InputError(f"{folder}: the surfaces of {stem} differ in size; reconstruct the stack again")
        if len(points) != len(where.section):
            raise InputError(
                f"{folder}: {len(where.section)} rows in the table of nodes of {stem}, but {len(points)} vertices in "
                "the surfaces; reconstruct the stack again"
            )
        hemisphere = next(one for one in HEMISPHERES if one == side)
        meshes.append(SurfaceMesh(vertices_mm=points, faces=faces, hemisphere=hemisphere, space=space))
        parts.append(where)
    return MeshGraph(
        brain=space,
        meshes=tuple(meshes),
        locations=join_locations(parts),
        surfaces={name: np.concatenate(found) for name, found in surfaces.items()},
    )


def read_section_brain(stack: SectionStack, reconstruction: Path) -> Brain:
    """The reconstructed brain of a stack with its sections, without labels.

    Raises:
        InputError: as `read_reconstruction`; a reconstruction of another stack, a node on a section that is
            not in the stack.
    """
    check_same_sections(reconstruction, stack, image_key)
    graph = read_reconstruction(reconstruction, stack.space)
    centres(graph, stack)  # a node on a section that is not there is named now
    return Brain(graph=graph, sections=stack)


def read_annotated_brain(stack: SectionStack, reconstruction: Path, *, vote_mm: float = 0.5) -> Brain:
    """The same with the areas that a mapper drew, at the places where patches are centred.

    Args:
        vote_mm: side of the square in which a node's area is voted.

    Raises:
        InputError: as `read_section_brain`; no annotations.
    """
    assert stack.folder is not None  # it was read
    annotations = read_annotations(stack.folder)
    brain = read_section_brain(stack, reconstruction)
    labels = annotated_labels(centres(brain.graph, stack), annotations, stack, vote_mm=vote_mm)
    graph = brain.graph.relabelled(labels, annotations.areas)
    return Brain(graph=graph, sections=stack, annotated=annotations.sections)

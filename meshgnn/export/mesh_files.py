"""Meshes as PLY and GLB for viewers, with colours at the vertices; trimesh does the writing.

PLY keeps mm and the areas' own (sRGB) colours. GLB is in metres, as glTF demands (a factor of 0.001), with one named
node per hemisphere, and its colours are linear, as glTF demands too: a viewer turns them back.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.export.area_map import AreaMap
from meshgnn.graph import Areas
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.store import written_aside

NO_AREA = (0.84, 0.85, 0.87, 1.0)


def class_colours(classes: NDArray[np.integer], areas: Areas) -> NDArray[np.float32]:
    """RGBA [V, 4] in [0, 1] of class numbers [V]; -1 becomes light grey."""
    return np.concatenate([areas.colours.reshape(-1, 4), [NO_AREA]]).astype(np.float32)[classes]


def _shape(mesh: SurfaceMesh, colours: NDArray[np.floating] | None, scale: float = 1.0) -> trimesh.Trimesh:
    points = mesh.vertices_mm.astype(np.float64) * scale
    shape = trimesh.Trimesh(vertices=points, faces=mesh.faces, process=False)  # process would merge vertices
    if colours is not None:
        if np.shape(colours) != (mesh.n_vertices, 4):
            raise InputError(f"{mesh.n_vertices} vertices need colours [{mesh.n_vertices}, 4], got {np.shape(colours)}")
        shape.visual = trimesh.visual.ColorVisuals(shape, vertex_colors=np.round(colours * 255).astype(np.uint8))
    return shape


def _linear(colours: NDArray[np.floating]) -> NDArray[np.floating]:
    """sRGB [V, 4] to linear light; the fourth column stays."""
    rgb = colours[:, :3]
    light = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.concatenate([light, colours[:, 3:]], axis=1)


def write_ply(path: Path, mesh: SurfaceMesh, colours: NDArray[np.floating] | None = None) -> None:
    """Binary PLY in mm, vertices in order.

    Args:
        colours: [V, 4] sRGB with alpha in [0, 1], if any.
    """
    with written_aside(path) as aside:
        aside.write_bytes(_shape(mesh, colours).export(file_type="ply", encoding="binary"))  # type: ignore[arg-type]


def write_glb(path: Path, meshes: Sequence[SurfaceMesh], colours: Sequence[NDArray[np.floating]] | None = None) -> None:
    """One GLB with a node `hemi-L` and `hemi-R`, in metres, vertices in order.

    Args:
        colours: per mesh [V, 4] sRGB with alpha in [0, 1], if any.
    """
    scene = trimesh.Scene()
    for number, mesh in enumerate(meshes):
        shape = _shape(mesh, None if colours is None else _linear(np.asarray(colours[number])), 0.001)
        scene.add_geometry(shape, node_name=f"hemi-{mesh.hemisphere}", geom_name=f"hemi-{mesh.hemisphere}")
    with written_aside(path) as aside:
        aside.write_bytes(scene.export(file_type="glb"))


def write_area_plys(folder: Path, area_map: AreaMap) -> list[Path]:
    """One PLY per hemisphere, coloured by predicted area."""
    graph, written = area_map.graph, []
    colours = class_colours(area_map.predicted, graph.areas)
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        written.append(folder / f"{graph.brain}_hemi-{mesh.hemisphere}_predicted.ply")
        write_ply(written[-1], mesh, colours[place])
    return written


def write_area_glb(path: Path, area_map: AreaMap) -> None:
    """The whole brain as one GLB, coloured by predicted area."""
    graph = area_map.graph
    colours = class_colours(area_map.predicted, graph.areas)
    write_glb(path, graph.meshes, [colours[place] for place in graph.slices().values()])

"""A brain for Neuroglancer: precomputed meshes and skeletons, in nm, uint32 and float32 little-endian.

    mesh/         legacy single-resolution meshes: segment 1 is the left hemisphere, 2 the right
    areas/        the same cut into predicted areas: the segment is the area's key, one fragment per hemisphere
    skeleton/     the mesh graphs: segments 1 and 2, vertices, edges (each once), attributes at the vertices
    */segment_properties/info     names of the segments, colours of the areas

A mesh fragment is the vertex count, x y z of every vertex, and three vertex numbers per triangle; `ID:0` names the
fragments of a segment. A skeleton is the counts of vertices and edges, x y z of every vertex, two vertex numbers per
edge, and the attributes one after the other. RAS mm become nm by a factor of 10^6; axes are not turned round. Serve the
folder and open `precomputed://ADDRESS/mesh` (or areas, skeleton).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.export.area_map import AreaMap
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.mesh.topology import undirected_edges
from meshgnn.store import write_json, written_aside

NM_PER_MM = 1e6
SEGMENTS = {"L": 1, "R": 2}
NAMES = {"L": "left hemisphere", "R": "right hemisphere"}
ATTRIBUTES = {"predicted": "<u4", "annotated": "<u4", "probability": "<f4", "uncertainty": "<f4"}
IDENTITY = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]


def mesh_bytes(vertices_mm: NDArray[np.floating], faces: NDArray[np.integer]) -> bytes:
    """A mesh fragment of vertices [V, 3] in mm and triangles [F, 3]."""
    points = (vertices_mm.astype(np.float64) * NM_PER_MM).astype("<f4")
    return np.array(len(points), "<u4").tobytes() + points.tobytes() + faces.astype("<u4").tobytes()


def skeleton_bytes(
    vertices_mm: NDArray[np.floating], edges: NDArray[np.integer], attributes: Sequence[NDArray[Any]]
) -> bytes:
    """A skeleton of vertices [V, 3] in mm, edges [U, 2] and attributes [V], in their own little-endian types."""
    points = (vertices_mm.astype(np.float64) * NM_PER_MM).astype("<f4")
    head = np.array([len(points), len(edges)], "<u4").tobytes()
    return head + points.tobytes() + edges.astype("<u4").tobytes() + b"".join(a.tobytes() for a in attributes)


def write_neuroglancer(folder: Path, area_map: AreaMap) -> list[Path]:
    """Write the folder described above; returns its files.

    Skeleton attributes: `predicted` and `annotated` are area keys (0 = none), `probability` of the predicted area,
    `uncertainty` 0 to 1.
    """
    graph = area_map.graph
    written: list[Path] = []

    def put(name: str, data: bytes) -> None:
        written.append(folder / name)
        with written_aside(written[-1]) as aside:
            aside.write_bytes(data)

    def note(name: str, value: Any) -> None:
        written.append(folder / name)
        write_json(written[-1], value)

    mesh_info = {"@type": "neuroglancer_legacy_mesh", "segment_properties": "segment_properties"}
    keys = np.array([*graph.areas.keys, 0])
    best = area_map.probabilities.max(1) if len(graph.areas) else np.zeros(graph.n_nodes)
    values = [keys[area_map.predicted], keys[graph.labels], best, area_map.uncertainty]
    pieces: dict[int, list[str]] = {}
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        segment = SEGMENTS[mesh.hemisphere]
        put(f"mesh/hemi-{mesh.hemisphere}", mesh_bytes(mesh.vertices_mm, mesh.faces))
        note(f"mesh/{segment}:0", {"fragments": [f"hemi-{mesh.hemisphere}"]})
        edges, _ = undirected_edges(mesh)
        columns = [value[place].astype(kind) for value, kind in zip(values, ATTRIBUTES.values())]
        put(f"skeleton/{segment}", skeleton_bytes(mesh.vertices_mm, edges, columns))
        for number, (points, faces) in _area_meshes(mesh, area_map.predicted[place], len(graph.areas)).items():
            name = f"{graph.areas.keys[number]}-{mesh.hemisphere}"
            put(f"areas/{name}", mesh_bytes(points, faces))
            pieces.setdefault(number, []).append(name)
    for number, names in pieces.items():
        note(f"areas/{graph.areas.keys[number]}:0", {"fragments": names})
    kinds = {"<u4": "uint32", "<f4": "float32"}
    attributes = [{"id": name, "data_type": kinds[kind], "num_components": 1} for name, kind in ATTRIBUTES.items()]
    note("mesh/info", mesh_info)
    note("areas/info", mesh_info)
    note(
        "skeleton/info",
        {
            "@type": "neuroglancer_skeletons", "transform": IDENTITY, "vertex_attributes": attributes,
            "segment_properties": "segment_properties",
        },
    )  # fmt: skip
    hemispheres = [mesh.hemisphere for mesh in graph.meshes]
    sides = _properties([SEGMENTS[h] for h in hemispheres], [NAMES[h] for h in hemispheres])
    note("mesh/segment_properties/info", sides)
    note("skeleton/segment_properties/info", sides)
    shown = sorted(pieces)
    colours = ["#" + np.round(graph.areas.colours[k, :3] * 255).astype(np.uint8).tobytes().hex() for k in shown]
    about = _properties([graph.areas.keys[k] for k in shown], [graph.areas.names[k] for k in shown])
    about["inline"]["properties"].append({"id": "colour", "type": "string", "values": colours})
    note("areas/segment_properties/info", about)
    return written


def _properties(ids: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    label = {"id": "label", "type": "label", "values": list(names)}
    inline = {"ids": [str(number) for number in ids], "properties": [label]}
    return {"@type": "neuroglancer_segment_properties", "inline": inline}


def _area_meshes(
    mesh: SurfaceMesh, classes: NDArray[np.integer], n_classes: int
) -> dict[int, tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Vertices and triangles of every class; a triangle goes with two of its corners, or with its first."""
    corners = classes[mesh.faces]
    owner = np.where(corners[:, 1] == corners[:, 2], corners[:, 1], corners[:, 0])
    found = {}
    for number in range(n_classes):
        faces = mesh.faces[owner == number]
        if len(faces):
            used, renamed = np.unique(faces, return_inverse=True)
            found[number] = (mesh.vertices_mm[used], renamed.reshape(-1, 3))
    return found

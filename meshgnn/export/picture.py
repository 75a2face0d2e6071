"""Pictures of coloured meshes without a display: orthographic views as PNG bytes."""

from base64 import b64encode
from collections.abc import Sequence

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from meshgnn.graph import Areas, MeshGraph
from meshgnn.mesh.record import SurfaceMesh

_NOT_CORTEX = np.array([0.86, 0.87, 0.89])


def visible_faces(
    mesh: SurfaceMesh, *, from_left: bool, scale: float, size: tuple[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Which triangle each pixel [height, width] shows, -1 for none, and how bright each triangle [F] is.

    Args:
        from_left: look along the x axis from the left (anterior at the left edge) or from the right.
        scale: pixels per mm.
        size: height and width in pixels.
    """
    side = -1.0 if from_left else 1.0
    points = mesh.vertices_mm.astype(np.float64)
    centre = (points.max(0) + points.min(0)) / 2
    across, up, near = side * (points[:, 1] - centre[1]), points[:, 2] - centre[2], side * points[:, 0]
    corners = np.stack([across, up, near], axis=1)[mesh.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normal, axis=1)
    bright = 0.45 + 0.55 * np.abs(normal[:, 2]) / np.maximum(length, 1e-12)
    # Cover each triangle with points about half a pixel apart, nearest to the eye last.
    steps = int(np.clip(np.ceil(np.sqrt(np.quantile(length, 0.99)) * scale * 2.0), 2, 24))
    i, j = np.meshgrid(np.arange(steps + 1), np.arange(steps + 1))
    inside = i + j <= steps
    weights = np.stack([i[inside], j[inside], steps - i[inside] - j[inside]], axis=1) / steps
    samples = np.einsum("sk,fkx->fsx", weights, corners).reshape(-1, 3)
    column = np.round(samples[:, 0] * scale + size[1] / 2).astype(int)
    row = np.round(size[0] / 2 - samples[:, 1] * scale).astype(int)
    seen = (column >= 0) & (column < size[1]) & (row >= 0) & (row < size[0])
    face = np.repeat(np.arange(len(mesh.faces), dtype=np.int32), len(weights))
    order = np.flatnonzero(seen)[np.argsort(samples[seen, 2], kind="stable")]
    shown = np.full(size, -1, np.int32)
    shown[row[order], column[order]] = face[order]
    return shown, bright


def area_strips(graph: MeshGraph, maps: Sequence[NDArray[np.integer]], areas: Areas, height: int = 150) -> list[bytes]:
    """Outer and inner side of every hemisphere in one row, coloured by area: one PNG per map of class numbers [V]."""
    extent = max(float(np.ptp(mesh.vertices_mm[:, 2])) for mesh in graph.meshes)
    depth = max(float(np.ptp(mesh.vertices_mm[:, 1])) for mesh in graph.meshes)
    scale = height / (max(extent, depth / 10, 1e-6) * 1.04)  # a flat mesh must not make an endless picture
    size = (height, max(int(depth * 1.06 * scale), 1))
    colours = np.concatenate([areas.colours[:, :3], _NOT_CORTEX[None]])
    rows: list[list[NDArray[np.uint8]]] = [[] for _ in maps]
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        for from_left in (mesh.hemisphere == "L", mesh.hemisphere != "L"):
            shown, bright = visible_faces(mesh, from_left=from_left, scale=scale, size=size)
            for labels, tiles in zip(maps, rows):
                paint = colours[labels[place][mesh.faces[:, 0]]] * bright[:, None] * 255
                tiles.append(np.concatenate([paint, [[255, 255, 255]]])[shown].astype(np.uint8))
    return [bytes(imagecodecs.png_encode(np.concatenate(tiles, axis=1))) for tiles in rows]


def data_address(png: bytes) -> str:
    """A PNG as a data address for an <img>, so that a page needs no other file."""
    return f"data:image/png;base64,{b64encode(png).decode()}"

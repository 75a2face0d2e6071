"""A section through a flat slab of cortex whose staining is known, with the nodes of its mesh."""

from pathlib import Path

import numpy as np

from meshgnn.graph import MeshGraph, NodeLocations
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.source.sections import AXES, Section, SectionStack, write_tiff

SHAPE, PIXEL_UM, THICK_MM, SPACE = (240, 320), 50.0, 2.5, "slab"
COLUMN, ROW, ALONG = AXES["coronal"]


def density(depth):
    """Optical density of the slab: a ramp with a dark band at 0.55, white matter below, glass above."""
    inside = 0.3 + 0.4 * depth + 0.3 * np.exp(-(((depth - 0.55) / 0.1) ** 2))
    return np.where(depth < 0, 0, np.where(depth > 1, 0.2, inside))


def normal(angle_deg, oblique_deg=0.0):
    """Unit vector towards pial: in the section at `angle_deg` (column axis towards row axis), tilted out of it."""
    flat = np.cos(np.radians(angle_deg)) * COLUMN + np.sin(np.radians(angle_deg)) * ROW
    return np.cos(np.radians(oblique_deg)) * flat + np.sin(np.radians(oblique_deg)) * ALONG


def slab(folder: Path, n, beside_mm=0.0, gain=1.0, glass=240.0, mirrored=False, centre_mm=(0.5, 0.0, -0.3), spoil=None):
    """A section through a flat slab with normal `n`, and nodes on its midsurface `beside_mm` from the section."""
    section = Section(
        path=folder / "s.tif", index=3, position_mm=0.0, pixel_um=PIXEL_UM, thickness_um=20, shape=SHAPE,
        mirrored=mirrored,
    )  # fmt: skip
    centre = np.array(centre_mm)
    row, column = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    parts = [
        np.exp(-gain * density(0.5 - (section.pixel_to_mm(row + up, column + left) - centre) @ n / THICK_MM))
        for up in (-0.375, -0.125, 0.125, 0.375) for left in (-0.375, -0.125, 0.125, 0.375)
    ]  # fmt: skip
    image = np.round(glass * np.mean(parts, axis=0)).astype(np.uint8)
    image[[0, -1], :] = image[:, [0, -1]] = round(glass)
    if spoil is not None:
        spoil(image, round(glass))
    write_tiff(section.path, image[:, ::-1] if mirrored else image, PIXEL_UM)

    flat = n - (n @ ALONG) * ALONG
    tangent = np.cross(ALONG, flat / np.linalg.norm(flat))
    # The midsurface's own direction out of the section: nodes move along it, never off the surface.
    rise = ALONG - (ALONG @ n) / (flat @ flat) * flat
    steps = [np.linspace(-2, 2, 9), beside_mm + np.array([-0.05, 0.05])]
    a, b = (grid.ravel() for grid in np.meshgrid(*steps, indexing="ij"))
    nodes = centre + a[:, None] * tangent + b[:, None] * rise
    corner = np.arange(0, 16, 2)
    faces = np.concatenate([np.c_[corner, corner + 1, corner + 2], np.c_[corner + 1, corner + 3, corner + 2]])
    row, column, off = section.mm_to_pixel(nodes)
    count = len(nodes)
    places = NodeLocations(
        section=np.full(count, 3), row_px=row, column_px=column,
        normal_angle_deg=np.full(count, np.degrees(np.arctan2(flat @ ROW, flat @ COLUMN))),
        obliqueness_deg=np.full(count, np.degrees(np.arcsin(abs(n @ ALONG)))), residual_mm=np.abs(off),
        observed=np.ones(count, bool),
    )  # fmt: skip
    graph = MeshGraph(
        brain="slab",
        meshes=(SurfaceMesh(vertices_mm=nodes, faces=faces, hemisphere="L", space=SPACE),),
        surfaces={"pial": nodes + THICK_MM / 2 * n, "white": nodes - THICK_MM / 2 * n},
        locations=places,
    )
    return graph, SectionStack(sections=(section,), space=SPACE, folder=folder)


def with_surfaces_off(folder: Path, angle_deg, pial_mm, white_mm):
    """The slab with a mesh whose pial and white surfaces lie so far outward of where they should."""
    up = normal(angle_deg)
    graph, stack = slab(folder, up)
    moved = {"pial": graph.surfaces["pial"] + pial_mm * up, "white": graph.surfaces["white"] + white_mm * up}
    middle = (moved["pial"] + moved["white"]) / 2
    row, column, _ = stack.at(3).mm_to_pixel(middle)
    kept = {name: getattr(graph.locations, name) for name in graph.locations.__slots__}
    places = NodeLocations(**(kept | {"row_px": row, "column_px": column}))
    mesh = SurfaceMesh(vertices_mm=middle, faces=graph.meshes[0].faces, hemisphere="L", space=SPACE)
    return graph._replace(meshes=(mesh,), surfaces=moved, locations=places), stack

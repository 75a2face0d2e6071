"""Warnings about brains that can be read but are probably wrong: units, sides, copies, masks, constant features."""

import numpy as np

from meshgnn.errors import InputError
from meshgnn.graph import MeshGraph
from meshgnn.mesh.metric import vertex_areas, vertex_normals
from meshgnn.mesh.record import SurfaceMesh

# Longest side of a hemisphere's bounding box. Human ones have 140 to 190 mm, a macaque's about 65, a mouse's 12.
USUAL_MM = (50.0, 300.0)
METRES_MM = 1.0
FARTHEST_MM = 1e6
FEWEST_VERTICES = 500
LOOSE_SHARE = 0.05
CORTEX_SHARE = 0.5


def check_possible(mesh: SurfaceMesh) -> None:
    """Raises InputError for a mesh that nothing can be learnt on: no triangle, no extent, coordinates out of reach."""
    if not mesh.n_faces:
        raise InputError("holds no triangle; a surface needs its faces")
    far = float(np.abs(mesh.vertices_mm).max())
    if far > FARTHEST_MM:
        raise InputError(f"a vertex lies {far:.3g} mm from the origin; coordinates must be mm")
    sides = np.sort(np.ptp(mesh.vertices_mm.astype(np.float64), axis=0))
    if sides[1] <= 1e-6 * sides[2]:
        raise InputError("all vertices lie at one place or on a line; the coordinates are damaged")


def check_size(graph: MeshGraph) -> None:
    """Raises InputError for a brain so small that no distance in mm means anything on it."""
    size = min(extent_mm(mesh) for mesh in graph.meshes)
    if size < METRES_MM:
        raise InputError(f"{graph.brain}: a hemisphere is {size:.3g} mm long: coordinates in metres? They must be mm")


def implausible(graph: MeshGraph) -> list[str]:
    """Warnings about a brain that can be read, one line each."""
    return [*_sizes(graph), *_sides(graph), *_turned(graph), *_masks(graph), *_features(graph)]


def extent_mm(mesh: SurfaceMesh) -> float:
    """Longest side of the mesh's bounding box, mm."""
    return float(np.ptp(mesh.vertices_mm.astype(np.float64), axis=0).max())


def _sizes(graph: MeshGraph) -> list[str]:
    warnings = []
    for mesh in graph.meshes:
        size = extent_mm(mesh)
        if size < METRES_MM:  # training refuses these: `check_size`
            warnings.append(
                f"hemisphere {mesh.hemisphere} is {size:.3g} mm long: coordinates in metres? They must be mm; every "
                "distance in the results is wrong by the same factor"
            )
        elif not USUAL_MM[0] <= size <= USUAL_MM[1]:
            warnings.append(
                f"hemisphere {mesh.hemisphere} is {size:.3g} mm long, a human one 140 to 190 mm: are these mm?"
            )
        sides = np.ptp(mesh.vertices_mm.astype(np.float64), axis=0)
        if sides.min() < 0.01 * sides.max():
            warnings.append(f"hemisphere {mesh.hemisphere} is flat: a flat map in place of the folded surface?")
        loose = mesh.n_vertices - len(np.unique(mesh.faces))
        if loose > LOOSE_SHARE * mesh.n_vertices:
            warnings.append(
                f"hemisphere {mesh.hemisphere}: {loose} of {mesh.n_vertices} vertices belong to no triangle"
            )
        if mesh.n_vertices < FEWEST_VERTICES:
            warnings.append(
                f"hemisphere {mesh.hemisphere} has only {mesh.n_vertices} vertices: too coarse to tell areas"
            )
    if len(graph.meshes) == 2:
        sizes = [extent_mm(mesh) for mesh in graph.meshes]
        if max(sizes) > 1.5 * min(sizes):
            warnings.append(f"hemisphere L is {sizes[0]:.3g} mm long, R {sizes[1]:.3g} mm: are both in mm?")
    return warnings


def _sides(graph: MeshGraph) -> list[str]:
    """Which side a hemisphere lies on; R must have the larger x (RAS)."""
    if len(graph.meshes) < 2:
        return []
    left, right = graph.meshes
    if left.n_vertices == right.n_vertices and np.allclose(left.vertices_mm, right.vertices_mm, atol=1e-4):
        return ["hemispheres L and R are the same mesh: a copy of one file under both names?"]
    middle = [float(np.median(mesh.vertices_mm[:, 0])) for mesh in (left, right)]
    reach = 0.1 * min(extent_mm(mesh) for mesh in (left, right))
    if middle[0] > middle[1] + reach:
        return [
            f"hemisphere L lies to the right of R (middle x {middle[0]:.3g} and {middle[1]:.3g} mm): are the files "
            "swapped, or does x grow to the left (LPS)? It must grow to the right"
        ]
    if abs(middle[0] - middle[1]) < reach:
        return [f"hemispheres L and R lie at the same place (middle x {middle[0]:.3g} and {middle[1]:.3g} mm)"]
    return []


def _turned(graph: MeshGraph) -> list[str]:
    """Hemispheres whose triangles face inward: computed curvature then has the wrong sign."""
    warnings = []
    for mesh in graph.meshes:
        points = mesh.vertices_mm.astype(np.float64)
        outward = (vertex_normals(mesh) * (points - points.mean(0))).sum(1)
        if mesh.n_faces and (outward * vertex_areas(mesh)).sum() < 0:
            warnings.append(
                f"the triangles of hemisphere {mesh.hemisphere} face inward: computed curvature has the wrong sign"
            )
    return warnings


def _masks(graph: MeshGraph) -> list[str]:
    warnings = []
    for hemisphere, place in graph.slices().items():
        share = float(graph.cortex[place].mean())
        if share < CORTEX_SHARE:
            warnings.append(
                f"the cortex mask of hemisphere {hemisphere} keeps {share:.0%} of the vertices, usual are 85 to 95 %: "
                "is it inverted? 1 = cortex"
            )
    return warnings


def _features(graph: MeshGraph) -> list[str]:
    warnings = []
    places = graph.slices()
    for table in graph.tables.values():
        for k, name in enumerate(table.columns):
            parts = {}
            for hemisphere, place in places.items():
                known = table.mask[place] & graph.cortex[place]
                values = table.values[place, k][known]
                parts[hemisphere] = (known, values)
                if len(values) and values.min() == values.max():
                    warnings.append(
                        f"feature {name!r} has one value everywhere in hemisphere {hemisphere}: it tells nothing"
                    )
            if len(parts) == 2:
                (known, left), (other, right) = parts.values()
                copied = known.shape == other.shape and (known == other).all() and (left == right).all()
                if copied and len(left) and left.min() < left.max():
                    warnings.append(f"feature {name!r} is the same in L and R at every vertex: a copy of one file?")
    return warnings

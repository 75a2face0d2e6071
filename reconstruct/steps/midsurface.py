"""Step: from one hemisphere's ribbon to its midsurface mesh.

Repair white matter and outline to balls, open glued sulci, solve the Laplace equation, repair {u > 0.5} to a ball,
draw the surface through the tetrahedra, remesh.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from meshgnn import config
from meshgnn.errors import InputError, SettingError
from meshgnn.mesh import metric, topology
from meshgnn.mesh.record import SurfaceMesh
from reconstruct import laplace, lattice, streamlines, tetra
from reconstruct.distance import to_background
from reconstruct.records import Midsurface, Ribbon
from reconstruct.remesh import remesh
from reconstruct.sampling import gradient, sample
from reconstruct.species import AS_SPECIES, BySpecies, settled


class ExtractMidsurface:
    """Ribbon of one hemisphere -> Midsurface."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            edge_mm: target edge length of the mesh.
            smooth_mm: Gaussian smoothing of u before the surface is drawn (0 = none).
            open_sulci_mm: grey matter whose two banks touch is opened along the middle line between them where it is
                at least this far from white matter; 0 = never.
            min_thickness_mm: a node whose ribbon is thinner than this is no cortex.
            tolerance: of the Laplace solver.
        """

        edge_mm: BySpecies = AS_SPECIES
        smooth_mm: float = 0.0
        open_sulci_mm: BySpecies = AS_SPECIES
        min_thickness_mm: BySpecies = AS_SPECIES
        tolerance: float = 1e-4

        def __post_init__(self) -> None:
            if self.edge_mm is not None and not 0.02 <= self.edge_mm <= 20:
                raise SettingError(f"<edge_mm> must lie between 0.02 and 20 mm, got {self.edge_mm}")

        def build(self) -> "ExtractMidsurface":
            return ExtractMidsurface(self)

    def __init__(self, settings: Config) -> None:
        self.settings = settled(settings, "midsurface")

    def __call__(self, ribbon: Ribbon) -> Midsurface:
        if ribbon.hemisphere is None:
            raise ValueError("split the ribbon into hemispheres first")
        if not (ribbon.white < 0).any():
            raise InputError(f"hemisphere {ribbon.hemisphere}: no white matter was found; check stain and orientation")
        u, repairs = depth_field(ribbon, self.settings.open_sulci_mm, self.settings.tolerance)
        voxel = ribbon.voxel_mm
        if self.settings.smooth_mm:
            u = ndimage.gaussian_filter(np.clip(u, -1, 2), self.settings.smooth_mm / voxel)
        ball, found = lattice.make_spherical(u > 0.5)
        repairs += [(repair, "midsurface") for repair in found]
        shaped = np.where(ball, np.maximum(u, 0.51), np.minimum(u, 0.49)).astype(np.float32)
        vertices, faces = tetra.surface(np.clip(shaped, -1, 2), 0.5)
        vertices, faces = remesh(vertices, faces, self.settings.edge_mm / voxel, lambda p: _onto_level(shaped, p))
        if np.linalg.det(ribbon.affine[:3, :3]) < 0:
            faces = faces[:, ::-1]
        mesh = SurfaceMesh(
            vertices_mm=ribbon.to_mm(vertices).astype(np.float32), faces=faces, hemisphere=ribbon.hemisphere,
            space=ribbon.space,
        )  # fmt: skip
        normals = _normals(ribbon, u, vertices, mesh)
        least = self.settings.min_thickness_mm
        cortex = _cortex(mesh, _ray_length(ribbon, vertices, normals) >= least, 47 * least**2)
        ends = [streamlines.trace(u, vertices, towards, 8 / voxel) for towards in (0, 1)]
        pial, white = (np.where(cortex[:, None], ribbon.to_mm(points), mesh.vertices_mm) for points, _ in ends)
        thickness = (ends[0][1] + ends[1][1]) * voxel
        listed = tuple(
            {
                "where": where, "kind": repair.kind, "handles": repair.handles, "voxels": repair.voxels,
                "position_mm": [round(float(v), 2) for v in ribbon.to_mm(np.array(repair.centre))],
                "volume_mm3": round(repair.voxels * voxel**3, 3),
            }
            for repair, where in repairs
        )  # fmt: skip
        report = measures(mesh) | {
            "cortex_share": round(float(cortex.mean()), 4),
            "cortex_area_mm2": round(float(metric.vertex_areas(mesh)[cortex].sum()), 1),
            "thickness_mm_median": round(float(np.median(thickness[cortex])), 3) if cortex.any() else 0.0,
            "repairs": sum(repair.kind != "sulcus opened" for repair, _ in repairs),
            "handles_removed": sum(repair.handles for repair, _ in repairs),
            "sulci_opened": sum(repair.kind == "sulcus opened" for repair, _ in repairs),
        }
        return Midsurface(
            mesh=mesh, cortex=cortex, normals=normals, thickness_mm=np.where(cortex, thickness, 0),
            pial_mm=pial.astype(np.float32), white_mm=white.astype(np.float32), repairs=listed, report=report,
        )  # fmt: skip


def depth_field(
    ribbon: Ribbon, open_sulci_mm: float = 1.6, tolerance: float = 1e-4
) -> tuple[NDArray[np.float32], list[tuple[lattice.Repair, str]]]:
    """The Laplace field u [X, Y, Z] of one hemisphere and the repairs made to its white matter and its outline.

    Bridges across sulci make handles of the outline: they are cut, so that they carry no cortex.
    """
    classes = laplace.classify(ribbon.pial, ribbon.white)
    ball, found = lattice.make_spherical(classes == laplace.WHITE)
    pial_side = np.where(ribbon.pial < 0, laplace.RIBBON, laplace.OUTSIDE)
    classes = np.where(ball, laplace.WHITE, np.where(classes == laplace.WHITE, pial_side, classes)).astype(np.uint8)
    whole, bridges = lattice.make_spherical(classes != laplace.OUTSIDE)
    classes = np.where(whole, np.maximum(classes, laplace.RIBBON), laplace.OUTSIDE).astype(np.uint8)
    opened: list[lattice.Repair] = []
    if open_sulci_mm:
        glued = glued_sulci(classes, ribbon.voxel_mm, open_sulci_mm)
        classes[glued] = laplace.OUTSIDE
        opened = _pieces(glued, ribbon.voxel_mm)
    for axis in range(3):
        for end in (0, -1):
            classes[(slice(None),) * axis + (end,)] = laplace.OUTSIDE
    u, _ = laplace.solve(ribbon.pial, ribbon.white, classes, tolerance=tolerance)
    listed = [("white", found), ("pial", bridges), ("sulcus", opened)]
    return u, [(repair, where) for where, repairs in listed for repair in repairs]


def _pieces(
    opened: NDArray[np.bool_], voxel_mm: float, block_mm: float = 6.0, least_mm3: float = 1.0
) -> list[lattice.Repair]:
    """What was taken out of glued sulci, block by block so that a place says where; specks are not listed."""
    where = np.argwhere(opened)
    if not len(where):
        return []
    _, number = np.unique(where // max(1, round(block_mm / voxel_mm)), axis=0, return_inverse=True)
    order = np.argsort(number.ravel(), kind="stable")
    parts = np.split(where[order], np.flatnonzero(np.diff(number.ravel()[order])) + 1)
    large = [part for part in parts if len(part) * voxel_mm**3 >= least_mm3]
    middles = [part.mean(0) for part in large]
    return [
        lattice.Repair(kind="sulcus opened", centre=(float(x), float(y), float(z)), voxels=len(part))
        for (x, y, z), part in zip(middles, large)
    ]


def glued_sulci(classes: NDArray[np.uint8], voxel_mm: float, least_mm: float) -> NDArray[np.bool_]:
    """Ribbon voxels midway between two banks of white matter that no background parts.

    Where the distance to white matter has a ridge, two fronts meet (Han et al. 2004, anatomically consistent
    enhancement): its gradient falls well below 1.
    """
    distance = to_background(classes != laplace.WHITE) * np.float32(voxel_mm)
    slope = np.sqrt(sum(g**2 for g in np.gradient(distance, voxel_mm)))
    return (classes == laplace.RIBBON) & (slope < 0.6) & (distance > least_mm)


def measures(mesh: SurfaceMesh) -> dict[str, Any]:
    """Counts, edge lengths, area and volume of a closed mesh."""
    edges, _ = topology.undirected_edges(mesh)
    length = np.linalg.norm(mesh.vertices_mm[edges[:, 0]] - mesh.vertices_mm[edges[:, 1]], axis=1)
    return topology.summary(mesh) | {
        "edge_cv": round(float(length.std() / length.mean()), 4),
        "volume_mm3": round(metric.volume_mm3(mesh), 1),
    }


def _onto_level(field: NDArray[np.float32], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points taken onto the level 0.5 along the gradient, by at most 0.7 voxel each of two times."""
    for _ in range(2):
        slope = gradient(field, points)
        steep = np.maximum((slope**2).sum(1), 0.01)
        step = ((0.5 - sample(field, points)) / steep)[:, None] * slope
        length = np.linalg.norm(step, axis=1, keepdims=True)
        points = points + step * np.minimum(1, 0.7 / np.maximum(length, 1e-9))
    return points


def _normals(
    ribbon: Ribbon, u: NDArray[np.float32], vertices: NDArray[np.float64], mesh: SurfaceMesh
) -> NDArray[np.float32]:
    """Unit normals towards pial in mm space; the mesh normal where the field is flat or points elsewhere."""
    axes = ribbon.affine[:3, :3] / ribbon.voxel_mm
    slope = -gradient(u, vertices, 1.0) @ axes.T
    length = np.linalg.norm(slope, axis=1, keepdims=True)
    outward = metric.vertex_normals(mesh)
    unit = slope / np.maximum(length, 1e-9)
    fits = (length[:, 0] > 0.02) & ((unit * outward).sum(1) > 0.3)
    return np.where(fits[:, None], unit, outward).astype(np.float32)


def _ray_length(ribbon: Ribbon, vertices: NDArray[np.float64], normals: NDArray[np.float32]) -> NDArray[np.float64]:
    """Ribbon length in mm [V] along the normal through each vertex, at most 8 mm each way, in steps of half a voxel."""
    voxel = ribbon.voxel_mm
    direction = normals.astype(np.float64) @ (ribbon.affine[:3, :3] / voxel)
    total = np.zeros(len(vertices))
    for sign, field in ((1.0, ribbon.pial), (-1.0, -ribbon.white)):
        going = np.ones(len(vertices), bool)
        last = sample(field, vertices)
        going &= last < 0
        for step in range(1, int(16 / voxel) + 1):
            if not going.any():
                break
            value = sample(field, vertices[going] + sign * direction[going] * step * 0.5)
            here = np.flatnonzero(going)
            out = value >= 0
            share = last[here] / np.minimum(last[here] - value, -1e-9)
            total[here] += np.where(out, np.clip(share, 0, 1), 1.0) * 0.5 * voxel
            last[here] = value
            going[here[out]] = False
    return total


def _cortex(mesh: SurfaceMesh, thick: NDArray[np.bool_], least_mm2: float, rounds: int = 3) -> NDArray[np.bool_]:
    """The thickness criterion made coherent: majority of the one-ring, a few times, then large pieces only; gaps in
    cortex from `least_mm2` on."""
    from scipy import sparse

    edges = topology.directed_edges(mesh)
    matrix = sparse.csr_array((np.ones(edges.shape[1]), (edges[0], edges[1])), shape=(mesh.n_vertices,) * 2)
    degree = np.asarray(matrix.sum(axis=1)).ravel()
    mask = thick
    for _ in range(rounds):
        votes = (matrix @ mask.astype(float)) / np.maximum(degree, 1)
        mask = np.where(votes > 0.65, True, np.where(votes < 0.35, False, mask))
    area = metric.vertex_areas(mesh)
    for value in (True, False):
        inside = (mask[edges[0]] == value) & (mask[edges[1]] == value)
        number = topology.components(mesh.n_vertices, edges[:, inside])
        size = np.bincount(number, area)[number]
        small = (
            (mask == value) & (size < (0.5 * size[mask == value].max() if value else least_mm2))
            if (mask == value).any()
            else np.zeros(len(mask), bool)
        )
        mask = np.where(small, not value, mask)
    return mask

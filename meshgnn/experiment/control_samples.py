"""Samples of a virtual brain's images at the true places of its nodes, for the controls; rendered in memory."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from meshgnn.graph import FeatureTable, MeshGraph
from meshgnn.mesh.metric import mean_curvature, vertex_normals
from meshgnn.mesh.operators import one_ring_average
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.mesh.topology import directed_edges
from meshgnn.source.sections import Section, SectionStack
from meshgnn.source.virtual.brain import Brain
from meshgnn.source.virtual.memory import ImageInMemory, stack_of, true_graph, truth_of

SHAPE_ROUNDS = (2, 5, 15)  # one-ring averages of fold shape
HULL_ROUNDS = 60  # of the smooth surface that sulcal depth is measured from
PATCH_MM = 2.0  # side of the square whose mean and variance are taken
GRID, GRID_MM = 7, 0.85  # points per side of a masked patch, and their distance


class ProfileMaker(Protocol):
    """Reads profiles off the sections that a graph's nodes lie on (`features.profiles.DepthProfiles`)."""

    def make(self, graph: MeshGraph, stack: SectionStack, open_image: Callable[[Section], Any]) -> FeatureTable: ...


def sample_brain(brain: Brain, maker: ProfileMaker, within_mm: float) -> dict[str, NDArray[Any]]:
    """Features of the N nodes in isocortex that lie within `within_mm` of a good section and have a profile.

    Returns:
        labels [N], coordinates_mm [N, 3] (right hemispheres mirrored), thickness_mm [N, 1], profiles [N, D]; and from
        the raw grey values: patch [N, 2] mean and sd of a square around the node; section [N, 2] glass and median grey
        of tissue, the same for all nodes of a section; masked [N, 49] optical density on a grid of 5 x 5 mm turned
        along the cortical normal, after all cortex of the image was made glass.
    """
    graph = true_graph(truth_of(brain), within_mm=within_mm)
    camera = _Camera(brain, graph)
    table = maker.make(graph, stack_of(brain).usable(), camera)
    known = table.mask & graph.cortex
    mirror = np.where((graph.hemisphere == "R")[:, None], [-1, 1, 1], 1)
    arrays = {
        "labels": graph.labels,
        "coordinates_mm": (graph.vertices_mm * mirror).astype(np.float32),
        "thickness_mm": np.linalg.norm(graph.surfaces["pial"] - graph.surfaces["white"], axis=1, keepdims=True),
        "profiles": table.values,
        "patch": camera.patch,
        "section": camera.section,
        "masked": camera.masked,
    }
    return {name: array[known] for name, array in arrays.items()}


def fold_shape(brain: Brain) -> dict[str, NDArray[Any]]:
    """Features of the folds alone, for every node in isocortex of the true midsurface (no section is cut).

    Returns:
        labels [N]; shape [N, 12] mean curvature, its size, and depth below a smooth surface, as they are and averaged
        over SHAPE_ROUNDS; posed [N, 24] the same and the normal's direction (forwards, sideways from the midline,
        upwards), by which a coronal section shows a node oblique and turned.
    """
    labels = truth_of(brain).labels
    parts: list[tuple[NDArray[Any], ...]] = []
    for cortex in brain.hemispheres:
        hemi = cortex.hemisphere
        middle = ((hemi.white_mm + hemi.pial_mm) / 2).astype(np.float32)
        side: Any = hemi.name
        mesh = SurfaceMesh(vertices_mm=middle, faces=hemi.faces, hemisphere=side, space=brain.space)
        edges, everywhere = directed_edges(mesh), np.ones(len(middle), bool)
        smooth = one_ring_average(middle, everywhere, edges, (HULL_ROUNDS,))[0]
        hull = SurfaceMesh(vertices_mm=smooth, faces=hemi.faces, hemisphere=side, space=brain.space)
        depth = ((middle - smooth) * vertex_normals(hull)).sum(1)
        bend = np.clip(mean_curvature(mesh), -1, 1)
        normal = vertex_normals(mesh) * np.array([-1.0 if side == "L" else 1.0, 1, 1])
        here = np.column_stack([bend, np.abs(bend), depth, np.abs(normal[:, 1]), normal[:, 0], normal[:, 2]])
        scales = [here, *one_ring_average(here, everywhere, edges, SHAPE_ROUNDS)]
        keep = labels[side] >= 0
        shape = np.concatenate([scale[:, :3] for scale in scales], axis=1)
        parts.append((labels[side][keep], shape[keep], np.concatenate(scales, axis=1)[keep]))
    names = ("labels", "shape", "posed")
    return {name: np.concatenate(arrays) for name, arrays in zip(names, zip(*parts))}


class _Camera:
    """Renders a section when it is opened, and keeps what the probes see of it."""

    def __init__(self, brain: Brain, graph: MeshGraph) -> None:
        assert graph.locations is not None
        self.brain, self.places = brain, graph.locations
        self.cuts = {one.index: one for one in brain.cuts}
        self.patch = np.zeros((graph.n_nodes, 2), np.float32)
        self.section = np.zeros((graph.n_nodes, 2), np.float32)
        self.masked = np.zeros((graph.n_nodes, GRID * GRID), np.float32)

    def __call__(self, section: Section) -> ImageInMemory:
        picture = self.brain.picture(self.cuts[section.index])
        nodes = np.flatnonzero(self.places.section == section.index)
        row, column = self.places.row_px[nodes], self.places.column_px[nodes]
        px = 1000 / section.pixel_um
        grey = picture.image.astype(np.float32)
        background = float(np.median(grey[0]))
        tissue, cortex = picture.canvas.density > 0, picture.canvas.depth >= 0

        side = int(PATCH_MM * px) | 1
        mean = _at(ndimage.uniform_filter(grey, side), row, column)
        square = _at(ndimage.uniform_filter(grey * grey, side), row, column)
        self.patch[nodes] = np.stack([mean, np.sqrt(np.maximum(square - mean * mean, 0))], axis=1)
        self.section[nodes] = [background, float(np.median(grey[tissue])) if tissue.any() else background]

        rest = np.where(cortex, 0, -np.log(np.maximum(grey, 1) / background)).astype(np.float32)
        rest = ndimage.uniform_filter(rest, int(GRID_MM * px) | 1)
        angle = np.radians(self.places.normal_angle_deg[nodes].astype(np.float64))[:, None, None]
        step = (np.arange(GRID) - (GRID - 1) / 2) * GRID_MM * px
        out, along = step[None, :, None], step[None, None, :]
        rows = row[:, None, None] + out * np.sin(angle) + along * np.cos(angle)
        columns = column[:, None, None] + out * np.cos(angle) - along * np.sin(angle)
        self.masked[nodes] = _at(rest, rows, columns).reshape(len(nodes), -1)
        return ImageInMemory(picture.image)


def _at(image: NDArray[np.floating], row: NDArray[Any], column: NDArray[Any]) -> NDArray[np.float32]:
    return ndimage.map_coordinates(image, [row, column], order=1, mode="nearest")

"""The cortex of one section as pixels, each with the nodes of the mesh around it: where maps and outlines meet.

P pixels of cortex, N nodes around a pixel, V nodes of the mesh.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from meshgnn.graph import MeshGraph
from meshgnn.mapping.situation import edge_lengths_mm
from meshgnn.mapping.surfaces import has_surfaces, inside_surfaces
from meshgnn.mesh.operators import adjacency
from meshgnn.source.polygons import Polygon, Ring, outlines, signed_area
from meshgnn.source.sections import Section

WIDTH_UM = 200.0  # of a pixel
AROUND = 8  # nodes around a pixel at most: the nearest one and its neighbours
LEAST_MM2 = 0.5  # smaller pieces are not outlined
OUTSIDE_MM = 1.0  # this far from an outline cortex lies outside it: neither border nor alignment is exact
THICKNESS_MM = 2.5  # of cortex whose surfaces are not known


@dataclass(frozen=True, kw_only=True, eq=False)
class Ribbon:
    """
    Args:
        section: on whose image as stored the pixels lie.
        shape: rows and columns of the working image.
        pixel: [P] places in the working image, row by row.
        nodes: [P, N] nodes around; weights: [P, N] float32, rows summing to 1.
    """

    section: Section
    shape: tuple[int, int]
    pixel: NDArray[np.int64]
    nodes: NDArray[np.int32]
    weights: NDArray[np.float32]

    @property
    def step(self) -> float:
        """Pixels of the section's image per working pixel."""
        return self.section.shape[1] / self.shape[1]

    @property
    def width_mm(self) -> float:
        return self.step * self.section.pixel_um / 1000

    def shares(self, probabilities: NDArray[np.floating]) -> NDArray[np.float32]:
        """[P, C] of values [V, C] at the nodes."""
        return np.einsum("pn,pnc->pc", self.weights, probabilities[self.nodes]).astype(np.float32)

    def between_surfaces(self, graph: MeshGraph) -> NDArray[np.bool_]:
        """[P] pixels between the white and the pial surface; all of them where the graph brings no surfaces.

        Half the thickness and half an edge around nodes reach beyond the cortex between them, in scallops.
        """
        if not has_surfaces(graph):
            return np.ones(len(self.pixel), bool)
        step = tuple(size / count for size, count in zip(self.section.shape, self.shape))
        pial, white = inside_surfaces(graph, self.section, self.shape, (step[0], step[1]))
        return (pial & ~white).ravel()[self.pixel]

    def image(self, values: NDArray[np.integer]) -> NDArray[np.int32]:
        """Working image of values [P], -1 outside cortex."""
        found = np.full(self.shape[0] * self.shape[1], -1, np.int32)
        found[self.pixel] = values
        return found.reshape(self.shape)

    @cached_property
    def neighbours(self) -> NDArray[np.int64]:
        """[2, E] pairs of pixels that share an edge."""
        place = np.full((self.shape[0] + 1, self.shape[1] + 1), -1)
        place[:-1, :-1] = self.image(np.arange(len(self.pixel)))
        rows, columns = np.divmod(self.pixel, self.shape[1])
        pairs = [np.stack([np.arange(len(rows)), place[rows + down, columns + 1 - down]]) for down in (0, 1)]
        joined = np.concatenate(pairs, axis=1)
        return joined[:, joined[1] >= 0]


class Ribbons:
    """Ribbons of the sections of one brain.

    Args:
        graph: with surfaces pial and white, or cortex is taken to be 2.5 mm thick.
    """

    def __init__(self, graph: MeshGraph, width_um: float = WIDTH_UM) -> None:
        self.graph, self.width_um = graph, width_um
        self.points = graph.vertices_mm.astype(np.float64)
        thickness = np.full(graph.n_nodes, THICKNESS_MM)
        if {"pial", "white"} <= set(graph.surfaces):
            thickness = np.linalg.norm(graph.surfaces["pial"] - graph.surfaces["white"], axis=1)
        self.edge_mm = float(np.median(edge_lengths_mm(graph)))
        self.reach_mm = np.where(graph.cortex, np.hypot(thickness / 2, self.edge_mm / 2), 0)
        self.around = _around(graph, self.points)
        self.of = lru_cache(maxsize=8)(self._of)

    def _of(self, section: Section) -> Ribbon:
        """The cortex of a section: pixels nearer to the midsurface than half its thickness, and a margin."""
        factor = max(1.0, self.width_um / section.pixel_um)
        shape = (max(1, round(section.shape[0] / factor)), max(1, round(section.shape[1] / factor)))
        scale = np.array(section.shape) / shape
        row, column, above = section.mm_to_pixel(self.points)
        near = np.flatnonzero((np.abs(above) <= self.reach_mm) & (self.reach_mm > 0))
        if not len(near):
            empty = np.zeros((0, AROUND))
            return Ribbon(section=section, shape=shape, pixel=np.zeros(0, np.int64), nodes=empty.astype(np.int32),
                          weights=empty.astype(np.float32))  # fmt: skip
        most = float(self.reach_mm[near].max())
        margin = most * 1000 / section.pixel_um
        ranges = [
            (int(max(0, (at[near].min() - margin) // size)), int(min(n, (at[near].max() + margin) // size + 1)))
            for at, size, n in zip((row, column), scale, shape)
        ]
        rows, columns = np.meshgrid(*(np.arange(low, max(low, high)) for low, high in ranges), indexing="ij")
        rows, columns = rows.ravel(), columns.ravel()
        points = section.pixel_to_mm((rows + 0.5) * scale[0] - 0.5, (columns + 0.5) * scale[1] - 0.5)
        away, nearest = cKDTree(self.points[near]).query(points, distance_upper_bound=most)
        hit = np.flatnonzero(np.isfinite(away))
        hit = hit[away[hit] <= self.reach_mm[near[nearest[hit]]]]
        nodes = self.around[near[nearest[hit]]]
        apart = ((self.points[nodes] - points[hit, None]) ** 2).sum(2)
        weights = np.exp(-(apart - apart.min(1, keepdims=True)) / (2 * (self.edge_mm / 2) ** 2))
        weights *= self.graph.cortex[nodes] & np.column_stack([np.ones(len(nodes), bool), nodes[:, 1:] != nodes[:, :1]])
        if section.mirrored:  # nodes know the image as read
            columns = shape[1] - 1 - columns
        return Ribbon(
            section=section,
            shape=shape,
            pixel=rows[hit] * shape[1] + columns[hit],
            nodes=nodes.astype(np.int32),
            weights=(weights / weights.sum(1, keepdims=True)).astype(np.float32),
        )


def _around(graph: MeshGraph, points: NDArray[np.float64]) -> NDArray[np.int64]:
    """[V, N] every node and its nearest neighbours; filled up with the node itself."""
    near = adjacency(graph.n_nodes, graph.edges)
    found = np.repeat(np.arange(graph.n_nodes)[:, None], AROUND, axis=1)
    start = np.repeat(np.arange(graph.n_nodes), np.diff(near.indptr))
    length = np.linalg.norm(points[start] - points[near.indices], axis=1)
    order = np.lexsort((length, start))
    start, end = start[order], near.indices[order]
    rank = np.arange(len(start)) - near.indptr[start] + 1
    keep = rank < AROUND
    found[start[keep], rank[keep]] = end[keep]
    return found


def smooth_outlines(labels: NDArray[np.int32], step: float, width_mm: float) -> dict[int, list[Polygon]]:
    """Outlines of a working image in pixels of the full-resolution image, corners rounded off.

    Every ring is sampled at the working pixels' edges and averaged over five points; pieces smaller than `LEAST_MM2`
    are left out.

    Args:
        step: full-resolution pixels per working pixel; width_mm: of a working pixel.
    """
    found: dict[int, list[Polygon]] = {}
    for value, polygons in outlines(labels).items():
        large = [one for one in polygons if abs(signed_area(one[0])) * width_mm**2 >= LEAST_MM2]
        rounded = [[_rounded(ring) * step for ring in one if len(ring) > 5 or ring is one[0]] for one in large]
        if rounded:
            found[value] = rounded
    return found


def _rounded(ring: Ring) -> Ring:
    step = np.diff(ring, axis=0)
    count = np.abs(step).sum(1).astype(int)  # rings run along the axes
    which = np.repeat(np.arange(len(step)), count)
    part = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    points = ring[which] + step[which] * (part / count[which])[:, None]
    mean = sum(np.roll(points, shift, axis=0) for shift in range(-2, 3)) / 5
    kept = mean[::2] if len(mean) > 12 else mean
    return np.concatenate([kept, kept[:1]])

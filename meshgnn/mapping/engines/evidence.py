"""What the drawn outlines say of every node: which area it belongs to, and which areas it does not belong to.

An area counts as drawn whole on each section where it is drawn. So a node of that section which lies outside the
outline is known not to be of that area; what else it may be stays open, unless all areas are drawn there. V nodes, A
areas that were drawn anywhere.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from meshgnn.data.split import inner_edges
from meshgnn.errors import InputError
from meshgnn.graph import MeshGraph
from meshgnn.mapping.ribbon import OUTSIDE_MM
from meshgnn.mapping.socket import Situation
from meshgnn.mesh.operators import adjacency, geodesic_graph
from meshgnn.source.annotations import Annotations, voted
from meshgnn.source.sections import Section
from meshgnn.store import content_hash, file_hash, read_arrays, write_arrays
from meshgnn.train.propagate import ROUNDS

COARSE_UM = 100.0  # outlines are asked at this width
MOST_KEPT = 8  # readings of one section
VOTE_MM = 0.5  # a node takes the commonest class in a square of this side


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """
    Args:
        areas: [A] class numbers of the areas that were drawn, ascending.
        value: [V, A] float32, 1 where a node is of an area, 0 where it is not.
        known: [V, A] bool, where `value` holds; False where nothing was said.
        labels: [V] place in `areas`; A where a node is of none of them; -1 where it is not known.
        section: [V] int32, section of a node that was drawn on, -1 elsewhere: what is hidden together.
        sections: numbers of drawn sections that hold such a node, ascending.
        left_out: drawn sections on which no node of the mesh lies.
    """

    areas: NDArray[np.int64]
    value: NDArray[np.float32]
    known: NDArray[np.bool_]
    labels: NDArray[np.int32]
    section: NDArray[np.int32]
    sections: tuple[int, ...]
    left_out: tuple[int, ...] = ()

    @staticmethod
    def of(situation: Situation, kept: Path | None = None, *, accepted: bool = True) -> "Evidence":
        """
        Args:
            kept: folder in which what was read of every section's outlines is kept, by their content.
            accepted: whether predictions that were accepted count, where nothing was drawn.

        Raises:
            InputError: no mesh, or outlines that cannot be read.
        """
        brain = situation.brain
        if brain is None or brain.graph.locations is None:
            raise InputError("the graph fills in over a mesh; start with --mesh MESH, made by python -m reconstruct")
        graph, places = brain.graph, brain.graph.locations
        sources = [situation.drawn, *([situation.accepted] if accepted and situation.accepted else [])]
        here = {s.index: s for s in situation.stack if s.usable}
        inside = graph.cortex & places.observed
        read: list[tuple[NDArray[np.intp], NDArray[np.int32], NDArray[np.bool_], NDArray[np.int64]]] = []
        section, left_out, classes_drawn = np.full(graph.n_nodes, -1, np.int32), [], set()
        for annotations in sources:
            for index in annotations.sections:
                nodes = np.flatnonzero(inside & (places.section == index))
                if index in here and len(nodes):
                    read.append((nodes, *_read(annotations, here[index], graph, nodes, kept)))
                    classes_drawn |= set(read[-1][-1].tolist())
                    if annotations is situation.drawn:
                        section[nodes] = index
                elif annotations is situation.drawn:
                    left_out.append(index)
        beside = situation.beside if situation.beside is not None else np.full(graph.n_nodes, -1, np.int32)
        areas = np.array(sorted(classes_drawn | set(np.unique(beside[beside >= 0]).tolist())), np.int64)
        place = np.full(len(situation.areas) + 1, -1)
        place[areas] = np.arange(len(areas))
        value = np.zeros((graph.n_nodes, len(areas)), np.float32)
        known = np.zeros((graph.n_nodes, len(areas)), bool)
        for nodes, labels, outside, classes in read:
            open_ = labels >= 0  # what was drawn comes first: an accepted prediction changes nothing there
            open_[open_] = ~known[nodes[open_], place[labels[open_]]]
            known[np.ix_(nodes[outside], place[classes])] = True
            value[nodes[open_], place[labels[open_]]] = 1
            known[nodes[open_]] = True
        edge = np.flatnonzero((beside >= 0) & ~value.any(1))
        known[edge], value[edge] = True, 0
        value[edge, place[beside[edge]]] = 1
        section[edge] = np.where(section[edge] < 0, places.section[edge], section[edge])
        return Evidence(
            areas=areas,
            value=value,
            known=known,
            labels=_labels(value, known),
            section=section,
            sections=tuple(np.unique(section[known.any(1) & (section >= 0)]).tolist()),
            left_out=tuple(left_out),
        )

    def without(self, hidden: NDArray[np.bool_]) -> "Evidence":
        """The same as if nothing were known of the nodes `hidden` [V]."""
        known = self.known & ~hidden[:, None]
        value = np.where(known, self.value, 0)
        return replace(self, value=value, known=known, labels=np.where(hidden, -1, self.labels).astype(np.int32))


def _labels(value: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.int32]:
    count = value.shape[1]
    if not count:
        return np.full(len(value), -1, np.int32)
    return np.where(value.any(1), value.argmax(1), np.where(known.all(1), count, -1)).astype(np.int32)


def _read(
    annotations: Annotations, section: Section, graph: MeshGraph, nodes: NDArray[np.intp], kept: Path | None
) -> tuple[NDArray[np.int32], NDArray[np.bool_], NDArray[np.int64]]:
    """Classes [n] of the nodes of a section, which of them [n] lie outside all outlines, and which areas are drawn."""
    places = graph.locations
    assert places is not None
    row, column = places.row_px[nodes], places.column_px[nodes]
    at = content_hash(row.tolist(), column.tolist(), section.pixel_um, section.mirrored)
    key = content_hash(file_hash(annotations.file(section.index)), annotations.areas.names, at)
    path = kept / "outlines" / f"{section.index:06d}-{key}.safetensors" if kept else None
    if path and path.is_file():
        with suppress(InputError):  # another engine may clear it away at this very moment
            arrays = read_arrays(path)
            return arrays["labels"], arrays["outside"], arrays["classes"]
    step = max(1.0, COARSE_UM / section.pixel_um)
    image = annotations.coarse(section.index, step)
    if section.mirrored:
        image = image[:, ::-1]
    scale = np.array(section.shape) / image.shape
    pixel_mm = section.pixel_um / 1000 * float(scale.mean())
    row, column = (row + 0.5) / scale[0] - 0.5, (column + 0.5) / scale[1] - 0.5
    labels = voted(image, row, column, max(0, round(VOTE_MM / pixel_mm / 2)), len(annotations.areas))
    away = ndimage.distance_transform_edt(image < 0) * pixel_mm if (image >= 0).any() else np.full(image.shape, np.inf)
    at_row, at_column = (np.rint(v).astype(int).clip(0, n - 1) for v, n in zip((row, column), image.shape))
    outside = (labels < 0) & (away[at_row, at_column] > OUTSIDE_MM)
    classes = np.unique(image[image >= 0]).astype(np.int64)
    if path:
        with suppress(OSError):  # another engine may do the same
            older = sorted(path.parent.glob(f"{section.index:06d}-*"), key=lambda one: one.stat().st_mtime)
            for old in older[: max(0, len(older) - MOST_KEPT)]:
                old.unlink(missing_ok=True)
        write_arrays(path, {"labels": labels, "outside": outside, "classes": classes})
    return labels, outside, classes


def carried(graph: MeshGraph, evidence: Evidence) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What is known, carried to all nodes over the mesh, area by area.

    Label propagation with clamped annotations (Zhu, Ghahramani & Lafferty 2003) as in `train.propagate`, only that
    every area has nodes of its own at which it is known: it starts from what is said at the geodesically nearest one.

    Returns:
        Shares [V, A + 1], the last that of none of the areas, rows summing to 1, or 0 in a hemisphere of which nothing
        is known; and the geodesic distance [V] in mm to the nearest node of which anything is known.
    """
    count, known = evidence.value.shape[1], evidence.known
    found = np.zeros((graph.n_nodes, count + 1), np.float32)
    away = np.full(graph.n_nodes, np.inf, np.float32)
    if not count:
        return found, away
    groups, of = np.unique(np.packbits(known, axis=0), axis=1, return_inverse=True)
    lengths = [(geodesic_graph(mesh), place) for mesh, place in zip(graph.meshes, graph.slices().values())]
    reached = np.zeros((graph.n_nodes, count), bool)
    for group in range(groups.shape[1]):
        columns = np.flatnonzero(of.ravel() == group)
        for matrix, place in lengths:
            sources = np.flatnonzero(known[place, columns[0]])
            if not len(sources):
                continue
            distance, _, source = csgraph.dijkstra(
                matrix, directed=False, indices=sources, min_only=True, return_predecessors=True
            )
            there = np.flatnonzero(np.isfinite(distance))
            rows = place.start + there
            found[np.ix_(rows, columns)] = evidence.value[np.ix_(place.start + source[there], columns)]
            reached[np.ix_(rows, columns)] = True
            away[place] = np.minimum(away[place], distance)
    near = adjacency(graph.n_nodes, inner_edges(graph)).astype(np.float32)
    degree = np.asarray(near.sum(1)).ravel()
    mean = sparse.diags_array(1 / np.maximum(degree, 1)).astype(np.float32) @ near
    areas, fixed = found[:, :count], known | (degree == 0)[:, None]
    start = areas.copy()
    for _ in range(ROUNDS):
        areas = np.where(fixed, start, mean @ areas)
    total = areas.sum(1)
    areas = areas / np.maximum(total, 1)[:, None]
    rest = np.where(reached.any(1), (1 - areas.sum(1)).clip(0, 1), 0)
    return np.column_stack([areas, rest]).astype(np.float32), away

"""True areas of the nodes of a reconstruction, and of the cortex that it does not cover."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.graph import Areas, MeshGraph
from meshgnn.mesh import metric
from meshgnn.source.virtual.truth import Truth, read_truth
from reconstruct.judge import Surface, rigid_fit


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class TrueLabels:
    """The true area of every node of a reconstruction, and what has no counterpart on either side.

    Args:
        labels: [V] int32, place in `areas`, -1 outside isocortex, outside the reconstruction's cortex, or where no true
            surface is near.
        areas: of the virtual brain (keys as in its files: `areas.keys[label]`).
        node: [V] int64, nearest true node of the same hemisphere that faces the same way, -1 where none is near.
        distance_mm: [V] float32 to the true surface there after the rigid fit; inf where none is near.
        unmatched: [V] bool, nodes in cortex with no true cortex near. A node without a label that is not unmatched lies
            on true cortex that carries no area (allocortex).
        missed: [K] float64, true cortex of every area that no node in cortex covers, in nodes: its mm^2 over the
            mean mm^2 of the reconstruction's nodes in cortex.
    """

    labels: NDArray[np.int32]
    areas: Areas
    node: NDArray[np.int64]
    distance_mm: NDArray[np.float32]
    unmatched: NDArray[np.bool_]
    missed: NDArray[np.float64]


def true_labels(graph: MeshGraph, folder: Path) -> TrueLabels:
    """`compared` with the truth in a virtual brain's stack folder, or in its `truth`.

    Raises:
        InputError: no truth there, or of another set of hemispheres.
    """
    return compared(graph, read_truth(folder))


def compared(graph: MeshGraph, truth: Truth, tolerance_mm: float = 2.0, least_mm: float = 0.3) -> TrueLabels:
    """What area of a virtual brain the nodes of its reconstruction belong to.

    Both hemispheres are brought onto the truth by one rigid motion; a node takes the area of the nearest node of the
    true midthickness on its own hemisphere that faces the same way (the opposite bank of a sulcus does not), if the
    surface there lies within the tolerance. A hemisphere that was not reconstructed is missed whole.

    Args:
        graph: of the reconstruction (`reconstruct.to_graph`).
        truth: of the brain.
        tolerance_mm: nodes and true cortex further apart than this have nothing to do with each other.
        least_mm: distance between true white and pial below which there is no cortex.

    Raises:
        InputError: the graph has a hemisphere that the truth lacks.
    """
    lost = [mesh.hemisphere for mesh in graph.meshes if mesh.hemisphere not in truth.surfaces]
    if lost:
        raise InputError(f"{graph.brain}: its truth holds no hemisphere {lost[0]}")
    rng = np.random.default_rng(0)
    target = np.concatenate([
        truth.surfaces[mesh.hemisphere]["midthickness"].vertices_mm[truth.labels[mesh.hemisphere] >= 0]
        for mesh in graph.meshes
    ]).astype(np.float64)  # fmt: skip
    points = graph.vertices_mm.astype(np.float64)
    some = points[graph.cortex]
    rotation, shift = rigid_fit(some[rng.permutation(len(some))[:15000]], target)
    moved = points @ rotation.T + shift
    node = np.full(len(points), -1, np.int64)
    away = np.full(len(points), np.inf, np.float32)
    labels = np.full(len(points), -1, np.int32)
    unmatched = np.zeros(len(points), bool)
    lost_mm2 = np.zeros(len(truth.areas))
    parts = dict(zip((mesh.hemisphere for mesh in graph.meshes), zip(graph.meshes, graph.slices().values())))
    for side, kinds in truth.surfaces.items():
        true, area = kinds["midthickness"], truth.labels[side]
        thick = np.linalg.norm(kinds["white"].vertices_mm - kinds["pial"].vertices_mm, axis=1) > least_mm
        places = true.vertices_mm.astype(np.float64)
        mapped, uncovered = area >= 0, np.ones(len(places), bool)
        if side in parts:
            mesh, part = parts[side]
            facing, normals = metric.vertex_normals(mesh) @ rotation.T, metric.vertex_normals(true)
            there = Surface(places, true.faces)
            distance, near = there.facing(moved[part], facing, normals)
            found = distance <= tolerance_mm
            node[part] = np.where(found, near, -1)
            away[part] = np.where(found, distance, np.inf)
            cortex = graph.cortex[part]
            labels[part] = np.where(found & cortex, area[near], -1)
            to_cortex = there.facing(moved[part], facing, normals, thick | mapped)[0]
            unmatched[part] = cortex & (labels[part] < 0) & (to_cortex > tolerance_mm)
            inner = mesh.faces[cortex[mesh.faces].all(axis=1)]
            back = Surface(moved[part], inner).facing(places, normals, facing, cortex)[0]
            uncovered = back > tolerance_mm
        gone = mapped & uncovered
        lost_mm2 += np.bincount(area[gone], metric.vertex_areas(true)[gone], len(truth.areas))
    covered_mm2 = np.concatenate([metric.vertex_areas(mesh) for mesh in graph.meshes])[graph.cortex]
    return TrueLabels(
        labels=labels, areas=truth.areas, node=node, distance_mm=away, unmatched=unmatched,
        missed=lost_mm2 / covered_mm2.mean() if len(covered_mm2) else lost_mm2,
    )  # fmt: skip

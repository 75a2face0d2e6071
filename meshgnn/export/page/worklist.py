"""Where an annotation would help most: connected regions of the mesh, ranked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshgnn.export.area_map import AreaMap
from meshgnn.mesh.metric import vertex_areas
from meshgnn.mesh.operators import one_ring_average
from meshgnn.mesh.topology import components
from meshgnn.source.sections import AXES, SectionStack


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """One entry of the worklist.

    Args:
        nodes: of the region.
        score: sum over its nodes of uncertainty x area (mm2) x distance to the nearest annotated section (mm); without
            annotated sections the distance counts as 1.
        area_mm2: of the region on the midthickness surface.
        uncertainty: mean over the region, weighted by area, 0 to 1.
        distance_mm: mean distance to the nearest annotated section; None if there is none.
        areas: predicted classes with their share of the region's area, largest first.
        section: number of the section to annotate; None without locations.
        centre: the node nearest to the region's middle.
    """

    nodes: NDArray[np.int64]
    score: float
    area_mm2: float
    uncertainty: float
    distance_mm: float | None
    areas: tuple[tuple[int, float], ...]
    section: int | None
    centre: int


def annotated_distance(
    area_map: AreaMap, stack: SectionStack, annotated: Sequence[int]
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Number [V] of the annotated section nearest to every node along the cutting axis, and its distance [V] in mm."""
    sections = [stack.at(index) for index in annotated]
    positions = np.array([section.position_mm for section in sections])
    along = area_map.graph.vertices_mm.astype(np.float64) @ AXES[stack.plane][2]
    distance = np.abs(along[:, None] - positions)
    nearest = distance.argmin(1)
    return np.array([section.index for section in sections], np.int32)[nearest], distance.min(1)


def worklist(
    area_map: AreaMap,
    stack: SectionStack | None = None,
    annotated: Sequence[int] = (),
    *,
    most: int = 12,
    share: float = 0.15,
    smallest_mm2: float = 25.0,
) -> list[Region]:
    """Regions ranked by how much an annotation would help, best first.

    The uncertainty, averaged over two rings so that single nodes do not count, times the distance to the nearest
    annotated section says how much a node asks for help. The `share` of the cortex that asks most is cut into
    connected components; those smaller than `smallest_mm2` are left out.

    Args:
        area_map: the predicted map.
        stack: its sections, if any.
        annotated: numbers of the annotated sections.
        most: length of the list.
    """
    graph = area_map.graph
    doubt = one_ring_average(area_map.uncertainty[:, None], graph.cortex, graph.edges, (2,))[0][:, 0]
    distance = np.ones(graph.n_nodes)
    known = stack is not None and len(annotated) > 0
    if stack is not None and known:
        distance = annotated_distance(area_map, stack, annotated)[1]
    need = np.where(graph.cortex, doubt * distance, 0)
    asking = need[graph.cortex & (need > 1e-6)]
    if not len(asking):
        return []
    inside = need >= max(float(np.quantile(need[graph.cortex], 1 - share)), 1e-6)
    kept = graph.edges[:, inside[graph.edges[0]] & inside[graph.edges[1]]]
    member = np.where(inside, components(graph.n_nodes, kept), -1)
    size = np.concatenate([vertex_areas(mesh) for mesh in graph.meshes])
    extent = np.bincount(member[inside], size[inside])
    merit = np.bincount(member[inside], (need * size)[inside])
    merit = np.where(extent >= min(smallest_mm2, float(extent.max())), merit, -1)
    order = np.argsort(-merit, kind="stable")[:most]
    return [
        _region(area_map, stack, annotated, np.flatnonzero(member == k), need, size, distance if known else None)
        for k in order
        if merit[k] > 0
    ]


def _region(
    area_map: AreaMap,
    stack: SectionStack | None,
    annotated: Sequence[int],
    nodes: NDArray[np.int64],
    need: NDArray[np.floating],
    size: NDArray[np.floating],
    distance: NDArray[np.floating] | None,
) -> Region:
    graph, weight = area_map.graph, size[nodes]
    total = max(float(weight.sum()), 1e-12)
    shares = np.bincount(area_map.predicted[nodes], weight, len(graph.areas)) / total
    ranked = np.argsort(-shares, kind="stable")
    points = graph.vertices_mm[nodes].astype(np.float64)
    middle = (points * weight[:, None]).sum(0) / total
    section = None
    if graph.locations is not None and stack is not None:
        numbers = graph.locations.section[nodes]
        usable = {s.index for s in stack if s.usable} - set(annotated)
        chosen = np.isin(numbers, list(usable))
        if chosen.any():
            section = int(np.bincount(numbers[chosen], (need[nodes] * weight)[chosen]).argmax())
    return Region(
        nodes=nodes,
        score=float((need[nodes] * weight).sum()),
        area_mm2=float(weight.sum()),
        uncertainty=float((area_map.uncertainty[nodes] * weight).sum() / total),
        distance_mm=None if distance is None else float((distance[nodes] * weight).sum() / total),
        areas=tuple((int(k), float(shares[k])) for k in ranked[:4] if shares[k] > 0.02),
        section=section,
        centre=int(nodes[((points - middle) ** 2).sum(1).argmin()]),
    )

"""How large each area of a map is: surface, volume, thickness, asymmetry."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.export.area_map import AreaMap
from meshgnn.graph import MeshGraph
from meshgnn.mesh.metric import vertex_areas
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.source.text_table import write_text_table

Floats = NDArray[np.float64]
NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class AreaSize:
    """One area in one hemisphere, or in both. NaN where it cannot be told.

    Args:
        area: its name; key: in label files.
        hemisphere: L, R or both.
        surface_mm2: of the midthickness.
        volume_mm3: between pial and white.
        thickness_mm: mean distance from pial to white, weighted by surface.
        probability: mean probability of the area where it is the most probable one, weighted by surface.
        expected_surface_mm2, expected_volume_mm3: every node counts for every area by its probability.
        asymmetry_surface, asymmetry_volume: (L - R) / (L + R), in the row of both hemispheres.
        nodes: of the mesh.
    """

    area: str
    key: int
    hemisphere: str
    surface_mm2: float
    volume_mm3: float
    thickness_mm: float
    probability: float
    expected_surface_mm2: float
    expected_volume_mm3: float
    asymmetry_surface: float = NAN
    asymmetry_volume: float = NAN
    nodes: int


COLUMNS = tuple(one.name for one in fields(AreaSize))


def node_volumes(mesh: SurfaceMesh, pial: NDArray[np.floating], white: NDArray[np.floating]) -> Floats:
    """Volume [V] of cortex between pial and white that belongs to each node, mm^3; the sum is that of the ribbon.

    Over a face cortex is swept by x(r) = white + r (pial - white), r from 0 to 1. The swept triangle's area vector is
    quadratic in r, so that Simpson's rule is exact; a node takes its own displacement's third. Neighbouring prisms
    share their sides, so that nothing is counted twice.

    Args:
        pial, white: [V, 3] mm.
    """
    low, high = (np.asarray(side, np.float64)[mesh.faces] for side in (white, pial))  # [F, 3, 3]

    def vector(points: Floats) -> Floats:
        return np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]) / 2

    swept = (vector(low) + 4 * vector((low + high) / 2) + vector(high)) / 6
    share = np.einsum("fkx,fx->fk", high - low, swept) / 3
    volume = np.bincount(mesh.faces.ravel(), share.ravel(), mesh.n_vertices).astype(np.float64)
    return volume if volume.sum() >= 0 else -volume  # whichever way round the faces turn


def area_sizes(area_map: AreaMap, *, shrinkage: float = 1.0) -> list[AreaSize]:
    """Sizes of every area of a map, per hemisphere and for both together where there are two.

    A node belongs to its most probable area; nodes of which the map says nothing (rows of 0) belong to none.

    Args:
        shrinkage: volume of the fresh brain over its volume in the sections, about 2 in paraffin: volumes are
            multiplied by it, surfaces by its power 2/3, thickness by its power 1/3. Probabilities and asymmetry
            stay as they are.

    Raises:
        InputError: a factor that is not above 0.
    """
    if not (np.isfinite(shrinkage) and shrinkage > 0):
        raise InputError(f"--shrinkage must be above 0, got {shrinkage}")
    graph, chances = area_map.graph, area_map.probabilities.astype(np.float64)
    said = chances.sum(1) > 0
    classes = np.where(said, area_map.predicted, -1)
    surface = np.concatenate([vertex_areas(mesh) for mesh in graph.meshes]) * shrinkage ** (2 / 3)
    volume, thickness = _depths(graph)
    volume, thickness = volume * shrinkage, thickness * shrinkage ** (1 / 3)
    sides = {mesh.hemisphere: graph.hemisphere == mesh.hemisphere for mesh in graph.meshes}
    found: list[AreaSize] = []
    told = bool(np.isfinite(volume).any())
    for number, (name, key) in enumerate(zip(graph.areas.names, graph.areas.keys)):

        def one(
            hemisphere: str, inside: NDArray[np.bool_], name: str = name, key: int = key, k: int = number
        ) -> AreaSize:
            mine = inside & (classes == k)
            weight = surface[mine]

            def mean(values: Floats) -> float:
                return float(np.average(values[mine], weights=weight)) if weight.sum() > 0 else NAN

            return AreaSize(
                area=name, key=key, hemisphere=hemisphere, surface_mm2=float(weight.sum()),
                volume_mm3=float(volume[mine].sum()) if told else NAN,
                thickness_mm=mean(thickness), probability=mean(chances[:, k]),
                expected_surface_mm2=float(surface[inside] @ chances[inside, k]),
                expected_volume_mm3=float(volume[inside] @ chances[inside, k]), nodes=int(mine.sum()),
            )  # fmt: skip

        rows = {side: one(side, inside) for side, inside in sides.items()}
        found += rows.values()
        if len(rows) == 2:
            left, right = rows["L"], rows["R"]
            found.append(
                replace(
                    one("both", np.ones(graph.n_nodes, bool)),
                    asymmetry_surface=_asymmetry(left.surface_mm2, right.surface_mm2),
                    asymmetry_volume=_asymmetry(left.volume_mm3, right.volume_mm3),
                )
            )
    return found


def _depths(graph: MeshGraph) -> tuple[Floats, Floats]:
    """Volume and thickness [V] of every node, NaN where the brain has neither surfaces nor a feature `thickness`."""
    volume, thickness = np.full((2, graph.n_nodes), NAN)
    if {"pial", "white"} <= set(graph.surfaces):
        pial, white = graph.surfaces["pial"], graph.surfaces["white"]
        parts = zip(graph.meshes, graph.slices().values())
        volume = np.concatenate([node_volumes(mesh, pial[part], white[part]) for mesh, part in parts])
        return volume, np.linalg.norm(pial.astype(np.float64) - white, axis=1)
    for table in graph.tables.values():
        if "thickness" in table.columns:
            known = table.values[:, table.columns.index("thickness")].astype(np.float64)
            return volume, np.where(table.mask, known, NAN)
    return volume, thickness


def _asymmetry(left: float, right: float) -> float:
    return (left - right) / (left + right) if left + right > 0 else NAN


def write_areas(path: Path, sizes: Sequence[AreaSize]) -> None:
    """A table with one row per `AreaSize`; empty cells are what cannot be told."""
    write_text_table(path, [COLUMNS, *([_cell(getattr(size, column)) for column in COLUMNS] for size in sizes)])


def _cell(value: object) -> object:
    if not isinstance(value, float):
        return value
    return f"{value:.6g}" if np.isfinite(value) else ""

"""What a page holds of a brain: arrays and meta data, made from records."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.export.area_map import SET_COVERAGE, UNMAPPED_LEVEL, AreaMap
from meshgnn.export.page.arrays import Packer
from meshgnn.export.page.pictures import places_of, plane_maps
from meshgnn.export.page.worklist import annotated_distance, worklist
from meshgnn.graph import FeatureTable, MeshGraph
from meshgnn.mesh.inflate import inflate
from meshgnn.mesh.metric import mean_curvature, vertex_areas, volume_mm3
from meshgnn.mesh.operators import one_ring_average
from meshgnn.mesh.topology import edges_not_in_two_faces
from meshgnn.source.sections import AXES, SectionStack

SURFACES = ("pial", "midthickness", "white", "inflated")
TOP = 3
MOST_COLUMNS = 48
MOST_DEPTHS = 32


def add_geometry(pack: Packer, graph: MeshGraph) -> dict[str, Any]:
    """Faces, surfaces, areas and folds; returns `hemispheres` and `surfaces` of the meta data."""
    hemispheres = []
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        small = mesh.n_vertices <= 65535
        closed = edges_not_in_two_faces(mesh) == 0
        outward = volume_mm3(mesh) > 0 or not closed
        faces = mesh.faces if outward else mesh.faces[:, ::-1]
        pack.add(f"faces.{mesh.hemisphere}", faces.astype(np.uint16 if small else np.uint32))
        about = {"name": mesh.hemisphere, "start": place.start, "count": mesh.n_vertices, "closed": closed}
        hemispheres.append(about)
    inflated = graph.surfaces.get("inflated")
    if inflated is None:
        inflated = np.concatenate([inflate(mesh) for mesh in graph.meshes])
    shapes: dict[str, NDArray[np.floating]] = {"midthickness": graph.vertices_mm}
    shapes |= {name: graph.surfaces[name] for name in ("pial", "white") if name in graph.surfaces}
    shapes["inflated"] = side_by_side(graph, inflated)
    shown = [name for name in SURFACES if name in shapes]
    for name in shown:
        pack.add_points(f"surface.{name}", shapes[name])
    curvature = np.concatenate([mean_curvature(mesh) for mesh in graph.meshes])
    everywhere = np.ones(graph.n_nodes, bool)
    smooth = one_ring_average(curvature[:, None], everywhere, graph.edges, (2,))[0][:, 0]
    width = float(np.quantile(np.abs(smooth), 0.95)) or 1.0
    pack.add("folds", np.clip(np.round(127 + 127 * smooth / width), 0, 254).astype(np.uint8))
    pack.add_scalar("size_mm2", np.concatenate([vertex_areas(mesh) for mesh in graph.meshes]), everywhere)
    pack.add("cortex", graph.cortex.astype(np.uint8))
    return {"hemispheres": hemispheres, "surfaces": shown}


def side_by_side(graph: MeshGraph, inflated: NDArray[np.floating]) -> NDArray[np.float64]:
    """Inflated hemispheres at about the length of the folded brain and clear of each other, for looking at."""
    folded, points = graph.vertices_mm.astype(np.float64), np.array(inflated, np.float64)
    middle = folded.mean(0)
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        ratio = np.ptp(folded[place], axis=0).max() / max(float(np.ptp(points[place], axis=0).max()), 1e-6)
        points[place] = (points[place] - points[place].mean(0)) * ratio + folded[place].mean(0)
        if len(graph.meshes) > 1:
            left = mesh.hemisphere == "L"
            edge = points[place, 0].max() - (middle[0] - 2) if left else points[place, 0].min() - (middle[0] + 2)
            points[place, 0] -= edge
    return points


def add_areas(pack: Packer, area_map: AreaMap) -> dict[str, Any]:
    """True and predicted classes, the best few with their probabilities; returns `areas`, `top` of the meta data."""
    graph, p = area_map.graph, area_map.probabilities
    small = len(graph.areas) <= 255
    pack.add("label", graph.labels.astype(np.int16))
    pack.add("predicted", area_map.predicted.astype(np.int16))
    top = min(TOP, len(graph.areas))
    best = np.argsort(-p, axis=1, kind="stable")[:, :top]
    pack.add("top.area", best.astype(np.uint8 if small else np.uint16))
    chance = np.round(np.take_along_axis(p, best, axis=1) * 255).astype(np.uint8)
    pack.add("top.probability", chance, scale=1 / 255, zero=0.0)
    rows = zip(graph.areas.names, graph.areas.keys, np.round(graph.areas.colours[:, :3] * 255).astype(int).tolist())
    areas = [{"name": name, "key": key, "colour": colour} for name, key, colour in rows]
    return {"areas": areas, "top": top, "truth": bool((graph.labels >= 0).any())}


def add_scalars(
    pack: Packer, area_map: AreaMap, nearest_mm: NDArray[np.floating] | None, hidden: Sequence[str]
) -> dict[str, Any]:
    """Maps that the brain can be coloured by; returns `scalars` and `left_out` of the meta data.

    Features beyond the first 48 columns are left out and counted.
    """
    graph = area_map.graph
    shown: list[dict[str, Any]] = []

    def add(title: str, unit: str, group: str, values: NDArray[Any], known: NDArray[np.bool_], **more: Any) -> None:
        values = np.asarray(values, np.float64)
        name = f"scalar.{len(shown)}"
        pack.add_scalar(name, values, known)
        spread = values[known & graph.cortex] if (known & graph.cortex).any() else values[known]
        low, high = (
            (np.percentile(spread, [2, 98]) if len(spread) else (0.0, 1.0)) if "range" not in more else more["range"]
        )
        shown.append({"array": name, "title": title, "unit": unit, "group": group, **more,
                      "range": [float(low), float(max(high, low + 1e-9))]})  # fmt: skip

    if len(graph.areas):
        doubt = area_map.uncertainty
        top = max(float(np.quantile(doubt[graph.cortex], 0.99)) if graph.cortex.any() else 1.0, 0.05)
        add("Uncertainty", "", "Map", doubt, graph.cortex, id="uncertainty", range=(0.0, top), ramp="magma")
        add("Confidence", "", "Map", area_map.probabilities.max(1), graph.cortex, id="confidence", range=(0.0, 1.0))
        if (likely := area_map.likely) is not None:
            size = likely.sum(1)
            add(f"Areas in question at {SET_COVERAGE:.0%}", "", "Map", size, graph.cortex, id="set_size",
                range=(1.0, float(max(size.max(), 2))), ramp="magma")  # fmt: skip
        if area_map.unmapped_p is not None:
            flagged = area_map.unmapped_p <= UNMAPPED_LEVEL
            add("Unlike anything annotated", "", "Map", flagged, graph.cortex, id="unmapped", range=(0.0, 1.0),
                ramp="magma")  # fmt: skip
    if graph.locations is not None:
        places = graph.locations
        add("Obliqueness", "°", "Sections", places.obliqueness_deg, places.observed, id="obliqueness",
            range=(0.0, 90.0), ramp="magma")  # fmt: skip
        add("Distance to section", "mm", "Sections", places.residual_mm, places.observed, id="residual")
    if nearest_mm is not None:
        add("Distance to annotated section", "mm", "Sections", nearest_mm, np.ones(graph.n_nodes, bool), id="nearest")
    columns = [
        (table, k) for name, table in graph.tables.items() if name not in hidden for k in range(len(table.columns))
    ]
    for table, k in columns[:MOST_COLUMNS]:
        values = table.values[:, k]
        known = values[table.mask]
        signed = len(known) > 0 and known.min() < 0 < known.max()
        ramp = (
            "balance" if signed and -known.min() / known.max() > 0.2 and -known.min() / known.max() < 5 else "viridis"
        )
        more: dict[str, Any] = {"ramp": ramp}
        if ramp == "balance":
            reach = float(np.percentile(np.abs(known), 98)) or 1.0
            more["range"] = (-reach, reach)
        title = table.columns[k]
        add(title, table.units[k], f"Features: {table.name}", values, table.mask, **more)
    return {"scalars": shown, "left_out": max(len(columns) - MOST_COLUMNS, 0)}


def add_sections(
    pack: Packer, area_map: AreaMap, stack: SectionStack, annotated: Sequence[int], pictures: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Where nodes lie on the sections, and the sections themselves; returns `stack` of the meta data."""
    graph, places = area_map.graph, area_map.graph.locations
    frame, coefficients, held = plane_maps(graph, stack)
    column, row, along = AXES[stack.plane]
    pack.add("plane_maps", coefficients)
    if places is not None:
        seen = places.observed
        pack.add("node.section", np.where(seen, places_of(stack, places.section), -1).astype(np.int16))
        pack.add_scalar("node.row_px", places.row_px, seen, steps=65534)
        pack.add_scalar("node.column_px", places.column_px, seen, steps=65534)
        turns = np.where(seen, np.nan_to_num(places.normal_angle_deg), 0)
        pack.add("node.angle_deg", np.round(turns * 10).astype(np.int16), scale=0.1, zero=0.0)
    if len(annotated):
        pack.add("node.nearest", places_of(stack, annotated_distance(area_map, stack, annotated)[0]))
    marked = set(annotated)
    sections = [
        {
            "index": s.index,
            "mm": round(s.position_mm, 4),
            "usable": s.usable,
            "annotated": s.index in marked,
            "placed": placed,
            **picture,
        }
        for s, placed, picture in zip(stack, held, pictures)
    ]
    axes = {"column": column.tolist(), "row": row.tolist(), "along": along.tolist()}
    spacing = stack.spacing_mm if len(stack) > 1 else 1.0
    return {"plane": stack.plane, "spacing_mm": spacing, **axes, **frame, "sections": sections}


def add_profiles(pack: Packer, profiles: FeatureTable) -> dict[str, Any]:
    """Depth profiles as uint8 at up to 32 depths, 0 where there is none; returns `profiles` of the meta data."""
    values, known = profiles.values.astype(np.float64), profiles.mask
    if values.shape[1] > MOST_DEPTHS:
        groups = np.array_split(np.arange(values.shape[1]), MOST_DEPTHS)
        values = np.stack([values[:, group].mean(1) for group in groups], axis=1)
    low, high = np.percentile(values[known], [0.2, 99.8]) if known.any() else (0.0, 1.0)
    scale = max(float(high - low), 1e-9) / 254
    stored = np.clip(np.round((values - low) / scale), 0, 254).astype(np.uint8) + 1
    pack.add(
        "profiles",
        np.where(known[:, None], stored, 0).astype(np.uint8),
        scale=scale,
        zero=float(low) - scale,
        missing=0,
    )
    return {"unit": profiles.units[0], "title": profiles.name, "depths": values.shape[1]}


def add_regions(
    pack: Packer, area_map: AreaMap, stack: SectionStack | None, annotated: Sequence[int]
) -> list[dict[str, Any]]:
    """The worklist, and per node its place in it; returns `regions` of the meta data."""
    if not len(area_map.graph.areas):
        return []
    regions = worklist(area_map, stack, annotated)
    member = np.full(area_map.graph.n_nodes, -1, np.int16)
    rows = []
    hemisphere = area_map.graph.hemisphere
    for number, region in enumerate(regions):
        member[region.nodes] = number
        rows.append({
            "areas": [[k, round(share, 3)] for k, share in region.areas], "mm2": round(region.area_mm2, 1),
            "uncertainty": round(region.uncertainty, 3), "score": round(region.score, 3), "centre": region.centre,
            "distance": None if region.distance_mm is None else round(region.distance_mm, 2),
            "section": None if region.section is None or stack is None else int(places_of(stack, [region.section])[0]),
            "hemisphere": str(hemisphere[region.centre]), "nodes": len(region.nodes),
        })  # fmt: skip
    pack.add("region", member)
    return rows

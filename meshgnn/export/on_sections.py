"""An area map laid back onto the sections: label images with names, and their outlines as GeoJSON polygons."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from skimage.measure import find_contours

from meshgnn.errors import InputError
from meshgnn.export.area_map import AreaMap
from meshgnn.source.sections import Section, SectionStack, write_tiff
from meshgnn.store import write_json, written_aside


def section_labels(
    area_map: AreaMap, section: Section, *, reach_mm: NDArray[np.floating], pixel_um: float, tree: cKDTree
) -> NDArray[np.int32]:
    """Classes [rows, columns] on a section at `pixel_um` per pixel, -1 outside cortex.

    A pixel takes the class of the nearest node of the midsurface if that is not farther than half the cortex there.

    Args:
        reach_mm: [V] half the thickness of cortex, and a margin.
        tree: of the nodes.
    """
    step = pixel_um / section.pixel_um
    shape = [max(1, round(size / step)) for size in section.shape]
    rows, columns = np.meshgrid(*((np.arange(size) + 0.5) * step - 0.5 for size in shape), indexing="ij")
    points = section.pixel_to_mm(rows, columns).reshape(-1, 3)
    away, nearest = tree.query(points, distance_upper_bound=float(reach_mm.max()))
    found = np.full(len(points), -1, np.int32)
    hit = np.isfinite(away)
    node = nearest[hit]
    found[hit] = np.where(away[hit] <= reach_mm[node], area_map.predicted[node], -1)
    return found.reshape(shape)


def outlines(labels: NDArray[np.int32], step: float, names: tuple[str, ...]) -> dict[str, Any]:
    """Outlines of every area as GeoJSON, in pixels of the section image ([column, row], as QuPath reads them).

    Args:
        labels: classes, -1 none.
        step: pixels of the section per pixel of `labels`.
    """
    features = []
    for number in np.unique(labels[labels >= 0]).tolist():
        padded = np.pad(labels == number, 1).astype(np.float32)
        for line in find_contours(padded, 0.5):
            if len(line) < 4:
                continue
            points = ((line - 0.5) * step - 0.5)[:, ::-1]
            points[-1] = points[0]
            features.append(
                {
                    "type": "Feature",
                    "geometry": {"type": "Polygon", "coordinates": [np.round(points, 1).tolist()]},
                    "properties": {"objectType": "annotation", "classification": {"name": names[number]}},
                }
            )
    return {"type": "FeatureCollection", "features": features}


def write_on_sections(
    folder: Path,
    area_map: AreaMap,
    stack: SectionStack,
    *,
    pixel_um: float = 0.0,
    tell: Callable[[int, int], None] = lambda *_: None,
) -> list[Path]:
    """Label images (`<image>_areas.tif`, key as in areas.json beside) and outlines (`.geojson`) of usable sections.

    Args:
        area_map: of a brain in the stack's space, with surfaces pial and white or a feature "thickness".
        stack: aligned sections.
        pixel_um: of the label images; four times the section's own if 0.

    Raises:
        InputError: the map lies in another space.
    """
    graph = area_map.graph
    if graph.space != stack.space:
        raise InputError(f"the map lies in space {graph.space!r}, the sections in {stack.space!r}")
    points = graph.vertices_mm
    thickness = np.full(graph.n_nodes, 2.5)
    if {"pial", "white"} <= set(graph.surfaces):
        thickness = np.linalg.norm(graph.surfaces["pial"] - graph.surfaces["white"], axis=1)
    edge = float(np.median(np.linalg.norm(points[graph.edges[0]] - points[graph.edges[1]], axis=1)))
    reach = np.where(graph.cortex, np.hypot(thickness / 2, edge / 2), 0)
    tree = cKDTree(points)
    sections = stack.usable().sections
    written = []
    folder.mkdir(parents=True, exist_ok=True)
    keys = np.array([*graph.areas.keys, 0], np.uint16)
    for number, section in enumerate(sections):
        size = pixel_um or 4 * section.pixel_um
        labels = section_labels(area_map, section, reach_mm=reach, pixel_um=size, tree=tree)
        if section.mirrored:
            labels = labels[:, ::-1]
        image, lines = folder / f"{section.path.stem}_areas.tif", folder / f"{section.path.stem}_areas.geojson"
        with written_aside(image) as aside:
            write_tiff(aside, keys[labels], size)
        with written_aside(lines) as aside:
            aside.write_text(json.dumps(outlines(labels, size / section.pixel_um, graph.areas.names)), encoding="utf-8")
        written += [image, lines]
        tell(number + 1, len(sections))
    table = [
        {"key": key, "name": name, "colour": colour}
        for key, name, colour in zip(graph.areas.keys, graph.areas.names, graph.areas.colours.tolist())
    ]
    write_json(folder / "areas.json", table)
    return [*written, folder / "areas.json"]

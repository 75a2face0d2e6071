"""An area map laid back onto the sections: label images with names, and their outlines as GeoJSON polygons.

The folder may be handed back: as `annotations` of the stack it holds the map as polygons, corrected in QuPath or not.
"""

import json
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from meshgnn.errors import InputError
from meshgnn.export.area_map import AreaMap
from meshgnn.progress import Progress, silent
from meshgnn.source.polygons import outlines, to_geojson
from meshgnn.source.sections import Section, SectionStack, write_tiff
from meshgnn.source.text_table import write_text_table
from meshgnn.store import write_json, write_text, written_aside


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
    away, nearest = tree.query(points, distance_upper_bound=float(reach_mm.max()), workers=-1)
    found = np.full(len(points), -1, np.int32)
    hit = np.isfinite(away)
    node = nearest[hit]
    found[hit] = np.where(away[hit] <= reach_mm[node], area_map.predicted[node], -1)
    return found.reshape(shape)


def stems(stack: SectionStack) -> dict[int, str]:
    """A file name of its own for every section by number: that of its image, and the number where two share it."""
    images = {section.index: section.path.stem for section in stack}
    often = Counter(stem.casefold() for stem in images.values())
    found = {k: stem if often[stem.casefold()] == 1 else f"{stem}_section-{k}" for k, stem in images.items()}
    if len({stem.casefold() for stem in found.values()}) < len(found):
        return {k: f"{stem}_section-{k}" for k, stem in images.items()}
    return found


def write_on_sections(
    folder: Path,
    area_map: AreaMap,
    stack: SectionStack,
    *,
    pixel_um: float = 0.0,
    progress: Progress = silent,
) -> list[Path]:
    """Label images and outlines of usable sections: `<image>_areas.tif` and `.geojson`, areas.json, annotations.csv.

    Label images hold keys of areas.json (16 bit, or 32 where a key needs it); outlines are in pixels of the section's
    image; annotations.csv names the outlines of every section that shows an area.

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
    keys = np.array([*graph.areas.keys, 0])
    keys = keys.astype(np.uint16 if keys.max() < 1 << 16 else np.uint32)
    named, shown = stems(stack), []
    for number, section in enumerate(sections):
        size = pixel_um or 4 * section.pixel_um
        labels = section_labels(area_map, section, reach_mm=reach, pixel_um=size, tree=tree)
        if section.mirrored:
            labels = labels[:, ::-1]
        stem = f"{named[section.index]}_areas"
        image, lines = folder / f"{stem}.tif", folder / f"{stem}.geojson"
        with written_aside(image) as aside:
            write_tiff(aside, keys[labels], size)
        found = outlines(labels, step=size / section.pixel_um)
        write_text(lines, json.dumps(to_geojson(found, graph.areas.names, graph.areas.colours)))
        if found:
            shown.append([section.index, lines.name])
        written += [image, lines]
        progress("sections", number + 1, len(sections))
    write_text_table(folder / "annotations.csv", [["index", "polygons"], *shown])
    table = [
        {"key": key, "name": name, "colour": colour}
        for key, name, colour in zip(
            graph.areas.keys, graph.areas.names, np.round(graph.areas.colours.astype(float), 4).tolist()
        )
    ]
    write_json(folder / "areas.json", table)
    return [*written, folder / "annotations.csv", folder / "areas.json"]

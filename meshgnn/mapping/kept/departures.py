"""What was drawn as files of other programs: QuPath's GeoJSON, label images, an annotations folder for the pipeline."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from meshgnn.errors import InputError
from meshgnn.export.on_sections import stems
from meshgnn.mapping.kept.concepts import Concepts
from meshgnn.mapping.record import Record
from meshgnn.source.polygons import Polygon, paint
from meshgnn.source.sections import Section, SectionStack
from meshgnn.source.text_table import write_text_table
from meshgnn.source.tiff import write_tiff
from meshgnn.store import write_json, write_text, written_aside

LARGEST = 1 << 26
"""Pixels of a label image; a larger section gets one of coarser pixels."""
Records = Callable[[int], Sequence[Record]]


def write_geojson(folder: Path, stack: SectionStack, records: Records, concepts: Concepts) -> list[Path]:
    """`<image>.geojson` of every section of which something is said: outlines, borders and notes as QuPath reads them,
    with mapper, origin, confidence and note among their properties."""
    written = []
    for section, stem in _named(stack):
        features = [_feature(record, concepts) for record in records(section.index)]
        if features:
            written.append(folder / f"{stem}.geojson")
            write_text(written[-1], json.dumps({"type": "FeatureCollection", "features": features}))
    return written


def write_annotations(folder: Path, stack: SectionStack, records: Records, concepts: Concepts) -> list[Path]:
    """A folder `annotations` of the stack, as `meshgnn.source.annotations` reads it: outlines alone, no notes."""
    rows, written = [], []
    for section, stem in _named(stack):
        features = [_feature(record, concepts) for record in records(section.index) if record.kind == "area"]
        if features:
            written.append(folder / f"{stem}.geojson")
            write_text(written[-1], json.dumps({"type": "FeatureCollection", "features": features}))
            rows.append([section.index, written[-1].name])
    if not rows:
        raise InputError("no area is drawn yet; there is nothing to hand on")
    write_text_table(folder / "annotations.csv", [["index", "polygons"], *rows])
    write_areas(folder / "areas.json", concepts)
    return [*written, folder / "annotations.csv", folder / "areas.json"]


def write_areas(path: Path, concepts: Concepts) -> None:
    """areas.json."""
    rows = [{**row, "colour": [round(v / 255, 4) for v in _rgb(str(row["colour"]))]} for row in concepts.rows]
    write_json(path, rows)


def write_labels(folder: Path, stack: SectionStack, records: Records, concepts: Concepts) -> list[Path]:
    """`<image>_labels.tif` of every drawn section: keys of areas.json, 0 where nothing is said.

    On the section's own pixels; of a section of more than `LARGEST` on pixels that are a whole number of times wider.
    """
    keys = {str(row["name"]): int(row["key"]) for row in concepts.rows}
    kind = np.uint16 if max(keys.values()) < 1 << 16 else np.uint32
    written = []
    for section, stem in _named(stack):
        drawn = [(keys[one.area], _rings(one.geometry)) for one in records(section.index) if one.kind == "area"]
        if not drawn:
            continue
        step = 1
        while section.shape[0] * section.shape[1] > LARGEST * step**2:
            step += 1
        shape = (-(-section.shape[0] // step), -(-section.shape[1] // step))
        coarse = [(key, [[ring / step for ring in rings] for rings in polygons]) for key, polygons in drawn]
        image = np.maximum(paint(coarse, shape), 0).astype(kind)
        written.append(folder / f"{stem}_labels.tif")
        with written_aside(written[-1]) as aside:
            write_tiff(aside, image, section.pixel_um * step)
    if written:
        write_areas(folder / "areas.json", concepts)
    return written


def _named(stack: SectionStack) -> list[tuple[Section, str]]:
    named = stems(stack)
    return [(section, named[section.index]) for section in stack]


def _feature(record: Record, concepts: Concepts) -> dict[str, Any]:
    colours: Mapping[str, str] = {str(row["name"]): str(row["colour"]) for row in concepts.rows}
    about: dict[str, Any] = {"objectType": "annotation"}
    if record.area:
        about["classification"] = {"name": record.area, "color": _rgb(colours.get(record.area, "#808080"))}
    if record.kind != "area":
        about["name"] = record.note[:80] or "/".join(filter(None, (record.area, record.other))) or record.kind
    more = {key: getattr(record, key) for key in ("kind", "other", "origin", "mapper", "time", "confidence", "note")}
    about["metadata"] = {key: str(value) for key, value in more.items() if value != ""}
    return {"type": "Feature", "id": record.id, "geometry": dict(record.geometry), "properties": about}


def _rgb(colour: str) -> list[int]:
    return [int(colour[k : k + 2], 16) for k in (1, 3, 5)]


def _rings(geometry: Mapping[str, Any]) -> list[Polygon]:
    shape: Any = shapely.from_geojson(json.dumps(geometry))
    return [
        [np.array(ring.coords, np.float64) for ring in (part.exterior, *part.interiors)]
        for part in shapely.get_parts(shape)
    ]

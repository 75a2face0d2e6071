"""What comes from files: the annotations of a stack folder, and GeoJSON as QuPath writes it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from meshgnn.errors import InputError
from meshgnn.mapping.kept.shapes import checked
from meshgnn.mapping.kept.state import State
from meshgnn.mapping.record import Record
from meshgnn.progress import Progress, silent
from meshgnn.source.annotations import FOLDER, Annotations, read_annotations
from meshgnn.source.polygons import Polygon, areas_of_geojson, outlines
from meshgnn.source.sections import SectionStack

MAPPER = "imported"


def records_of(
    drawn: Sequence[tuple[str, Sequence[Polygon]]], section: int, size: tuple[int, int], where: str
) -> list[Record]:
    """New records with origin `imported`, one per area and outline as they were drawn.

    Raises:
        InputError: begins with `where`; see `shapes.checked`.
    """
    found = []
    for number, (name, polygons) in enumerate(drawn, start=1):
        shapes = [[ring.tolist() for ring in polygon] for polygon in polygons]
        try:
            geometry = checked({"type": "MultiPolygon", "coordinates": shapes}, "area", size)
        except InputError as error:
            raise InputError(f"{where}, {name} (number {number}): {error}") from None
        found.append(
            Record(
                id=str(uuid4()),
                version=1,
                section=section,
                kind="area",
                area=name,
                geometry=geometry,
                origin="imported",
                mapper=MAPPER,
                time="",
            )
        )
    return found


def import_annotations(state: State, stack: SectionStack, names: Sequence[str], progress: Progress = silent) -> int:
    """The annotations folder of the stack as records, all in one change; returns the number of sections.

    Label images become outlines along their pixels' edges, so that they come back as they were.

    Raises:
        InputError: annotations that cannot be read, or an area that is not in the list.
    """
    if stack.folder is None or not (stack.folder / FOLDER / "annotations.csv").is_file():
        return 0
    annotations = read_annotations(stack.folder)
    sizes = {section.index: section.shape for section in stack}
    numbers = [number for number in annotations.sections if number in sizes]
    records: list[Record] = []
    for count, number in enumerate(numbers, start=1):
        drawn = _drawn(annotations, number)
        strange = [name for name, _ in drawn if name not in names]
        if strange:
            raise InputError(f"{annotations.file(number)}: the area {strange[0]!r} is not in the list; add it")
        records += records_of(drawn, number, sizes[number], str(annotations.file(number)))
        progress("annotations", count, len(numbers))
    state.put(records, MAPPER)
    return len(numbers)


def _drawn(annotations: Annotations, number: int) -> list[tuple[str, list[Polygon]]]:
    if number in annotations.polygons:
        path = annotations.file(number)
        return areas_of_geojson(json.loads(path.read_bytes()), str(path))
    found = outlines(annotations.read(number))
    return [(annotations.areas.names[place], polygons) for place, polygons in sorted(found.items())]


def imported(body: bytes, section: int, size: tuple[int, int], names: Sequence[str]) -> list[Record]:
    """Records of a GeoJSON file.

    Raises:
        InputError: no GeoJSON, nothing in it, a class that is not in the list, or an outline that is broken.
    """
    where = "the file"
    try:
        content = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise InputError(f"{where}: not valid GeoJSON; export the annotations as GeoJSON again") from None
    if isinstance(content, Mapping) and content.get("type") in ("Polygon", "MultiPolygon"):
        raise InputError(f"{where}: an outline without a name; save it as a Feature with a classification")
    drawn = areas_of_geojson(content, where)
    if not drawn:
        raise InputError(f"{where}: no area is drawn in it")
    strange = [name for name, _ in drawn if name not in names]
    if strange:
        raise InputError(f"{where}: the class {strange[0][:80]!r} is not in the list of areas; add it or rename it")
    return records_of(drawn, section, size, where)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number")

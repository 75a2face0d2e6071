"""What comes from files: the annotations of a stack folder, and GeoJSON as QuPath writes it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from meshgnn.errors import InputError
from meshgnn.mapping.kept.shapes import TYPES, checked
from meshgnn.mapping.kept.state import State
from meshgnn.mapping.record import LONGEST_NOTE, Record
from meshgnn.progress import Progress, silent
from meshgnn.source.annotations import FOLDER, Annotations, read_annotations
from meshgnn.source.polygons import Polygon, annotations_of_geojson, class_name, outlines, polygons_of
from meshgnn.source.sections import SectionStack

MAPPER = "imported"
Said = tuple[str, str, Any, Mapping[str, Any]]
"""Name of the area, where it stands (for messages), geometry, and what `departures` wrote of the record, if it did."""


def records_of(said: Sequence[Said], section: int, size: tuple[int, int], names: Sequence[str]) -> list[Record]:
    """New records, as they were said, with origin `imported` and the mapper that the file names; those that were
    accepted predictions when they were written stay accepted.

    Raises:
        InputError: begins with where it stands: a class that is not in `names`; see `shapes.checked`.
    """
    found = []
    for area, where, geometry, told in said:
        kind = _kind(told, geometry)
        other = str(told.get("other", "")) if kind == "border" else ""
        for name in filter(None, (area, other)):
            if name not in names:
                raise InputError(f"{where}: the class {name[:80]!r} is not in the list of areas; add it or rename it")
        try:
            shape = checked(geometry, kind, size)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        sure = str(told.get("confidence", ""))
        found.append(
            Record(
                id=str(uuid4()), version=1, section=section, kind=kind, area="" if kind == "note" else area,
                other=other, geometry=shape, mapper=str(told.get("mapper", "")) or MAPPER, time="",
                origin="accepted" if told.get("origin") == "accepted" else "imported",
                confidence=int(sure) if sure in ("1", "2", "3") else 3,
                note=_kept(str(told.get("note", "")))[:LONGEST_NOTE],
            )
        )  # fmt: skip
    return found


def _kept(text: str) -> str:
    """A text as files can hold it: half a character (a lone surrogate) becomes a question mark."""
    return text.encode(errors="replace").decode()


def _kind(told: Mapping[str, Any], geometry: Any) -> Any:
    """Borders and notes are those that we wrote; lines and points of other programs are no areas."""
    kind = told.get("kind")
    of = geometry.get("type") if isinstance(geometry, Mapping) else None
    return kind if kind in ("border", "note") and of in TYPES[kind] else "area"


def _said(content: Any, path: str) -> list[Said]:
    """Raises InputError as `polygons.areas_of_geojson`."""
    found: list[Said] = []
    for where, about, geometry in annotations_of_geojson(content, path):
        told = about.get("metadata")
        told = told if isinstance(told, Mapping) else {}
        if _kind(told, geometry) == "area":
            found.append((class_name(about, where), where, _plain(polygons_of(geometry, where)), told))
        else:
            name = class_name(about, where) if about.get("classification") else ""
            found.append((name, where, geometry, told))
    return found


def _plain(polygons: Sequence[Polygon]) -> dict[str, Any]:
    return {"type": "MultiPolygon", "coordinates": [[ring.tolist() for ring in polygon] for polygon in polygons]}


def annotated(stack: SectionStack, names: Sequence[str], progress: Progress = silent) -> list[Record]:
    """The annotations folder of the stack as records.

    Label images become outlines along their pixels' edges, so that they come back as they were.

    Raises:
        InputError: annotations that cannot be read, or an area that is not in the list.
    """
    if stack.folder is None or not (stack.folder / FOLDER / "annotations.csv").is_file():
        return []
    annotations = read_annotations(stack.folder)
    sizes = {section.index: section.shape for section in stack}
    numbers = [number for number in annotations.sections if number in sizes]
    records: list[Record] = []
    for count, number in enumerate(numbers, start=1):
        records += records_of(_drawn(annotations, number), number, sizes[number], names)
        progress("annotations", count, len(numbers))
    return records


def import_annotations(state: State, stack: SectionStack, names: Sequence[str], progress: Progress = silent) -> None:
    """The annotations folder of the stack into an empty state, all in one change. A state that is only read shows them
    until the server that draws has written them. Raises InputError as `annotated` does."""
    records = annotated(stack, names, progress)
    if records and state.journal.writing:
        state.put(records, MAPPER)
    elif records:
        state.foresee(records, MAPPER)


def _drawn(annotations: Annotations, number: int) -> list[Said]:
    path = str(annotations.file(number))
    if number in annotations.polygons:
        return _said(json.loads(annotations.file(number).read_bytes()), path)
    found = outlines(annotations.read(number))
    names = annotations.areas.names
    return [
        (names[place], f"{path}, {names[place]}", _plain(polygons), {}) for place, polygons in sorted(found.items())
    ]


def imported(body: bytes, section: int, size: tuple[int, int], names: Sequence[str]) -> list[Record]:
    """Records of a GeoJSON file.

    Raises:
        InputError: no GeoJSON, nothing in it, a class that is not in the list, or an outline that is broken.
    """
    where = "the file"
    if body[:2] == b"PK":
        raise InputError(f"{where}: an archive; unpack it and choose the GeoJSON file of this section")
    try:
        content = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise InputError(f"{where}: not valid GeoJSON; export the annotations as GeoJSON again") from None
    if isinstance(content, Mapping) and content.get("type") in ("Polygon", "MultiPolygon"):
        raise InputError(f"{where}: an outline without a name; save it as a Feature with a classification")
    said = _said(content, where)
    if not said:
        raise InputError(f"{where}: no area is drawn in it")
    return records_of(said, section, size, names)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number")

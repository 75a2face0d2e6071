"""What a mapper says of a section, one thing at a time: an area's outline, a border, a note."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["area", "border", "note"]
Origin = Literal["drawn", "accepted", "imported"]
LONGEST_NOTE = 4000
"""Characters of a note."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One version of one thing that was said. Versions are never changed; a change is a record with the next version.

    Args:
        id: of the thing, the same in all its versions (a UUID).
        version: 1, 2, ...; together with `id` it names this record.
        section: number of the section.
        kind: area (Polygon or MultiPolygon), border (LineString across the cortex) or note (Point).
        area: name in areas.json; of a border, the area on the left of the stroke as it was drawn; empty for a note.
        other: of a border, the area on its right, if said.
        geometry: GeoJSON geometry in pixels of the section's image as stored, x to the right, y down, counted from the
            outer corner of the first pixel (`meshgnn.source.polygons`).
        origin: drawn by hand, accepted from a prediction (and perhaps corrected since), or imported; the server says it
            of a further version. Scores count what was drawn or imported.
        mapper: who; of the last change.
        time: when, ISO 8601 in UTC.
        confidence: 1 unsure, 2 fairly sure, 3 sure.
        note: free text.
        deleted: True in the version that takes the thing away.
    """

    id: str
    version: int
    section: int
    kind: Kind
    area: str = ""
    other: str = ""
    geometry: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin = "drawn"
    mapper: str
    time: str
    confidence: int = 3
    note: str = ""
    deleted: bool = False


@dataclass(frozen=True, kw_only=True)
class Review:
    """A mapper's decision on a predicted area; the last one on an area of a section counts.

    Args:
        section: number of the section.
        area: name in areas.json.
        round: number of the filling.
        engine: that made it.
        decision: accept (a record with origin `accepted` stands in the same entry), reject, or withdraw (as if nothing
            had been decided).
        record: id of that record; empty for the others.
    """

    section: int
    area: str
    round: int
    engine: str
    decision: Literal["accept", "reject", "withdraw"]
    record: str = ""

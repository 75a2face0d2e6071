"""Changes as a page or a script sends them, checked."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from meshgnn.errors import InputError
from meshgnn.mapping.kept.shapes import checked
from meshgnn.mapping.kept.state import State
from meshgnn.mapping.record import LONGEST_NOTE, Kind, Origin, Record

MOST = 1000
"""Changes in one request."""
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_FIELDS = {"id", "base", "kind", "area", "other", "geometry", "confidence", "note", "origin"}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Changes that may be put into a state.

    Args:
        records: to write.
        bases: the version that each rests on.
    """

    records: tuple[Record, ...]
    bases: tuple[int, ...]


def asked(body: Any, section: int, size: tuple[int, int], names: Sequence[str], state: State) -> Asked:
    """Changes of the body of a request, for one section.

    Args:
        body: `{changes: [{op: "put", record} or {op: "delete", id, base}]}`.
        section: number.
        size: its rows and columns.
        names: of the areas that there are.
        state: before the changes.

    Raises:
        InputError: which change is wrong, and why.
    """
    changes = body.get("changes") if isinstance(body, Mapping) else None
    if not isinstance(changes, list) or not changes:
        raise InputError("the body must be {changes: [...]} with at least one change")
    if len(changes) > MOST:
        raise InputError(f"{len(changes)} changes at once; at most {MOST} are taken")
    records, bases = [], []
    for number, change in enumerate(changes, start=1):
        try:
            record, base = _one(change, section, size, names, state)
        except InputError as error:
            raise InputError(f"change {number}: {error}") from None
        records.append(record)
        bases.append(base)
    return Asked(records=tuple(records), bases=tuple(bases))


def _one(change: Any, section: int, size: tuple[int, int], names: Sequence[str], state: State) -> tuple[Record, int]:
    what = change.get("op") if isinstance(change, Mapping) else None
    if what == "delete":
        id, base = _id(change.get("id")), _base(change.get("base"))
        old = state.newest(id)
        if old is None:
            raise InputError(f"there is no record {id}")
        return replace(old, deleted=True, section=section), base
    given = change.get("record") if what == "put" else None
    if not isinstance(given, Mapping):
        raise InputError('op must be "put" with a record, or "delete"')
    strange = sorted(set(given) - _FIELDS - {"version", "section", "mapper", "time", "deleted"})
    if strange:
        raise InputError(f"a record has no {strange[0][:40]!r}; it has {', '.join(sorted(_FIELDS))}")
    id, base = _id(given.get("id")), _base(given.get("base", 0))
    kind: Any = given.get("kind")
    origin: Any = given.get("origin", "drawn")
    if kind not in get_args(Kind):
        raise InputError(f"kind is {str(kind)[:40]!r}; one of {', '.join(get_args(Kind))}")
    if origin not in get_args(Origin):
        raise InputError(f"origin is {str(origin)[:40]!r}; one of {', '.join(get_args(Origin))}")
    area, other = (_area(given.get(key, ""), key, names) for key in ("area", "other"))
    if kind == "area" and not area:
        raise InputError("an outline needs the name of an area")
    confidence, note = given.get("confidence", 3), given.get("note", "")
    if isinstance(confidence, bool) or confidence not in (1, 2, 3):
        raise InputError(f"confidence is {str(confidence)[:40]}; 1, 2 or 3")
    if not isinstance(note, str) or len(note) > LONGEST_NOTE:
        raise InputError(f"a note is a text of at most {LONGEST_NOTE} characters")
    geometry = checked(given.get("geometry"), kind, size)
    old = state.newest(id)
    record = Record(
        id=id, version=base, section=section, kind=kind, area=area, other=other if kind == "border" else "",
        geometry=geometry, origin=origin if old is None else _origin(old, geometry), mapper="", time="",
        confidence=confidence, note=note,
    )  # fmt: skip
    return record, base


def _origin(old: Record, geometry: Mapping[str, Any]) -> Origin:
    """Of the next version, whatever its sender says.

    A prediction that was accepted stays one, whoever moves its corners: the rest of the outline is still the engine's,
    and a section scored with it would be judged by its own prediction. Only what is drawn anew counts as drawn. What
    was imported counts as drawn in any case; moved by hand it is that mapper's.
    """
    if old.origin == "imported" and old.geometry != geometry:
        return "drawn"
    return old.origin


def _id(value: Any) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise InputError(f"id is {str(value)[:40]!r}; a UUID in small letters is needed")
    return value


def _base(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise InputError(f"base is {str(value)[:40]}; the number of the version that the change rests on is needed")
    return value


def _area(value: Any, key: str, names: Sequence[str]) -> str:
    if not isinstance(value, str) or (value and value not in names):
        raise InputError(f"{key} is {str(value)[:40]!r}, which is not in the list of areas")
    return value

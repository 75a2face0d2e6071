"""The list of areas that mappers draw: names, numbers, colours.

It is kept as areas.json (`meshgnn.source.area_table`). Lists of other making are read too: JSON with entries that have
a name, a number (`key`, `number`, `id` or `index`) and a colour (`colour`, `color` or `rgb`: three or four numbers, or
"#rrggbb"), in lists within lists under `children`, of which the ends are taken.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from meshgnn.errors import InputError
from meshgnn.graph import distinct_colours
from meshgnn.source.annotations import FOLDER
from meshgnn.source.area_table import AreaTable, read_area_table
from meshgnn.store import read_json, write_json

FILE = "areas.json"
OURS = "human_areas.json"
_KEYS, _COLOURS = ("key", "number", "index", "id"), ("colour", "color", "rgb")
_HEX = re.compile(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")


@dataclass(frozen=True, kw_only=True)
class Concepts:
    """The areas that may be drawn.

    Args:
        table: keys and names, for whatever learns.
        rows: `{key, name, colour: "#rrggbb", isocortex}`, in the order of the list.
    """

    table: AreaTable
    rows: tuple[Mapping[str, Any], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(str(row["name"]) for row in self.rows)


def settle(state: Path, stack: Path, given: Path | None, used: set[str], *, writing: bool) -> Concepts:
    """The list of a state folder, which is made when there is none: of `given`, of the stack's annotations, or ours.

    Args:
        state: the folder.
        stack: the stack's.
        given: a list to take from now on.
        used: names that records have; a list without one of them is refused.
        writing: False to leave the state folder as it is.

    Raises:
        InputError: a list that cannot be read, or lacks what was drawn.
    """
    kept, annotated = state / FILE, stack / FOLDER / FILE
    source = given or next((path for path in (kept, annotated) if path.is_file()), None)
    rows = list_of(source or Path(str(files("meshgnn.mapping") / "assets" / OURS)))
    gone = sorted(used - {row["name"] for row in rows})
    if gone:
        raise InputError(f"{source}: lacks {gone[0]!r}, which is drawn already; add it")
    with TemporaryDirectory() as folder:
        write_json(Path(folder) / FILE, rows)
        try:
            table = read_area_table(Path(folder) / FILE)
        except InputError as error:
            raise InputError(str(error).replace(str(Path(folder) / FILE), str(source))) from None
    if writing and source != kept:
        write_json(kept, rows)
    shown = ({**row, "colour": "#" + "".join(f"{round(v * 255):02x}" for v in row["colour"][:3])} for row in rows)
    return Concepts(table=table, rows=tuple(shown))


def list_of(path: Path) -> list[dict[str, Any]]:
    """Rows of areas.json from a list of areas. Raises InputError for an entry without a name."""
    content = read_json(path)
    entries = list(_entries(content.get("areas", content) if isinstance(content, dict) else content, str(path)))
    if not entries:
        raise InputError(f"{path}: no areas in it")
    made_up = distinct_colours(len(entries)).tolist()
    listed = [next((entry[one] for one in _COLOURS if entry.get(one)), None) for entry in entries]
    numbers = [v for one in listed if isinstance(one, list) for v in one[:3] if isinstance(v, int | float)]
    scale = 255 if any(v > 1 for v in numbers) else 1
    rows = []
    for number, (entry, colour) in enumerate(zip(entries, listed), start=1):
        name = entry.get("name")
        if not isinstance(name, str | int | float) or not str(name).strip():
            raise InputError(f"{path}, area {number}: has no name")
        key = next((entry[one] for one in _KEYS if isinstance(entry.get(one), int)), number)
        if isinstance(colour, str):
            found = _HEX.fullmatch(colour.strip())
            if found is None:
                raise InputError(f"{path}, area {number} ({name}): the colour is {colour[:20]!r}; write #rrggbb")
            colour = [round(int(part, 16) / 255, 4) for part in found.groups()]
        elif isinstance(colour, list):
            colour = [round(v / scale, 4) if isinstance(v, int | float) else v for v in colour[:3]]
        row = {"key": key, "name": str(name).strip(), "colour": colour or made_up[number - 1][:3]}
        rows.append({**row, "isocortex": entry.get("isocortex", True)})
    return rows


def _entries(content: Any, where: str) -> Iterator[dict[str, Any]]:
    if not isinstance(content, list) or not all(isinstance(one, dict) for one in content):
        raise InputError(f"{where}: needs a list of areas with name, key and colour")
    for one in content:
        if isinstance(one.get("children"), list) and one["children"]:
            yield from _entries(one["children"], where)
        else:
            yield one

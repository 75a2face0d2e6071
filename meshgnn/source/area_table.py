"""areas.json: keys, names and colours of the areas that a mapper knows.

    [{"key": 1, "name": "4", "colour": [r, g, b, a], "isocortex": true}, ...]

Colours run from 0 to 1, or from 0 to 255 if any component is above 1; alpha may be left out. Areas whose `isocortex` is
false mark tissue that is recognised but not mapped. All brains of a run have the same mapped areas in key order.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from meshgnn.errors import InputError
from meshgnn.graph import Areas

LARGEST_KEY = 2**31 - 1  # of a GIfTI label


@dataclass(frozen=True, kw_only=True)
class AreaTable:
    """What areas.json says.

    Args:
        areas: the classes, in key order.
        unmapped: names of what is recognised but not mapped, by key.
    """

    areas: Areas
    unmapped: Mapping[int, str]

    def class_of_key(self) -> dict[int, int]:
        """Class number by key, -1 for what is not mapped and for 0."""
        mapped = {key: number for number, key in enumerate(self.areas.keys)}
        return {0: -1, **dict.fromkeys(self.unmapped, -1), **mapped}

    def class_of_name(self) -> dict[str, int]:
        """Class number by name, -1 for what is not mapped."""
        mapped = {name: number for number, name in enumerate(self.areas.names)}
        return {**dict.fromkeys(self.unmapped.values(), -1), **mapped}


def read_area_table(path: Path) -> AreaTable:
    """Raises InputError for whatever is wrong with the file, naming the area."""
    try:
        rows = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON in UTF-8 ({error})") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: needs a list of key, name, colour, isocortex")
    keys, names, mapped = [], [], []
    for number, row in enumerate(rows, start=1):
        where = f"{path}, area {number}"
        missing = [name for name in ("key", "name", "colour") if name not in row]
        if missing:
            raise InputError(f"{where}: {missing[0]!r} is missing; needed are key, name, colour")
        keys.append(_key(row["key"], where))
        names.append(str(row["name"]).strip())
        if not names[-1] or not isinstance(row["name"], str | int | float):
            raise InputError(f"{where} (key {keys[-1]}): the name is empty; give every area a name")
        mapped.append(row.get("isocortex", True))
        if not isinstance(mapped[-1], bool):
            raise InputError(f"{where} ({names[-1]!r}): isocortex is {mapped[-1]!r}; write true or false")
    if len(set(keys)) != len(keys):
        raise InputError(f"{path}: key {max(keys, key=keys.count)} stands twice; give each area its own")
    if not any(mapped):
        raise InputError(f"{path}: no area is to be mapped; at least one needs isocortex true")
    colours = _colours([row["colour"] for row in rows], path)
    order = sorted((k for k in range(len(rows)) if mapped[k]), key=lambda k: keys[k])
    chosen = [names[k] for k in order]
    unmapped = {keys[k]: names[k] for k in range(len(rows)) if not mapped[k]}
    twice = [name for name in chosen if chosen.count(name) > 1 or name in unmapped.values()]
    if twice:
        raise InputError(f"{path}: two areas are called {twice[0]!r}; give each its own name")
    areas = Areas(names=tuple(chosen), colours=colours[order], keys=tuple(keys[k] for k in order))
    return AreaTable(areas=areas, unmapped=unmapped)


def _key(value: Any, where: str) -> int:
    try:
        if isinstance(value, bool) or int(value) != float(value) or not 0 < int(value) <= LARGEST_KEY:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{where}: key is {value!r}; write a whole number from 1 to {LARGEST_KEY}") from None
    return int(value)


def _colours(given: Sequence[Any], path: Path) -> npt.NDArray[np.float32]:
    """[K, 4] in [0, 1]. Alpha has its own scale: style sheets write 255, 0, 0, 1."""
    for number, one in enumerate(given, start=1):
        plain = isinstance(one, list) and len(one) in (3, 4)
        if not plain or any(isinstance(v, bool) or not isinstance(v, int | float) for v in one):
            raise InputError(f"{path}, area {number}: colour must be three or four numbers, got {str(one)[:60]}")
    bytewise = any(v > 1 for one in given for v in one)
    for number, one in enumerate(given, start=1):
        if not all(0 <= v <= (255 if bytewise else 1) and (not bytewise or v == int(v)) for v in one[:3]):
            scale = "whole numbers from 0 to 255, since one is above 1" if bytewise else "from 0 to 1"
            raise InputError(f"{path}, area {number}: colour is {one}; components must be {scale}")
    rgb = np.array([one[:3] for one in given], np.float64) / (255 if bytewise else 1)
    opaque = 255.0 if any(one[3] > 1 for one in given if len(one) == 4) else 1.0
    alpha = np.array([one[3] if len(one) == 4 else opaque for one in given], np.float64) / opaque
    if not ((alpha >= 0) & (alpha <= 1)).all():
        raise InputError(f"{path}: alpha must run from 0 to 1, or from 0 to 255")
    return np.column_stack([rgb, alpha]).astype(np.float32)

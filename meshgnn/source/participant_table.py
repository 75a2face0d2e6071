"""The table of participants of a BIDS folder: who there is, their families, sites and traits.

G participants, T targets.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.mesh.record import frozen
from meshgnn.source.subjects import Target, check_targets
from meshgnn.source.text_table import read_text_table

TABLE = "participants.tsv"
MISSING = ("", "n/a", "na", "nan", "none")
MOST_CLASSES = 20
NUMERIC_FROM = 6  # different whole numbers in a column; fewer are read as codes of classes

Row = tuple[int, dict[str, str]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Participants:
    """Subjects by name, with what a table says of them; no brain is held.

    Args:
        ids: G names `sub-*`, each once.
        family: subjects of one family share it; "" for one without relatives, or all () where families are not known.
        site: where they were scanned; "" or () where not known.
        targets: T traits to predict.
        values: [G, T] class numbers and numbers; NaN where missing.
        contents: a hash of each subject's data, if known: two subjects with one hash are the same under two names.
        files: every file they came from.
        warnings: one line each.

    Raises:
        InputError: nobody, somebody twice, or sizes that do not fit.
    """

    ids: tuple[str, ...]
    family: tuple[str, ...] = ()
    site: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    values: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    contents: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.ids)
        if not count:
            raise InputError("no participant")
        twice = [name for name, times in Counter(self.ids).items() if times > 1]
        if twice:
            raise InputError(f"participant {twice[0]!r} stands twice; give every subject an id of its own")
        values = np.zeros((count, 0)) if np.size(self.values) == 0 else np.asarray(self.values, np.float64)
        for name in ("family", "site", "contents"):
            given = tuple(getattr(self, name)) or ("",) * count
            if len(given) != count:
                raise InputError(f"{count} participants, but {len(given)} of {name}")
            object.__setattr__(self, name, given)
        if values.shape != (count, len(self.targets)):
            raise InputError(f"{count} participants with {len(self.targets)} targets, but values {values.shape}")
        object.__setattr__(self, "values", frozen(values, np.float64))

    def __len__(self) -> int:
        return len(self.ids)

    def groups(self, kind: str) -> list[str]:
        """[G] the family or the site of every subject; one without is a group of its own."""
        if kind not in ("family", "site"):
            raise ValueError(f"subjects are grouped by family or site, not {kind!r}")
        return [name or f"only {own}" for own, name in zip(self.ids, getattr(self, kind))]

    def group_numbers(self, kind: str) -> NDArray[np.int32]:
        """[G] the same as numbers from 0, in order of appearance."""
        names = self.groups(kind)
        number = {name: k for k, name in enumerate(dict.fromkeys(names))}
        return np.array([number[name] for name in names], np.int32)

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Where these subjects stand. Raises InputError when one of them is not there."""
        place = {name: k for k, name in enumerate(self.ids)}
        stray = [name for name in ids if name not in place]
        if stray:
            raise InputError(f"{stray[0]} is not one of the {len(self)} participants ({len(stray)} such in all)")
        return np.array([place[name] for name in ids], np.int64)

    def kept(self, rows: Sequence[int] | NDArray[np.integer]) -> "Participants":
        """Some of them, in this order."""
        rows = [int(row) for row in rows]
        some = {name: tuple(getattr(self, name)[row] for row in rows) for name in ("ids", "family", "site", "contents")}
        return replace(self, **some, values=self.values[rows])


class ParticipantTable:
    """Reads participants.tsv: names, families, sites, targets."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            folder: holds participants.tsv.
            targets: columns of the table to predict; none by default.
            categorical: those of them whose numbers are codes of classes.
            numeric: those of them that are numbers, however few different ones there are.
            family: column that subjects of one family share.
            site: column that names where a brain was scanned.
        """

        folder: Path = Path()
        targets: tuple[str, ...] = ()
        categorical: tuple[str, ...] = ()
        numeric: tuple[str, ...] = ()
        family: str = "family_id"
        site: str = "site"

        def __post_init__(self) -> None:
            for key in ("categorical", "numeric"):
                wrong = [name for name in getattr(self, key) if name not in self.targets]
                if wrong:
                    raise SettingError(f"<{key}> names {wrong[0]!r}, which is not one of <targets>")

        def build(self) -> "ParticipantTable":
            return ParticipantTable(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def read(self) -> Participants:
        """Raises InputError: see the messages; always one line that names the file."""
        c = self.config
        if c.folder == Path():
            raise SettingError(f"no folder of participants given: set <folder> (it holds {TABLE})")
        path = c.folder / TABLE
        columns, rows = read_text_table(path, ["participant_id"])
        for name in c.targets:
            if name not in columns or name in ("participant_id", c.family, c.site):
                there = ", ".join(columns)
                raise InputError(f"{path}: {name!r} is not a column that can be used so; columns: {there}")
        names = participant_names(path, rows)
        if not names:
            raise InputError(f"{path}: holds no participant")
        found = [target_of(path, name, rows, c.categorical, c.numeric) for name in c.targets]
        values = np.stack([own for _, own in found], axis=1) if found else np.zeros((len(names), 0))
        check_targets(names, [target for target, _ in found], values)
        return Participants(
            ids=tuple(names),
            family=tuple(group_of(row, c.family) for row in rows),
            site=tuple(group_of(row, c.site) for row in rows),
            targets=tuple(target for target, _ in found),
            values=values,
            files=(path,),
        )


def participant_names(path: Path, rows: Sequence[Row]) -> list[str]:
    """`sub-*` of every row. Raises InputError when one is no id, or stands twice."""
    names = [participant_name(path, line, row["participant_id"]) for line, row in rows]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        lines = ", ".join(str(line) for (line, _), other in zip(rows, names) if other == twice[0])
        raise InputError(f"{path}: participant {twice[0]!r} stands twice (lines {lines}); keep one row")
    return names


def participant_name(path: Path, line: int, text: str) -> str:
    """`sub-*` of a cell. Raises InputError when it cannot be the name of a folder."""
    name = text.removeprefix("sub-")
    if not name or "/" in name or "\\" in name or "\0" in name or name in (".", ".."):
        raise InputError(f"{path}, line {line}: {text!r} is not a participant id")
    return f"sub-{name}"


def group_of(row: Row, column: str) -> str:
    """A family or site; "" where missing or where there is no such column."""
    text = row[1].get(column, "")
    return "" if text.lower() in MISSING else text


def target_of(
    path: Path, name: str, rows: Sequence[Row], categorical: Sequence[str], numeric: Sequence[str]
) -> tuple[Target, NDArray[np.float64]]:
    """A column as a target and its values [G].

    Args:
        categorical: columns whose numbers are codes of classes.
        numeric: columns that are numbers, however few different ones there are.

    Raises:
        InputError: a cell that cannot be read, too many classes, or one only.
    """
    cells = [row[name] for _, row in rows]
    known = [cell for cell in cells if cell.lower() not in MISSING]
    numbers = all(is_number(cell) for cell in known)
    if name in numeric or (name not in categorical and numbers and not looks_coded(known)):
        return Target(name=name), np.array([number_of(path, name, row) for row in rows])
    classes = tuple(sorted(set(known)))
    if len(classes) > MOST_CLASSES:
        odd = next(((line, row[name]) for line, row in rows if row[name] in known and not is_number(row[name])))
        raise InputError(
            f"{path}: {name} has {len(classes)} different values; as numbers they cannot be read (line {odd[0]}: "
            f"{odd[1]!r}), as classes at most {MOST_CLASSES} make sense"
        )
    if known and len(classes) < 2:
        raise InputError(f"{path}: {name} is {known[0]!r} for all subjects that have it; nothing to tell apart")
    index = {label: float(k) for k, label in enumerate(classes)}
    return Target(name=name, classes=classes or ("",)), np.array([index.get(cell, np.nan) for cell in cells])


def number_of(path: Path, name: str, row: Row) -> float:
    """A cell as a number; NaN where missing. Raises InputError when it is none, or not finite."""
    line, cells = row
    if cells[name].lower() in MISSING:
        return float("nan")
    if not is_number(cells[name]):
        raise InputError(f"{path}, line {line}: {name} is {cells[name]!r}, not a number; a missing one is n/a")
    value = float(cells[name])
    if not np.isfinite(value):
        raise InputError(f"{path}, line {line}: {name} is {cells[name]}, not a finite number; a missing one is n/a")
    return value


def looks_coded(cells: Sequence[str]) -> bool:
    """True for few different whole numbers, which are read as codes of classes."""
    different = {float(cell) for cell in cells}
    return len(different) < NUMERIC_FROM and all(value.is_integer() for value in different)


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def columns_of(rows: Sequence[Row], names: Sequence[str]) -> Mapping[str, list[str]]:
    """Cells by column, "" where missing."""
    return {name: ["" if row[name].lower() in MISSING else row[name] for _, row in rows] for name in names}

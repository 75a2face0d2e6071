"""Real subjects: a BIDS folder with participants.tsv and one surface folder `sub-*` for every subject."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.source.plausible import check_size
from meshgnn.source.subjects import FEWEST, Subject, Subjects, Target
from meshgnn.source.surface_folder import SurfaceFolder
from meshgnn.source.text_table import read_text_table

TABLE = "participants.tsv"
MISSING = ("", "n/a", "na", "nan", "none")
MOST_CLASSES = 20
NUMERIC_FROM = 6  # different whole numbers in a column; fewer are read as codes of classes

Row = tuple[int, dict[str, str]]


class SubjectFolders:
    """Reads participants.tsv and the surface folders beside it."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            folder: holds participants.tsv and the folders sub-*.
            targets: columns of the table to predict.
            categorical: those of them whose numbers are codes of classes.
            numeric: those of them that are numbers, however few different ones there are.
            covariates: columns with numbers that every model gets beside the brain (head size, ...).
            family: column that subjects of one family share.
            site: column that names where a brain was scanned.
            atlas: which labels of the surface folders are the areas; may stay empty if there is one.
            space: which surfaces, if the folders hold several spaces.
        """

        folder: Path = Path()
        targets: tuple[str, ...] = ()
        categorical: tuple[str, ...] = ()
        numeric: tuple[str, ...] = ()
        covariates: tuple[str, ...] = ()
        family: str = "family_id"
        site: str = "site"
        atlas: str = ""
        space: str = ""

        def __post_init__(self) -> None:
            both = set(self.targets) & set(self.covariates)
            if both:
                raise SettingError(f"<covariates> names {sorted(both)[0]!r}, which is a target: it would be given away")
            for key in ("categorical", "numeric"):
                wrong = [name for name in getattr(self, key) if name not in self.targets]
                if wrong:
                    raise SettingError(f"<{key}> names {wrong[0]!r}, which is not one of <targets>")

        def build(self) -> "SubjectFolders":
            return SubjectFolders(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def read(self) -> Subjects:
        """Raises InputError: see the messages; always one line that names the file."""
        c = self.config
        if c.folder == Path():
            raise InputError(f"no folder of subjects given; add --set cohort.folder=DIR (it holds {TABLE} and sub-*)")
        path = c.folder / TABLE
        columns, rows = read_text_table(path, ["participant_id"])
        self._check_columns(path, columns)
        names = [self._name(path, line, row["participant_id"]) for line, row in rows]
        for name in names:
            if names.count(name) > 1:
                lines = ", ".join(str(line) for (line, _), other in zip(rows, names) if other == name)
                raise InputError(f"{path}: participant {name!r} stands twice (lines {lines}); keep one row")
        subjects, kept, files, warnings = self._brains(path, names, rows)
        if len(kept) < FEWEST:
            raise InputError(
                f"{path}: {len(kept)} participant{'s' * (len(kept) != 1)} with a folder; at least {FEWEST} are needed "
                "to train and to test"
            )
        targets, values = [], []
        for name in c.targets:
            target, column = self._target(path, name, kept)
            targets.append(target)
            values.append(column)
        whole = [[self._number(path, name, row) for name in c.covariates] for row in kept]
        return Subjects(
            subjects=tuple(subjects),
            targets=tuple(targets),
            values=np.stack(values, axis=1),
            covariates=c.covariates,
            whole=np.array(whole, np.float64).reshape(len(kept), len(c.covariates)),
            files=(path, *files),
            warnings=tuple(warnings),
        )

    def _check_columns(self, path: Path, columns: list[str]) -> None:
        c = self.config
        there = ", ".join(columns)
        if not c.targets:
            raise InputError(f"{path}: say what to predict with --set cohort.targets=NAME,NAME; columns: {there}")
        for name in (*c.targets, *c.covariates):
            if name not in columns or name in ("participant_id", c.family, c.site):
                raise InputError(f"{path}: {name!r} is not a column that can be used so; columns: {there}")

    @staticmethod
    def _name(path: Path, line: int, text: str) -> str:
        name = text.removeprefix("sub-")
        if not name or "/" in name or "\\" in name or name in (".", ".."):
            raise InputError(f"{path}, line {line}: {text!r} is not a participant id")
        return f"sub-{name}"

    def _brains(
        self, path: Path, names: Sequence[str], rows: Sequence[Row]
    ) -> tuple[list[Subject], list[Row], list[Path], list[str]]:
        """The subjects that have a folder, their rows, the files read, and warnings."""
        c = self.config
        there = {folder.name for folder in c.folder.glob("sub-*") if folder.is_dir()}
        absent = [name for name in names if name not in there]
        if len(absent) == len(names):
            raise InputError(f"{c.folder}: no folder of a participant is there (the first would be {names[0]})" if names
                             else f"{path}: holds no participant")  # fmt: skip
        warnings = []
        if absent:
            warnings.append(f"{len(absent)} participants have no folder and are left out: {', '.join(absent[:5])}")
        stray = sorted(there - set(names))
        if stray:
            warnings.append(f"{len(stray)} folders are not in {TABLE} and are left out: {', '.join(stray[:5])}")
        subjects: list[Subject] = []
        kept: list[Row] = []
        files: list[Path] = []
        warned: dict[str, list[str]] = {}
        for name, row in zip(names, rows):
            if name not in there:
                continue
            source = SurfaceFolder.Config(folder=c.folder / name, atlas=c.atlas, space=c.space).build()
            reading = source.read()
            check_size(reading.graph)
            for warning in reading.warnings:
                warned.setdefault(warning, []).append(name)
            files += reading.files
            kept.append(row)
            family, site = (self._group(row[1].get(column, "")) for column in (c.family, c.site))
            subjects.append(Subject(name=name, graph=reading.graph, family=family, site=site))
        for warning, whose in warned.items():
            more = f" and {len(whose) - 1} more" if len(whose) > 1 else ""
            warnings.append(f"{whose[0]}{more}: {warning}")
        return subjects, kept, files, warnings

    @staticmethod
    def _group(text: str) -> str:
        return "" if text.lower() in MISSING else text

    def _target(self, path: Path, name: str, rows: Sequence[Row]) -> tuple[Target, NDArray[np.float64]]:
        """A column as a target and its values."""
        c = self.config
        cells = [row[name] for _, row in rows]
        known = [cell for cell in cells if cell.lower() not in MISSING]
        numbers = all(_is_number(cell) for cell in known)
        if name in c.numeric or (name not in c.categorical and numbers and not _codes(known)):
            return Target(name=name), np.array([self._number(path, name, row) for row in rows])
        classes = tuple(sorted(set(known)))
        if len(classes) > MOST_CLASSES:
            odd = next(((line, row[name]) for line, row in rows if row[name] in known and not _is_number(row[name])))
            raise InputError(
                f"{path}: {name} has {len(classes)} different values; as numbers they cannot be read (line {odd[0]}: "
                f"{odd[1]!r}), as classes at most {MOST_CLASSES} make sense"
            )
        if known and len(classes) < 2:
            raise InputError(f"{path}: {name} is {known[0]!r} for all subjects that have it; nothing to tell apart")
        index = {label: float(k) for k, label in enumerate(classes)}
        return Target(name=name, classes=classes or ("",)), np.array([index.get(cell, np.nan) for cell in cells])

    @staticmethod
    def _number(path: Path, name: str, row: Row) -> float:
        line, cells = row
        if cells[name].lower() in MISSING:
            return float("nan")
        if not _is_number(cells[name]):
            raise InputError(f"{path}, line {line}: {name} is {cells[name]!r}, not a number; a missing one is n/a")
        value = float(cells[name])
        if not np.isfinite(value):
            raise InputError(f"{path}, line {line}: {name} is {cells[name]}, not a finite number; a missing one is n/a")
        return value


def _codes(cells: Sequence[str]) -> bool:
    """True for few different whole numbers, which are read as codes of classes."""
    different = {float(cell) for cell in cells}
    return len(different) < NUMERIC_FROM and all(value.is_integer() for value in different)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

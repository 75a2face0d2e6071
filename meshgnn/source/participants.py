"""Real subjects: a BIDS folder with participants.tsv and one surface folder `sub-*` for every subject."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.source.participant_table import TABLE, Row, group_of, number_of, participant_names, target_of
from meshgnn.source.plausible import check_size
from meshgnn.source.subjects import FEWEST, Subject, Subjects
from meshgnn.source.surface_folder import SurfaceFolder
from meshgnn.source.text_table import read_text_table


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
        names = participant_names(path, rows)
        subjects, kept, files, warnings = self._brains(path, names, rows)
        if len(kept) < FEWEST:
            raise InputError(
                f"{path}: {len(kept)} participant{'s' * (len(kept) != 1)} with a folder; at least {FEWEST} are needed "
                "to train and to test"
            )
        targets, values = [], []
        for name in c.targets:
            target, column = target_of(path, name, kept, c.categorical, c.numeric)
            targets.append(target)
            values.append(column)
        whole = [[number_of(path, name, row) for name in c.covariates] for row in kept]
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
            family, site = (group_of(row, column) for column in (c.family, c.site))
            subjects.append(Subject(name=name, graph=reading.graph, family=family, site=site))
        for warning, whose in warned.items():
            more = f" and {len(whose) - 1} more" if len(whose) > 1 else ""
            warnings.append(f"{whose[0]}{more}: {warning}")
        return subjects, kept, files, warnings

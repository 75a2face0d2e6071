"""Columns of a table as items [P]: numbers standardised, categories one-hot, both by training subjects."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.subject_data.joining import Keep, joined, training_rows, wanted
from meshgnn.config import Config as BaseConfig
from meshgnn.data.design import Design, Unseen
from meshgnn.errors import InputError, SettingError
from meshgnn.source.participant_table import TABLE, Participants, columns_of, is_number, participant_names
from meshgnn.source.text_table import read_text_table
from meshgnn.store import content_hash, read_json


class SubjectTable:
    """Items [P] float32 of subjects who stand in a table with at least one value; a `meshgnn.sockets.SubjectData`.

    Against leaks, the columns that share the target's domain (hba1c beside HDL, ...) are dropped together with the
    target itself. A column's domain stands in the JSON file beside the table ("Domain") or in the settings.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            path: of a TSV or CSV file with a column participant_id; or of a folder with participants.tsv.
            columns: to take; all if none are named.
            drop: columns not to take (families, sites, scanners).
            categorical: columns whose numbers are codes of categories.
            targets: what is to be predicted: never taken, and with their whole domains.
            domains: COLUMN=DOMAIN, in addition to the JSON file.
            blocks: domains whose columns are taken; all if none are named.
            unseen: what to do about a category that no training subject has: error, or other (the average).
            keep: who must not be parted: subjects of one family, or of one site.
        """

        path: Path = Path()
        columns: tuple[str, ...] = ()
        drop: tuple[str, ...] = ("family_id", "site")
        categorical: tuple[str, ...] = ()
        targets: tuple[str, ...] = ()
        domains: tuple[str, ...] = ()
        blocks: tuple[str, ...] = ()
        unseen: Unseen = "error"
        keep: Keep = "family"

        def __post_init__(self) -> None:
            if wrong := [one for one in self.domains if not all(one.partition("="))]:
                raise SettingError(f"<domains> holds {wrong[0]!r}; COLUMN=DOMAIN is needed")

        def build(self, participants: Participants, train: NDArray[np.bool_]) -> "SubjectTable":
            """Raises InputError when the table, a column or all (training) participants are missing."""
            return SubjectTable(self, participants, train)

        def with_domains(self, domains: tuple[str, ...], blocks: tuple[str, ...]) -> "SubjectTable.Config":
            """The same with these COLUMN=DOMAIN as well, what it names itself going first, and these blocks alone."""
            return replace(self, domains=(*domains, *self.domains), blocks=blocks)

        @property
        def table(self) -> Path:
            return self.path / TABLE if self.path.is_dir() else self.path

        def files(self) -> tuple[Path, ...]:
            beside = self.table.with_suffix(".json")
            return (self.table, *((beside,) if beside.is_file() else ()))

        def item_format(self) -> dict[str, Any]:
            return {"table": self.table.stem, "columns": list(self.columns), "targets": list(self.targets)}

    def __init__(self, config: Config, participants: Participants, train: NDArray[np.bool_]) -> None:
        self.config, path = config, config.table
        names, rows = read_text_table(path, ["participant_id", *config.columns])
        about = column_notes(path)
        self.domains = {name: str(about[name]["Domain"]) for name in names if about.get(name, {}).get("Domain")}
        self.domains |= dict(one.split("=", 1) for one in config.domains)
        known = {target: self.domains.get(target) for target in config.targets}
        self.left_out = tuple(
            name for name in names
            if name in config.targets or (self.domains.get(name) and self.domains[name] in known.values())
        )  # fmt: skip
        if inside := [name for name in config.targets if name in config.columns]:
            raise SettingError(f"<columns> names {inside[0]!r}, which is a target: it would be given away")
        chosen = [
            name
            for name in config.columns or names
            if name != "participant_id" and name and name not in (*self.left_out, *config.drop)
            and (not config.blocks or self.domains.get(name) in config.blocks)
        ]  # fmt: skip
        if not chosen:
            of = f" of the domains {', '.join(config.blocks)}" if config.blocks else ""
            raise InputError(f"{path}: no column{of} is left besides targets, their domains and what is dropped")
        place = joined(participants, participant_names(path, rows), str(path))
        cells = columns_of(rows, chosen)
        table = {name: [cells[name][row] if row >= 0 else "" for row in place.tolist()] for name in chosen}
        self.observed = np.array([any(table[name][k] for name in chosen) for k in range(len(place))])
        self.groups = participants.group_numbers(config.keep)
        learnt = np.zeros(len(place), bool)
        learnt[training_rows(participants, train, self.observed)] = True
        empty = [name for name in chosen if not any(cell for cell, mine in zip(table[name], learnt) if mine)]
        table = {name: table[name] for name in chosen if name not in empty}
        if not table:
            raise InputError(f"{path}: no training subject has a value in any of the columns {', '.join(chosen)}")
        categorical = [
            name for name in table
            if name in config.categorical or about.get(name, {}).get("Levels")
            or not all(is_number(cell) for cell, mine in zip(table[name], learnt) if mine and cell)
        ]  # fmt: skip
        self.design = Design.fit(table, categorical, learnt, unseen=config.unseen)
        self._values = np.zeros((len(place), len(self.design.names)), np.float32)
        self.observed = np.array([any(cells) for cells in zip(*table.values())])  # empty columns tell nothing
        there = np.flatnonzero(self.observed).tolist()
        self._values[there] = self.design.apply({name: [table[name][k] for k in there] for name in table})

    @property
    def names(self) -> tuple[str, ...]:
        """P names of the columns of an item."""
        return self.design.names

    @property
    def shape(self) -> tuple[int, ...]:
        return self._values.shape[1:]

    def read(self, subjects: NDArray[np.integer]) -> NDArray[np.float32]:
        return self._values[wanted(subjects, self.observed, "row in the table")]

    def key(self) -> str:
        values = [self._values.tobytes().hex(), self.observed.tolist(), self.groups.tolist()]
        return content_hash(self.design.plain(), *values)


def column_notes(table: Path) -> Mapping[str, Mapping[str, Any]]:
    """What the JSON file beside a BIDS table says of its columns; nothing if there is none.

    Raises:
        InputError: the file is not JSON.
    """
    path = table.with_suffix(".json")
    about = read_json(path) if path.is_file() else {}
    return {name: own for name, own in about.items() if isinstance(own, dict)} if isinstance(about, dict) else {}

"""Tables on disk as features: what `features.extract` wrote, or a text table with a row per node or per brain."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.graph import FeatureTable
from meshgnn.progress import Progress
from meshgnn.sockets import Brain
from meshgnn.source.text_table import read_text_table
from meshgnn.store import load_table

BRAIN = "brain"


class StoredTable:
    """Reads a table; a `meshgnn.sockets.FeatureMaker` that learns nothing.

    A text table (CSV, TSV) has one column per feature. With a column `brain` it holds one row for each of many brains,
    and the row of this brain stands for each of its nodes; without, one row per node in the order of the mesh, left
    hemisphere first. Empty cells and `nan` mean that the row is not known.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            path: TABLE.safetensors (with TABLE.json beside it), or a text table; if empty, a table that the brain
                brings (`Brain.tables`).
            name: of the table; the file's name without its ending if empty.
        """

        path: Path = Path()
        name: str = ""

        def build(self) -> "StoredTable":
            return StoredTable(self)

    def __init__(self, config: Config) -> None:
        self.config, self.name = config, config.name or config.path.stem or "table"

    def inputs(self, brain: Brain) -> Sequence[Path]:
        """Raises InputError when there is no such file or table, or it does not fit the brain."""
        path = self.config.path
        if path == Path():
            self._read(brain)
            return []
        if not path.is_file():
            raise SettingError(f"<path>={path}: is no file; name the table")
        self._read(brain)
        return [path, path.with_suffix(".json")] if path.suffix == ".safetensors" else [path]

    def fit(self, brains: Sequence[Brain], folder: Path, progress: Progress) -> list[str]:
        return []

    def make(self, brain: Brain, folder: Path, progress: Progress) -> FeatureTable:
        """[V, C], or [1, C] of a table with a row per brain."""
        return self._read(brain)

    def _read(self, brain: Brain) -> FeatureTable:
        path, graph = self.config.path, brain.graph
        if path == Path():
            if self.name not in brain.tables:
                there = ", ".join(brain.tables) or "none"
                raise SettingError(f"{graph.brain}: has no table {self.name!r}, it has {there}; name one by <name>")
            return replace(brain.tables[self.name], name=self.name)
        stored = path.suffix == ".safetensors"
        table = replace(load_table(path), name=self.name) if stored else self._text(brain)
        if len(table.values) not in (1, graph.n_nodes):
            raise InputError(f"{path}: {len(table.values)} rows for the {graph.n_nodes} nodes of {graph.brain}")
        return table

    def _text(self, brain: Brain) -> FeatureTable:
        path = self.config.path
        names, rows = read_text_table(path, ())
        if BRAIN in names:
            rows = [(line, row) for line, row in rows if row[BRAIN] == brain.graph.brain]
            if len(rows) != 1:
                raise InputError(f"{path}: {len(rows)} rows of brain {brain.graph.brain!r}; exactly one is needed")
        columns = tuple(name for name in names if name != BRAIN)
        values = np.zeros((len(rows), len(columns)), np.float32)
        for k, (line, row) in enumerate(rows):
            for j, name in enumerate(columns):
                try:
                    values[k, j] = float(row[name] or "nan")
                except ValueError:
                    raise InputError(f"{path}, line {line}: {name}={row[name]!r} is not a number") from None
        mask = np.isfinite(values).all(axis=1).reshape(len(values))
        return FeatureTable(name=self.name, values=np.where(mask[:, None], values, 0), mask=mask, columns=columns)

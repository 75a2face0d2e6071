"""Confound regression: what is left of values without site, sex, age, ...; fitted on training subjects alone.

G subjects, T columns of values, P columns of the design.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import Config as BaseConfig
from meshgnn.data.design import Design, Missing, Unseen
from meshgnn.errors import InputError, SettingError
from meshgnn.mesh.record import frozen
from meshgnn.store import FORMAT, read_json, write_json

RECORD = "Residualizer"


@dataclass(frozen=True, kw_only=True, eq=False)
class Residualizer:
    """A fitted regression on confounds: residual = value - intercept - design @ coefficients.

    Least squares, or ridge with the intercept left unpenalised. Without a penalty, residuals of the training subjects
    have mean 0 and are orthogonal to every column of the design.

    Args:
        design: how confounds become numbers.
        coefficients: [P, T]
        intercept: [T]
        centre: [P] mean of the design over the training subjects.
        ridge: penalty that it was fitted with.
        subjects: how many it was fitted on.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            confounds: columns to take out.
            categorical: those of them that are categories (one-hot); the others are numbers.
            ridge: penalty of the squared coefficients of the standardised design; 0 is least squares.
            unseen: what to do about a category that no training subject has (a new site): error, or other, which takes
                it as the average training subject.
            missing: what to do about a missing confound: error, or fill (the average, and a column that says so).
        """

        confounds: tuple[str, ...] = ()
        categorical: tuple[str, ...] = ()
        ridge: float = 0.0
        unseen: Unseen = "error"
        missing: Missing = "error"

        def __post_init__(self) -> None:
            if self.ridge < 0:
                raise SettingError("<ridge> must not be negative")
            if wrong := [name for name in self.categorical if name not in self.confounds]:
                raise SettingError(f"<categorical> names {wrong[0]!r}, which is not one of <confounds>")
            if len(set(self.confounds)) != len(self.confounds):
                raise SettingError("<confounds> names a column twice")

        def build(
            self, table: Mapping[str, Sequence[str]], values: NDArray[np.float64], train: NDArray[np.bool_]
        ) -> "Residualizer":
            """Fit; see `Residualizer.fit`."""
            return Residualizer.fit(self, table, values, train)

    design: Design
    coefficients: NDArray[np.float64]
    intercept: NDArray[np.float64]
    centre: NDArray[np.float64]
    ridge: float = 0.0
    subjects: int = 0

    def __post_init__(self) -> None:
        for name in ("coefficients", "intercept", "centre"):
            object.__setattr__(self, name, frozen(getattr(self, name), np.float64))
        width = len(self.design.names)
        if self.coefficients.shape != (width, len(self.intercept)) or self.centre.shape != (width,):
            raise InputError(f"coefficients {self.coefficients.shape} do not fit a design of {width} columns")

    @staticmethod
    def fit(
        config: Config, table: Mapping[str, Sequence[str]], values: NDArray[np.float64], train: NDArray[np.bool_]
    ) -> "Residualizer":
        """
        Args:
            table: cells [G] of every confound, "" where missing.
            values: [G, T], NaN where missing: such a subject does not count for that column.
            train: [G] bool; the others' rows are not looked at.

        Raises:
            InputError: a confound is not in the table, or a column has fewer than two known training values.
        """
        values, rows = np.asarray(values, np.float64), np.flatnonzero(train).tolist()
        if values.ndim != 2 or np.shape(train) != (len(values),):
            raise InputError(
                f"values [G, T] and training subjects [G] are needed, got {values.shape}, {np.shape(train)}"
            )
        absent = [name for name in config.confounds if name not in table]
        if absent:
            raise InputError(f"confound {absent[0]!r} is not in the table; it has {', '.join(table)}")
        chosen = {name: [table[name][row] for row in rows] for name in config.confounds}
        everyone = np.ones(len(rows), bool)
        design = Design.fit(chosen, config.categorical, everyone, unseen=config.unseen, missing=config.missing)
        x = design.apply(chosen) if config.confounds else np.zeros((len(rows), 0))
        coefficients, intercept = np.zeros((x.shape[1], values.shape[1])), np.zeros(values.shape[1])
        for column in range(values.shape[1]):
            y = values[rows, column]
            known = np.isfinite(y)
            if known.sum() < 2:
                raise InputError(f"column {column} of the values is known for {int(known.sum())} training subjects")
            mean = x[known].mean(0)
            a, b = x[known] - mean, y[known] - y[known].mean()
            if config.ridge:
                a = np.concatenate([a, np.sqrt(config.ridge) * np.eye(a.shape[1])])
                b = np.concatenate([b, np.zeros(a.shape[1])])
            if a.shape[1]:
                coefficients[:, column] = np.linalg.lstsq(a, b, rcond=1e-10)[0]
            intercept[column] = y[known].mean() - mean @ coefficients[:, column]
        centre = x.mean(0) if len(x) else np.zeros(x.shape[1])
        return Residualizer(
            design=design, coefficients=coefficients, intercept=intercept, centre=centre, ridge=config.ridge,
            subjects=len(rows),
        )  # fmt: skip

    def explained(self, table: Mapping[str, Sequence[str]]) -> NDArray[np.float64]:
        """[G, T] what the confounds of these subjects say. Raises InputError as `Design.apply`."""
        if not self.design.columns:
            count = len(next(iter(table.values()), ()))
            return np.tile(self.intercept, (count, 1))
        return self.design.apply(table) @ self.coefficients + self.intercept

    def apply(self, table: Mapping[str, Sequence[str]], values: NDArray[np.float64]) -> NDArray[np.float64]:
        """[G, T] residuals; NaN where a value is missing."""
        return np.asarray(values, np.float64) - self.explained(table)

    def restore(self, table: Mapping[str, Sequence[str]], residuals: NDArray[np.float64]) -> NDArray[np.float64]:
        """[G, T] values again: the inverse of `apply`."""
        return np.asarray(residuals, np.float64) + self.explained(table)

    def save(self, path: Path) -> None:
        """As JSON, every number to the last bit."""
        about = {
            "format": FORMAT,
            "record": RECORD,
            "design": self.design.plain(),
            "names": list(self.design.names),
            "coefficients": self.coefficients,
            "intercept": self.intercept,
            "centre": self.centre,
            "ridge": self.ridge,
            "subjects": self.subjects,
        }
        write_json(path, about)

    @staticmethod
    def load(path: Path) -> "Residualizer":
        """Raises InputError when the file is missing, damaged or of another kind."""
        about = read_json(path)
        if not isinstance(about, dict) or about.get("record") != RECORD or about.get("format") != FORMAT:
            raise InputError(f"{path}: not a stored regression of format {FORMAT}")
        try:
            intercept = np.array(about["intercept"], np.float64)
            return Residualizer(
                design=Design.of_plain(about["design"], str(path)),
                coefficients=np.array(about["coefficients"], np.float64).reshape(-1, len(intercept)),
                intercept=intercept,
                centre=np.array(about["centre"], np.float64),
                ridge=float(about["ridge"]),
                subjects=int(about["subjects"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: is damaged ({error})") from None

"""Columns of a table as numbers: standardised numbers, one-hot categories, both as training subjects have them.

G subjects, P columns of the design.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError, SettingError

Unseen = Literal["error", "other"]
Missing = Literal["error", "fill"]


@dataclass(frozen=True, kw_only=True)
class NumberColumn:
    """
    Args:
        name: of the column.
        mean, sd: of the training subjects who have it.
        gaps: some training subject lacks it.
    """

    name: str
    mean: float
    sd: float
    gaps: bool


@dataclass(frozen=True, kw_only=True)
class CategoryColumn:
    """
    Args:
        name: of the column.
        categories: of the training subjects, sorted.
        shares: of these among the training subjects who have one.
        gaps: some training subject lacks it.
    """

    name: str
    categories: tuple[str, ...]
    shares: tuple[float, ...]
    gaps: bool


@dataclass(frozen=True, kw_only=True)
class Design:
    """Turns columns of text into numbers, always in the way that training subjects decided.

    A missing number becomes the mean, that is 0; a missing category, and one that no training subject has, the training
    subjects' shares, that is their average. Where training subjects miss values, a column of its own says so.

    Args:
        columns: in order.
        unseen: what to do about a category that no training subject has: error, or other (their average).
        missing: what to do about a missing value: error, or fill.
    """

    columns: tuple[NumberColumn | CategoryColumn, ...]
    unseen: Unseen = "error"
    missing: Missing = "fill"

    @staticmethod
    def fit(
        table: Mapping[str, Sequence[str]], categorical: Sequence[str], train: NDArray[np.bool_],
        *, unseen: Unseen = "error", missing: Missing = "fill",
    ) -> "Design":  # fmt: skip
        """
        Args:
            table: cells [G] by column, "" where missing.
            categorical: which columns are categories; the others are numbers.
            train: [G] the subjects to learn from.

        Raises:
            InputError: a number that is none, a column that no training subject has, or a gap where none may be.
        """
        columns: list[NumberColumn | CategoryColumn] = []
        for name, cells in table.items():
            known = [cell for cell, inside in zip(cells, train) if inside and cell]
            if not known:
                raise InputError(f"column {name!r} is missing for all training subjects; leave it out")
            gaps = len(known) < int(np.sum(train))
            if name in categorical:
                found = sorted(set(known))
                shares = tuple(known.count(one) / len(known) for one in found)
                columns.append(CategoryColumn(name=name, categories=tuple(found), shares=shares, gaps=gaps))
            else:
                numbers = np.array([_number(name, cell) for cell in known])
                sd = float(numbers.std())
                alike = not sd > 1e-9 * max(1.0, float(np.abs(numbers).max()))
                columns.append(NumberColumn(name=name, mean=float(numbers.mean()), sd=1.0 if alike else sd, gaps=gaps))
        return Design(columns=tuple(columns), unseen=unseen, missing=missing)

    @property
    def names(self) -> tuple[str, ...]:
        """P names of the columns that `apply` makes."""
        found: list[str] = []
        for column in self.columns:
            if isinstance(column, CategoryColumn):
                found += [f"{column.name}={one}" for one in column.categories]
            else:
                found.append(column.name)
            found += [f"{column.name}=missing"] if column.gaps and self.missing == "fill" else []
        return tuple(found)

    def apply(self, table: Mapping[str, Sequence[str]]) -> NDArray[np.float64]:
        """[G, P]

        Raises:
            InputError: a column is not there, a gap or an unseen category where none may be, a number that is none.
        """
        parts = []
        for column in self.columns:
            if column.name not in table:
                raise InputError(f"column {column.name!r} is missing; these were there: {', '.join(table)}")
            cells = table[column.name]
            there = np.array([bool(cell) for cell in cells], bool)
            if self.missing == "error" and not there.all():
                raise InputError(
                    f"column {column.name!r} is missing for {int((~there).sum())} subjects; fill it in, or set "
                    "missing=fill"
                )
            if isinstance(column, CategoryColumn):
                parts.append(self._one_hot(column, cells))
            else:
                numbers = [_number(column.name, cell) if cell else column.mean for cell in cells]
                parts.append((np.array(numbers)[:, None] - column.mean) / column.sd)
            if column.gaps and self.missing == "fill":
                parts.append((~there)[:, None].astype(np.float64))
        return np.concatenate(parts, axis=1) if parts else np.zeros((0, 0))

    def _one_hot(self, column: CategoryColumn, cells: Sequence[str]) -> NDArray[np.float64]:
        place = {one: k for k, one in enumerate(column.categories)}
        unknown = sorted({cell for cell in cells if cell and cell not in place})
        if unknown and self.unseen == "error":
            raise SettingError(
                f"column {column.name!r}: no training subject has {unknown[0]!r}; set <unseen>=other to take such "
                "subjects as the average of the training subjects"
            )
        rows = np.tile(np.array(column.shares), (len(cells), 1))
        for row, cell in enumerate(cells):
            if cell in place:
                rows[row] = np.eye(len(place))[place[cell]]
        return rows

    def plain(self) -> dict[str, Any]:
        """JSON-ready; `of_plain` reads it."""
        rows = []
        for column in self.columns:
            own: dict[str, Any] = {"name": column.name, "gaps": column.gaps}
            if isinstance(column, CategoryColumn):
                own |= {"categories": list(column.categories), "shares": list(column.shares)}
            else:
                own |= {"mean": column.mean, "sd": column.sd}
            rows.append(own)
        return {"columns": rows, "unseen": self.unseen, "missing": self.missing}

    @staticmethod
    def of_plain(plain: Any, where: str) -> "Design":
        """Raises InputError when the data are not those of `plain`."""
        try:
            columns = tuple(
                CategoryColumn(
                    name=str(row["name"]), categories=tuple(map(str, row["categories"])),
                    shares=tuple(map(float, row["shares"])), gaps=bool(row["gaps"]),
                )
                if "categories" in row
                else NumberColumn(
                    name=str(row["name"]), mean=float(row["mean"]), sd=float(row["sd"]), gaps=bool(row["gaps"])
                )
                for row in plain["columns"]
            )  # fmt: skip
            unseen, missing = plain["unseen"], plain["missing"]
            if unseen not in ("error", "other") or missing not in ("error", "fill"):
                raise ValueError(unseen, missing)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{where}: is not a stored design ({error})") from None
        return Design(columns=columns, unseen=unseen, missing=missing)


def _number(name: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise InputError(f"column {name!r}: {cell!r} is not a finite number; name it as categorical, or mend it")
    return value

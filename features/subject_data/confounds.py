"""Nuisance regressors of a run, by name, from the table beside it; and their removal with band-pass by nilearn."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from features.subject_data.nifti import ENDINGS, BadVolume
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.source.participant_table import MISSING, is_number
from meshgnn.source.text_table import read_text_table

ENTITIES = ("sub", "ses", "task", "acq", "ce", "dir", "rec", "run", "echo")  # what a run and its table have in common
BLOCK = 20_000  # voxels that are filtered at a time
F = TypeVar("F", np.float32, np.float64)


@dataclass(frozen=True, kw_only=True)
class Cleaning(BaseConfig):
    """
    Args:
        detrend: take the linear trend out of every voxel or region.
        high_pass_hz, low_pass_hz: edges of a band-pass filter; 0 for none.
        confounds: columns of the table of confounds that are regressed out: trans_x, ...
        table: end of that table's name, beside the run.
    """

    detrend: bool = False
    high_pass_hz: float = 0.0
    low_pass_hz: float = 0.0
    confounds: tuple[str, ...] = ()
    table: str = "desc-confounds_timeseries"

    def __post_init__(self) -> None:
        if min(self.high_pass_hz, self.low_pass_hz) < 0:
            raise SettingError("<high_pass_hz> and <low_pass_hz> must not be negative")
        if 0 < self.low_pass_hz <= self.high_pass_hz:
            raise SettingError("<high_pass_hz> must lie below <low_pass_hz>: what is between them is kept")
        if any(sign in self.table for sign in "/\\*?["):
            raise SettingError("<table> is the end of a file's name, without / and wildcards")

    @property
    def cleans(self) -> bool:
        """Whether anything is asked for."""
        return bool(self.detrend or self.high_pass_hz or self.low_pass_hz or self.confounds)

    def cleaning(self) -> dict[str, Any]:
        """What is asked for, to tell items apart; empty for nothing."""
        names = [field.name for field in fields(Cleaning)] if self.cleans else []
        return {name: getattr(self, name) for name in names}

    def table_of(self, run: Path) -> Path | None:
        """The table of confounds beside a run; None if nothing of it is asked for. Raises BadVolume if it is lost."""
        return confounds_beside(run, self.table) if self.confounds else None

    def nuisance(self, table: Path | None, frames: int, drop: int) -> NDArray[np.float64] | None:
        """[frames - drop, C] of a table with a row for each of `frames`. Raises BadVolume, see `read_confounds`."""
        return None if table is None else read_confounds(table, self.confounds, frames)[drop:]

    def of(self, series: NDArray[F], confounds: NDArray[np.float64] | None, tr_s: float) -> NDArray[F]:
        """The series [T, V] after `cleaned`, or as they are where nothing is asked for. Raises BadVolume."""
        if not self.cleans:
            return series
        return cleaned(
            series, confounds, tr_s=tr_s, detrend=self.detrend, low_pass_hz=self.low_pass_hz,
            high_pass_hz=self.high_pass_hz,
        )  # fmt: skip


def entities_of(path: Path) -> dict[str, str]:
    """`sub-01_task-rest_bold.nii.gz` -> {"sub": "01", "task": "rest"}."""
    pairs = (part.partition("-") for part in path.name.split(".")[0].split("_"))
    return {key: value for key, dash, value in pairs if dash}


def confounds_beside(image: Path, ending: str) -> Path:
    """The table `*_ENDING.tsv` of a run.

    Raises:
        BadVolume: none, or several.
    """
    own = entities_of(image)
    found = [
        path
        for path in sorted(image.parent.glob(f"*_{ending}.tsv"))
        if all(entities_of(path).get(key) == own.get(key) for key in ENTITIES)
    ]
    if len(found) != 1:
        raise BadVolume("no_confounds", f"{image}: {len(found)} tables *_{ending}.tsv beside it; exactly one is needed")
    return found[0]


def read_confounds(path: Path, columns: Sequence[str], frames: int) -> NDArray[np.float64]:
    """[frames, columns] of a table with one row per frame.

    The first row of a temporal derivative has no value (n/a): it takes that of the second.

    Raises:
        BadVolume: no such column, another number of rows, a cell that is no number.
    """
    try:
        _, rows = read_text_table(path, list(columns))
    except InputError as error:
        raise BadVolume("bad_confounds", str(error)) from None
    if len(rows) != frames:
        raise BadVolume("bad_confounds", f"{path}: has {len(rows)} rows, the run has {frames} frames")
    out = np.empty((frames, len(columns)))
    for k, (line, row) in enumerate(rows):
        for column, name in enumerate(columns):
            cell = row[name]
            if k == 0 and cell.lower() in MISSING and frames > 1:
                cell = rows[1][1][name]
            value = float(cell) if is_number(cell) else np.nan
            if not np.isfinite(value):
                raise BadVolume("bad_confounds", f"{path}, line {line}: {name} is {cell!r}, not a number")
            out[k, column] = value
    return out


def cleaned(
    series: NDArray[F],
    confounds: NDArray[np.float64] | None,
    *,
    tr_s: float,
    detrend: bool,
    low_pass_hz: float,
    high_pass_hz: float,
) -> NDArray[F]:
    """Series [T, V] without trend, without what lies outside the band, without confounds [T, C], in this order; every
    voxel keeps its mean. By `nilearn.signal.clean` (Butterworth filter; confounds are filtered alike, so that they are
    removed orthogonally to the band: Lindquist et al. 2019, doi:10.1002/hbm.24528).

    Args:
        low_pass_hz, high_pass_hz: edges of the band; 0 for none.

    Raises:
        BadVolume: too few frames for the filter, or an edge beyond half the sampling rate.
    """
    from nilearn.signal import butterworth, clean

    nyquist = 0.5 / tr_s
    if max(low_pass_hz, high_pass_hz) >= nyquist:
        text = f"frames every {tr_s:g} s hold frequencies below {nyquist:g} Hz; the band goes beyond"
        raise BadVolume("other_tr", text)

    def filtered(values: NDArray[np.float64]) -> NDArray[np.float64]:
        found = clean(values, detrend=detrend, standardize=None, filter=False, t_r=tr_s)
        if low_pass_hz or high_pass_hz:
            # All columns at once: `clean` itself filters one after another, 0.4 ms each.
            found = butterworth(found, 1 / tr_s, low_pass_hz or None, high_pass_hz or None, copy=True)
        return np.asarray(found)

    out = np.empty_like(series)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # voxels that do not change
            nuisance = None if confounds is None else filtered(confounds)
            for first in range(0, series.shape[1], BLOCK):
                part = series[:, first : first + BLOCK].astype(np.float64)
                mean = part.mean(0)
                found = filtered(part - mean)
                if nuisance is not None:
                    found = clean(
                        found, detrend=False, standardize=None, filter=False, confounds=nuisance, t_r=tr_s,
                    )  # fmt: skip
                out[:, first : first + BLOCK] = found - found.mean(0) + mean
    except ValueError as error:
        raise BadVolume("too_short", f"a run of {len(series)} frames cannot be filtered ({error})") from None
    return out


def sidecar(image: Path) -> Path:
    """The JSON file beside an image."""
    ending = next((one for one in ENDINGS if image.name.endswith(one)), image.suffix)
    return image.with_name(image.name.removesuffix(ending) + ".json")

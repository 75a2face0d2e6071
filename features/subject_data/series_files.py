"""Series of regions over time, one table of text per subject, read and judged."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from features.subject_data.bad_subjects import Policy
from features.subject_data.confounds import Cleaning
from features.subject_data.joining import Keep
from features.subject_data.nifti import BadVolume
from meshgnn.errors import InputError, SettingError
from meshgnn.mesh.record import frozen
from meshgnn.source.participant_table import MISSING, Participants, is_number
from meshgnn.store import read_json

MOST_BYTES = 1 << 28  # of one table of text
Header = Literal["auto", "yes", "no"]
Leave = Callable[[str, str, Path | str, str], None]  # name, reason, file, detail


@dataclass(frozen=True, kw_only=True)
class SeriesSource(Cleaning):
    """Cleaning is told in `features.subject_data.confounds.Cleaning`.

    Args:
        folder: holds the files.
        pattern: of each subject's file below it, {id} for sub-*: [T rows, R columns], with or without names of the
            regions as header, parted by tabs, commas or blanks. A .json of the same name may tell the TR
            (RepetitionTime).
        header: whether a file begins with names: auto takes a first row with a word in it for names.
        drop: first frames that are left out.
        same_tr: a series of another TR than most is bad; false keeps it.
        bad: leave subjects with a bad file out (they are named in `bad`), or refuse.
        keep: who must not be parted: subjects of one family, or of one site.
    """

    folder: Path = Path()
    pattern: str = "{id}/func/{id}_*atlas-*_timeseries.tsv"
    header: Header = "auto"
    drop: int = 0
    same_tr: bool = True
    bad: Policy = "leave_out"
    keep: Keep = "family"

    def __post_init__(self) -> None:
        super().__post_init__()
        if "{id}" not in self.pattern or ".." in self.pattern:
            raise SettingError("<pattern> needs {id}, which stands for sub-*, and no ..")
        if self.drop < 0:
            raise SettingError("<drop> must not be negative")

    def files(self) -> tuple[Path, ...]:
        found = sorted(self.folder.glob(self.pattern.replace("{id}", "sub-*")))
        beside = [told for path in found if (told := path.with_suffix(".json")).is_file()]
        for path in found:
            with suppress(BadVolume):
                beside += filter(None, [self.table_of(path)])
        return (*found, *beside)

    def read(self, path: Path) -> "Series":
        """The series of a file, cleaned as asked for.

        Raises:
            BadSeries: see `read_series`; no time between rows where frequencies are asked for.
            BadVolume: no table of confounds that fits, or a series too short for the filter.
        """
        series = read_series(path, self.drop, self.header)
        if not self.cleans:
            return series
        if not series.tr_s and (self.high_pass_hz or self.low_pass_hz):
            text = f"{path}: a band of frequencies needs the time between rows; give RepetitionTime in its .json"
            raise BadSeries("no_tr", text)
        nuisance = self.nuisance(self.table_of(path), len(series.values) + self.drop, self.drop)
        values = self.of(series.values, nuisance, series.tr_s or 1.0)
        return replace(series, values=frozen(values, np.float64))  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """
    Args:
        values: [T, R] finite, read-only.
        names: of the regions, () where the file has no header.
        tr_s: time between rows, 0 where nothing tells it.
    """

    values: NDArray[np.float64]
    names: tuple[str, ...]
    tr_s: float

    def standardised(self) -> NDArray[np.float64]:
        """[T, R] with mean 0 and standard deviation 1 over time; 0 for a region that does not change."""
        mean, spread = self.values.mean(0), self.values.std(0)
        changes = spread > 1e-9 * np.maximum(np.abs(mean), 1e-30)
        return np.asarray(np.where(changes, (self.values - mean) / np.where(changes, spread, 1), 0))


class BadSeries(InputError):
    """A file that holds no usable series; `reason` is the word for the table of bad subjects."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


def read_series(path: Path, drop: int = 0, header: Header = "auto") -> Series:
    """Series of one file.

    Args:
        drop: first rows that are left out.
        header: whether the first row holds names.

    Raises:
        BadSeries: not a table of numbers, fewer than two rows left or two columns, values that are not finite, none
            that changes.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadSeries("too_large", f"{path}: is larger than {MOST_BYTES >> 20} MiB")
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadSeries("unreadable", f"{path}: cannot be read as text ({error})") from None
    sign = next((sign for sign in "\t,;" if lines and sign in lines[0]), None)
    rows = [[cell.strip() for cell in line.split(sign)] for line in lines]
    named = bool(rows) and (_is_header(rows[0]) if header == "auto" else header == "yes")
    names, rows = (tuple(rows[0]), rows[1:]) if named else ((), rows)
    lengths = Counter(map(len, rows))
    if len(lengths) != 1 or (named and len(names) not in lengths):
        raise BadSeries("damaged", f"{path}: its rows have different numbers of cells; [T, R] are needed")
    try:
        values = np.array([[float(cell) if is_number(cell) else np.nan for cell in row] for row in rows])
    except ValueError:
        raise BadSeries("damaged", f"{path}: is not a table of numbers") from None
    wrong = ~np.isfinite(values)
    if wrong.any():
        line, column = np.argwhere(wrong)[0].tolist()
        text = f"{path}, row {line + 1}: column {column + 1} is {rows[line][column]!r}, not a finite number"
        raise BadSeries("not_finite", f"{text} ({int(wrong.sum())} such cells)")
    values = values[drop:]
    if len(values) < 2:
        raise BadSeries("too_short", f"{path}: has {len(rows)} rows; 2 after the first {drop} are needed")
    if values.shape[1] < 2:
        raise BadSeries("other_atlas", f"{path}: has one column; series of several regions are needed")
    if (values == values[0]).all():
        raise BadSeries("constant", f"{path}: no region changes over time")
    return Series(values=frozen(values, np.float64), names=names, tr_s=_tr_s(path))  # type: ignore[arg-type]


def _is_header(cells: list[str]) -> bool:
    """Whether the first row holds names. Areas may be called 4 or 24.1, and regions 1, 2, ..., R: it does where most
    cells are no numbers, or count the columns. One stray word among numbers is a damaged cell."""
    words = sum(not is_number(cell) and cell.lower() not in MISSING for cell in cells)
    return 2 * words > len(cells) or cells == [str(k + 1) for k in range(len(cells))]


def _tr_s(path: Path) -> float:
    """Of the JSON file beside; 0 without one."""
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return 0.0
    try:
        about = read_json(beside)
    except InputError as error:
        raise BadSeries("no_tr", str(error)) from None
    told = about.get("RepetitionTime") if isinstance(about, dict) else None
    if told is None:
        return 0.0
    if not isinstance(told, int | float) or not np.isfinite(told) or told <= 0:
        raise BadSeries("no_tr", f"{beside}: RepetitionTime is {told!r}, not a time in seconds")
    return float(told)


def read_cohort(source: SeriesSource, participants: Participants, leave: Leave) -> dict[str, Series]:
    """Series of all participants who have one, all of the regions and the TR that most have.

    Args:
        leave: called with (name, reason, file, detail) of everybody whose file cannot be used.
    """
    found: dict[str, Series] = {}
    places: dict[str, Path] = {}
    for name in participants.ids:
        paths = sorted(source.folder.glob(source.pattern.replace("{id}", name)))
        if len(paths) > 1:
            leave(name, "several_images", paths[0], f"several series ({', '.join(map(str, paths))}); narrow pattern")
        if len(paths) != 1:
            continue
        try:
            found[name], places[name] = source.read(paths[0]), paths[0]
        except (BadSeries, BadVolume) as error:
            leave(name, error.reason, paths[0], str(error))
    if not found:
        return found
    most = Counter(one.values.shape[1] for one in found.values()).most_common(1)[0][0]
    titles = Counter(one.names for one in found.values() if one.names and one.values.shape[1] == most).most_common(1)
    for name, one in list(found.items()):
        if one.values.shape[1] != most:
            detail = f"{places[name]}: has {one.values.shape[1]} regions, most have {most}"
        elif one.names and one.names != titles[0][0]:
            odd, usual = next((a, b) for a, b in zip(one.names, titles[0][0]) if a != b)
            detail = f"{places[name]}: has a region {odd!r} where most have {usual!r}; it is of another atlas"
        else:
            continue
        leave(name, "other_atlas", places[name], detail)
        del found[name]
    told = [round(one.tr_s, 3) for one in found.values() if one.tr_s]
    if source.same_tr and told:
        usual_s = Counter(told).most_common(1)[0][0]
        for name, one in list(found.items()):
            if one.tr_s and abs(one.tr_s - usual_s) > 0.001 * usual_s:
                detail = f"{places[name]}: a row every {one.tr_s:g} s, most have one every {usual_s:g} s"
                leave(name, "other_tr", places[name], detail)
                del found[name]
    return found

"""Small tables that people write, and those that we write for them: CSV in UTF-8, or with the separators and encodings
that spreadsheets export.

Spreadsheets run a text that begins with = + - @, a tab or a line break as a formula, whoever wrote it.
`write_text_table` puts an apostrophe before it (OWASP, CSV Injection), `read_text_table` takes it away again.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from meshgnn.errors import InputError
from meshgnn.store import written_aside

# Also with apostrophes before it, so that every text comes back; full-width signs are signs to some spreadsheets.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def safe_cell(value: Any) -> Any:
    """The same, or a text that no spreadsheet runs; numbers stay numbers, None is empty."""
    if value is None:
        return ""
    text = isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value)
    return f"'{value}" if text else value


def _said(cell: str) -> str:
    """What `safe_cell` was given."""
    cell = cell.strip(" ") if cell[:1] == "'" else cell.strip()
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell


def write_text_table(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """CSV in UTF-8 of rows, the header first. Raises OSError where it cannot be written."""
    with written_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([safe_cell(value) for value in row] for row in rows)


def read_text_table(path: Path, needed: Sequence[str]) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Columns, and the rows with their line numbers; cells without surrounding blanks, "" where missing.

    UTF-8 or UTF-16 (with byte order mark), else Windows-1252; parted by comma, semicolon or tab, whichever gives the
    header most of the columns `needed`, and then most columns. Empty rows are left out.

    Raises:
        InputError: not a table, a column of `needed` is missing, or a column stands twice.
    """
    remedy = "save it as CSV in UTF-8"
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            text = data.decode("utf-16")
        else:
            try:
                text = data.decode("utf-8-sig")
            except UnicodeDecodeError:
                text = data.decode("cp1252")
    except UnicodeDecodeError:
        raise InputError(f"{path}: cannot be read as text; {remedy}") from None
    if "\0" in text:
        raise InputError(f"{path}: cannot be read as text; {remedy}")
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{path}: the table is empty; it needs the columns {','.join(needed)}")

    def header(delimiter: str) -> list[str]:
        return [_said(cell) for cell in next(csv.reader([lines[0]], delimiter=delimiter))]

    try:
        delimiter = max(",;\t", key=lambda sign: (len(set(header(sign)) & set(needed)), len(header(sign))))
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        columns = header(delimiter)
        found = []
        for cells in rows:
            if any(cell.strip() for cell in cells):
                found.append((rows.line_num, {name: _said(cell) for name, cell in zip(columns, cells)}))
    except csv.Error as error:
        raise InputError(f"{path}: not a table ({error}); {remedy}") from None
    missing = [name for name in needed if name not in columns]
    if missing:
        raise InputError(f"{path}: column {missing[0]!r} is missing; it has {', '.join(columns)}")
    twice = [name for name in columns if name and columns.count(name) > 1]
    if twice:
        raise InputError(f"{path}: column {twice[0]!r} stands twice; keep one")
    full = [(line, {name: row.get(name, "") for name in columns}) for line, row in found[1:]]
    return columns, full

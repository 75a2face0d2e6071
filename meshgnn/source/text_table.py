"""Small tables that people write: CSV in UTF-8, or with the separators and encodings that spreadsheets export."""

import codecs
import csv
import io
from collections.abc import Sequence
from pathlib import Path

from meshgnn.errors import InputError


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
        return [cell.strip() for cell in next(csv.reader([lines[0]], delimiter=delimiter))]

    try:
        delimiter = max(",;\t", key=lambda sign: (len(set(header(sign)) & set(needed)), len(header(sign))))
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        columns = header(delimiter)
        found = []
        for cells in rows:
            if any(cell.strip() for cell in cells):
                found.append((rows.line_num, {name: cell.strip() for name, cell in zip(columns, cells)}))
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

"""The command line of `python -m reconstruct.sections`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from meshgnn.command import guarded
from meshgnn.errors import InputError
from meshgnn.keys import listed
from meshgnn.override import override
from meshgnn.progress import TerminalBars
from meshgnn.source.sections import TABLE
from meshgnn.store import write_text
from reconstruct.sections.listing import ListSections, table_text
from reconstruct.sections.page import page_text


def parser() -> argparse.ArgumentParser:
    make = argparse.ArgumentParser(
        prog="python -m reconstruct.sections",
        description="Make sections.csv from a folder of images, and a page on which to check it.",
        epilog="example: python -m reconstruct.sections scans --set spacing_mm=0.5\n\n" + listed(ListSections.Config()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    make.add_argument("folder", type=Path, metavar="DIR", help="folder with the images, one per section")
    make.add_argument("--out", type=Path, metavar="FILE", help=f"the table; {TABLE} in DIR if not given")
    make.add_argument("--force", action="store_true", help="replace a table that is there")
    make.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="see below")
    return make


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    settings = override(ListSections.Config(), options.settings)
    table: Path = options.out or options.folder / TABLE
    if table.is_dir():
        table = table / TABLE
    if table.exists() and not options.force:
        raise InputError(f"{table}: is there already; add --force to replace it, or name another place by --out")
    page = table.with_suffix(".html")
    rows, remarks = settings.build()(options.folder, TerminalBars())
    text = table_text(rows, table, settings)
    table.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, page_text(rows, remarks, text, str(options.folder), settings))
    write_text(table, text)
    for remark in remarks:
        print(f"note: {remark}")
    kept = sum(not row.error for row in rows)
    print(f"{table}: {kept} sections, {sum(row.usable for row in rows)} of them usable; look through {page}")
    return 0


def entry(arguments: Sequence[str] | None = None) -> int:
    """`main` with the exit codes of `meshgnn.command`."""
    return guarded(lambda: main(arguments))

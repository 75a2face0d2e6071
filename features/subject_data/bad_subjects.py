"""Subjects that cannot be used: who, why, and what the command does about them. None is lost silently."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from meshgnn.errors import InputError
from meshgnn.store import write_text

REPORT = "bad_subjects.tsv"
Policy = Literal["leave_out", "refuse"]


@dataclass(frozen=True, kw_only=True, order=True)
class BadSubject:
    """
    Args:
        name: of the subject.
        reason: one word: no_image, no_row, several_images, duplicate_row, duplicate_image, four_dimensional,
            three_dimensional, not_a_volume, not_finite, all_zero, constant, damaged, unreadable, too_large, no_affine,
            other_size, outside_grid, no_mask, empty_mask; of runs and series also other_tr, no_tr, too_short,
            no_confounds, bad_confounds, other_atlas.
        file: that it lies in; "" if in none.
        detail: the whole sentence.
    """

    name: str
    reason: str
    file: str = ""
    detail: str = ""


COLUMNS = ("participant_id", "reason", "file", "detail")


def write_report(path: Path, bad: list[BadSubject]) -> None:
    """A table of all of them; of its header alone when there are none."""
    _write(path, COLUMNS, [_cells(one) for one in sorted(bad)])


def write_item_report(path: Path, bad: Mapping[str, Sequence[BadSubject]]) -> None:
    """The same of several inputs, by the name of each."""
    _write(path, ("input", *COLUMNS), [(name, *_cells(one)) for name, own in bad.items() for one in own])


def _cells(one: BadSubject) -> tuple[str, ...]:
    return one.name, one.reason, one.file, " ".join(one.detail.split())


def _write(path: Path, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    text = io.StringIO()
    table = csv.writer(text, delimiter="\t", lineterminator="\n")
    table.writerow(columns)
    table.writerows(rows)
    write_text(path, text.getvalue())


def judge(path: Path, bad: list[BadSubject], policy: Policy) -> None:
    """Write the report; refuse if there is something in it and the policy says so.

    Raises:
        InputError: somebody is bad and `policy` is refuse.
    """
    write_report(path, bad)
    if bad and policy == "refuse":
        first = sorted(bad)[0]
        raise InputError(
            f"{counted(bad)}; the first is {first.name}: {first.detail or first.reason}. All are named in {path}; mend "
            "them, or leave them out with bad=leave_out"
        )


def counted(bad: list[BadSubject]) -> str:
    """ "3 bad subjects (2 no_image, 1 damaged)"."""
    counts = Counter(one.reason for one in bad)
    reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(counts.items()))
    people = len({one.name for one in bad})
    return f"{people} bad subject{'s' * (people != 1)} ({reasons})"

"""A split on disk, by names of subjects: the same parts for every model, whatever order a table is in tomorrow."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from meshgnn.data.subject_split import Cohort, SubjectPart, check_no_leak
from meshgnn.errors import InputError
from meshgnn.store import FORMAT, read_json, write_json

RECORD = "SubjectSplit"


def save_split(path: Path, subjects: Cohort, parts: Sequence[SubjectPart]) -> None:
    """As JSON: names of the training and of the test subjects of every division."""
    rows = [
        {
            "train": [subjects.ids[k] for k in np.flatnonzero(part.train)],
            "test": [subjects.ids[k] for k in np.flatnonzero(part.test)],
        }
        for part in parts
    ]
    write_json(path, {"format": FORMAT, "record": RECORD, "parts": rows})


def load_split(path: Path, subjects: Cohort, keep: Sequence[str] = ("family",)) -> list[SubjectPart]:
    """The divisions of these subjects; subjects joined by name.

    Args:
        path: of the file.
        subjects: exactly those that were split.
        keep: who must not be parted.

    Raises:
        InputError: not a stored split, or one of other subjects.
        LeakError: somebody trains and tests, or who must stay together was parted.
    """
    about = read_json(path)
    if not isinstance(about, dict) or about.get("record") != RECORD or about.get("format") != FORMAT:
        raise InputError(f"{path}: not a stored split of format {FORMAT}")
    place = {name: k for k, name in enumerate(subjects.ids)}
    found = []
    for number, row in enumerate(about.get("parts", []), 1):
        sides = []
        for side in ("train", "test"):
            names = row.get(side) if isinstance(row, dict) else None
            if not isinstance(names, list) or not names:
                raise InputError(f"{path}: division {number} names no subjects to {side}")
            stray = [name for name in names if name not in place]
            if stray:
                raise InputError(f"{path}: {stray[0]} is none of the {len(place)} subjects ({len(stray)} such)")
            mask = np.zeros(len(place), bool)
            mask[[place[name] for name in names]] = True
            sides.append(mask)
        forgotten = ~(sides[0] | sides[1])
        if forgotten.any():
            first = subjects.ids[int(np.flatnonzero(forgotten)[0])]
            raise InputError(f"{path}: says nothing of {first} ({int(forgotten.sum())} such)")
        part = SubjectPart(train=sides[0], test=sides[1])
        check_no_leak(subjects, part, keep)
        found.append(part)
    if not found:
        raise InputError(f"{path}: holds no division")
    return found

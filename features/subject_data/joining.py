"""Rows of some file and rows of a cohort, joined by id and never by order."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.source.participant_table import Participants

Keep = Literal["family", "site"]


def joined(participants: Participants, ids: Sequence[str], where: str) -> NDArray[np.int64]:
    """[G] row of every participant in what has these ids; -1 for one who is not in it.

    Args:
        participants: G of them.
        ids: of the rows of something, in its own order.
        where: it comes from, for errors.

    Raises:
        InputError: an id stands twice, or nobody is found.
    """
    twice = [name for name, times in Counter(ids).items() if times > 1]
    if twice:
        raise InputError(f"{where}: {twice[0]} stands twice; rows are joined by id, which must be unique")
    place = {name: row for row, name in enumerate(ids)}
    rows = np.array([place.get(name, -1) for name in participants.ids], np.int64)
    if not (rows >= 0).any():
        known = f"{ids[0]}, ..." if ids else "nobody"
        raise InputError(f"{where}: none of the participants is in it ({participants.ids[0]}, ... against {known})")
    return rows


def training_rows(
    participants: Participants, train: NDArray[np.bool_], observed: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Observed training subjects.

    Raises:
        InputError: `train` is not [G] bool, or none of them is observed.
    """
    if np.shape(train) != (len(participants),) or np.asarray(train).dtype != bool:
        raise InputError(f"training subjects must be [{len(participants)}] true or false, got {np.shape(train)}")
    rows = np.flatnonzero(np.asarray(train) & observed)
    if not len(rows):
        raise InputError("no training subject has these data; nothing can be standardised by them")
    return rows


def wanted(subjects: NDArray[np.integer], observed: NDArray[np.bool_], what: str) -> NDArray[np.int64]:
    """The numbers of subjects to read.

    Raises:
        InputError: one of them is not observed.
    """
    chosen = np.asarray(subjects, np.int64)
    absent = chosen[~observed[chosen]]
    if len(absent):
        raise InputError(f"subject {absent[0]} has no {what}; ask for observed subjects alone")
    return chosen

"""How the subjects of an experiment are divided, with the folds of every ensemble. G subjects."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshgnn.data.subject_split import Cohort, SubjectPart, SubjectSplit, inner_folds, leak_counts
from meshgnn.errors import InputError
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.store import write_json

LEAKAGE = "tables/leakage.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class Division:
    """One division of the subjects with the folds inside its training part.

    Args:
        part: who trains and who tests.
        validation: [seeds x folds, G] bool, seed after seed.
    """

    part: SubjectPart
    validation: NDArray[np.bool_]


def divided(subjects: Cohort, split: SubjectSplit.Config, folds: int, seeds: Sequence[int]) -> list[Division]:
    """Every division of the split.

    Raises:
        InputError, LeakError: the subjects cannot be divided so.
    """
    found = []
    for part in split.build().apply(subjects):
        by_seed = [inner_folds(subjects, part.train, folds, split.keep, seed) for seed in seeds]
        found.append(Division(part=part, validation=np.concatenate(by_seed)))
    return found


def check_members(subjects: Cohort, divisions: Sequence[Division]) -> None:
    """Raises InputError where a member would train on a target of one class or value, or of none."""
    for number, division in enumerate(divisions):
        for judged in division.validation:
            fit = division.part.train & ~judged
            for column, target in enumerate(subjects.targets):
                known = subjects.values[fit & np.isfinite(subjects.values[:, column]), column]
                if len(np.unique(known)) < 2:
                    raise InputError(
                        f"target {target.name!r}: a member of division {number + 1} would train on "
                        f"{'one class' if target.classes else 'one value'} or none; lower trainer.folds or "
                        "split.parts, or leave the target out"
                    )


def write_leaks(run: RunFolder, subjects: Cohort, parts: Sequence[SubjectPart]) -> str:
    """Count what training and test parts share, with a warning of sites; returns the file's name."""
    leakage = leak_counts(subjects, parts)
    if leakage["shared_sites"]:
        run.warn(
            f"training and test parts share {leakage['shared_sites']} sites: scores may rest on scanners; to keep "
            "sites apart: --set split.keep=family,site"
        )
    write_json(run / LEAKAGE, leakage)
    return LEAKAGE

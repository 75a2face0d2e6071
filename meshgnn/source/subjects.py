"""Subjects: brains with traits, and who belongs together. What every source of subjects yields.

G subjects, T targets, F features of a whole brain.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.graph import MeshGraph
from meshgnn.mesh.record import frozen

FEWEST = 4  # subjects: two to train on, one to validate, one to test


@dataclass(frozen=True, kw_only=True)
class Target:
    """A trait of subjects that is to be predicted.

    Args:
        name: of the trait.
        classes: names of the classes, sorted; empty for a number (regression).
    """

    name: str
    classes: tuple[str, ...] = ()

    @property
    def kind(self) -> Literal["classification", "regression"]:
        return "classification" if self.classes else "regression"


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """One subject.

    Args:
        name: unique in the cohort.
        graph: the brain; labels are the areas of a parcellation, if there is one.
        family: subjects of one family share it; "" for a subject without relatives.
        site: where the brain was scanned; "" where sites are not known.
    """

    name: str
    graph: MeshGraph
    family: str = ""
    site: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Subjects:
    """Subjects with their targets.

    Args:
        subjects: G of them.
        targets: T traits.
        values: [G, T] class numbers and numbers; NaN where a target is missing.
        covariates: names of F numbers that are known of whole brains and given to every model (head size, ...).
        whole: [G, F] these numbers; NaN where missing.
        files: every file they came from.
        warnings: one line each.

    Raises:
        InputError: too few subjects, a name twice, a brain twice, features that not all brains have, or a target that
            is missing everywhere, not finite, of one class only or the same number everywhere.
    """

    subjects: tuple[Subject, ...]
    targets: tuple[Target, ...]
    values: NDArray[np.float64]
    covariates: tuple[str, ...] = ()
    whole: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    files: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.subjects)
        if count < FEWEST:
            raise InputError(f"{count} subject{'s' * (count != 1)}: at least {FEWEST} are needed to train and to test")
        if not self.targets:
            raise InputError("no target to predict; name one or more")
        whole = np.zeros((count, 0)) if np.size(self.whole) == 0 else np.asarray(self.whole, np.float64)
        if np.shape(self.values) != (count, len(self.targets)) or whole.shape != (count, len(self.covariates)):
            raise InputError(
                f"{count} subjects with {len(self.targets)} targets, but values {np.shape(self.values)} and features "
                f"of whole brains {whole.shape}"
            )
        object.__setattr__(self, "values", frozen(self.values, np.float64))
        object.__setattr__(self, "whole", frozen(whole, np.float64))
        self._check_names()
        self._check_features()
        check_targets(self.ids, self.targets, self.values)

    def _check_names(self) -> None:
        counts = Counter(subject.name for subject in self.subjects)
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise InputError(f"participant {twice[0]!r} stands twice; give every subject an id of its own")
        seen: dict[str, str] = {}
        for subject in self.subjects:
            digest = brain_hash(subject.graph)
            if digest in seen:
                raise InputError(
                    f"{seen[digest]} and {subject.name} hold exactly the same brain; remove one of them, or tests "
                    "would be made on training data"
                )
            seen[digest] = subject.name
        if any(subject.site for subject in self.subjects):
            without = [subject.name for subject in self.subjects if not subject.site]
            if without:
                raise InputError(f"{without[0]} has no site, others have one; fill it in, or leave the column out")

    def _check_features(self) -> None:
        first = self.subjects[0]
        wanted = feature_names(first.graph)
        for subject in self.subjects:
            found = feature_names(subject.graph)
            for one, other, names, others in ((subject, first, wanted, found), (first, subject, found, wanted)):
                missing = [name for name in names if name not in others]
                if missing:
                    raise InputError(
                        f"{one.name} has no feature {missing[0]!r}, which {other.name} has; all subjects need the "
                        "same features: add it, or leave it out with --set inputs.exclude"
                    )

    def __len__(self) -> int:
        return len(self.subjects)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(subject.name for subject in self.subjects)

    @property
    def family(self) -> tuple[str, ...]:
        return tuple(subject.family for subject in self.subjects)

    @property
    def site(self) -> tuple[str, ...]:
        return tuple(subject.site for subject in self.subjects)

    @property
    def contents(self) -> tuple[str, ...]:
        """[G] hash of every brain; see `brain_hash`."""
        return tuple(brain_hash(subject.graph) for subject in self.subjects)

    def groups(self, kind: str) -> list[str]:
        """[G] the family or the site of every subject; one without is a group of its own."""
        if kind not in ("family", "site"):
            raise ValueError(f"subjects are grouped by family or site, not {kind!r}")
        return [getattr(subject, kind) or f"only {subject.name}" for subject in self.subjects]


def check_targets(ids: Sequence[str], targets: Sequence[Target], values: NDArray[np.float64]) -> None:
    """
    Args:
        ids: [G] names of subjects.
        targets: T traits.
        values: [G, T] class numbers and numbers; NaN where missing.

    Raises:
        InputError: a target that is missing everywhere, infinite, of one class only or the same number everywhere.
    """
    for target, column in zip(targets, values.T):
        if np.isinf(column).any():
            raise InputError(f"target {target.name!r} is infinite for {ids[int(np.flatnonzero(np.isinf(column))[0])]}")
        known = column[np.isfinite(column)]
        if not len(known):
            raise InputError(f"target {target.name!r} is missing for every subject; leave it out")
        if len(np.unique(known)) == 1:
            constant = target.classes[int(known[0])] if target.classes else f"{known[0]:g}"
            raise InputError(
                f"target {target.name!r} is {constant} for all {len(known)} subjects that have it; there is nothing to "
                "tell apart"
            )
        if target.classes and not np.isin(known, np.arange(len(target.classes))).all():
            raise InputError(f"target {target.name!r} holds numbers that are no class")


def feature_names(graph: MeshGraph) -> list[str]:
    """Names of all features of a brain, in order."""
    return [name for table in graph.tables.values() for name in table.columns]


def brain_hash(graph: MeshGraph) -> str:
    """Hash of the values of all features: two subjects with one hash are one brain under two names."""
    digest = sha256()
    for table in graph.tables.values():
        digest.update(table.values.tobytes())
    return digest.hexdigest()


def area_names(subjects: Subjects) -> tuple[str, ...]:
    """Names of the areas that every brain's parcellation has, sorted; empty without a common parcellation."""
    found: set[str] | None = None
    for subject in subjects.subjects:
        areas = subject.graph.areas.names
        here = {areas[k] for k in np.unique(subject.graph.labels).tolist() if k >= 0}
        found = here if found is None else found & here
    return tuple(sorted(found or ()))

"""Which networks a study of many inputs trains: every target with every combination of what may predict it.

The biobank study "Computational limits to the legibility of the human brain" (NeuroImage 2024,
10.1016/j.neuroimage.2024.120600) trained 700: 21 targets with 32 combinations each and 4 with 7. Domains are groups of
a table's columns (constitution, disease, ...); a target's own domain is never among its inputs.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeVar

from meshgnn.errors import SettingError

Kind = Literal["published", "full", "every"]
T = tuple[str, ...]
S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class Combination:
    """One network to train.

    Args:
        target: that it predicts.
        inputs: images and connectivity, in the order of the study.
        domains: of the table's columns that it gets; none for no table.
    """

    target: str
    inputs: T
    domains: T

    @property
    def name(self) -> str:
        """`<target>_<inputs>_<domains>` for a folder, as the study named its own."""
        parts = [self.target, "-".join((*self.inputs, *(["metadata"] if self.domains else []))), "-".join(self.domains)]
        return "_".join(re.sub(r"[^\w.-]", "-", part) for part in parts if part)


@dataclass(frozen=True, kw_only=True)
class Study:
    """What there is to combine.

    Args:
        targets: domain by target; "" for one of no domain.
        domains: of the table's columns, in order.
        inputs: images and connectivity, in order.
        together: inputs that are taken together or not at all; the others are taken one by one.
        always: the domain that every published network of another domain's targets gets.
    """

    targets: Mapping[str, str]
    domains: T = ()
    inputs: T = ()
    together: tuple[T, ...] = ()
    always: str = "constitutional"

    def __post_init__(self) -> None:
        """Raises SettingError for inputs that are taken together with some that are not there, or twice."""
        if not all(self.together):
            raise SettingError("<together> holds an empty list")
        joint = [name for part in self.together for name in part]
        if wrong := [name for name in joint if name not in self.inputs or joint.count(name) > 1]:
            raise SettingError(f"<together> names {wrong[0]!r}, which is not an input, or stands there twice")
        if len({*self.inputs}) < len(self.inputs) or len({*self.domains}) < len(self.domains):
            raise SettingError("<inputs> and <domains> must not name one twice")

    @property
    def parts(self) -> tuple[T, ...]:
        """What is taken or left out as one."""
        whole = {part[0]: part for part in self.together}
        later = {name for part in self.together for name in part[1:]}
        return tuple(whole.get(name, (name,)) for name in self.inputs if name not in later)


BIOBANK = Study(
    targets={
        **dict.fromkeys(("sex", "age", "weight", "handedness"), "constitutional"),
        **dict.fromkeys(("smoking", "hypertension", "atopy", "asthma", "body_fat"), "disease"),
        **dict.fromkeys(("Hb", "HDL", "hba1c", "LDL"), "serology"),
        **dict.fromkeys(
            (
                "mood_swings", "miserableness", "irritability", "sensitivity", "fed_up", "nervous", "anxious", "tense",
                "worry", "lonely", "guilty", "reaction_time",
            ),
            "psychology",
        ),
    },
    domains=("constitutional", "serology", "psychology", "disease"),
    inputs=("dwi", "flair", "t1", "connectivity"),
    together=(("flair", "t1"),),
)  # fmt: skip


def enumerate_runs(kind: Kind, study: Study = BIOBANK) -> tuple[Combination, ...]:
    """Every network of a study, each once, target by target.

    Args:
        kind: published: targets of the domain `always` from images and connectivity alone; all others also, or only,
            from the table, of which they always get that domain beside any others but their own (700 networks of the
            biobank study). full: for these others from images and connectivity alone, too, which were never trained
            there (847). every: whatever can be combined, own domains left out.
        study: what there is.
    """
    found = []
    for target, own in study.targets.items():
        for domains in _tables(kind, study, own):
            for chosen in _subsets(study.parts):
                inputs = tuple(name for name in study.inputs if any(name in part for part in chosen))
                if inputs or domains:
                    found.append(Combination(target=target, inputs=inputs, domains=domains))
    return tuple(found)


def without_own(domains: Sequence[str], own: str) -> T:
    """The domains that a target of the domain `own` may be told from."""
    return tuple(name for name in domains if name != own)


def _tables(kind: Kind, study: Study, own: str) -> list[T]:
    """Domains that the networks of a target of the domain `own` get, () for no table."""
    others = without_own(study.domains, own)
    if kind == "every":
        return [*_subsets(others)]
    if own == study.always:
        return [()]
    rest = tuple(name for name in others if name != study.always)
    first = (study.always,) if study.always in others else ()
    tables = [tuple(name for name in others if name in {*first, *more}) for more in _subsets(rest)]
    return tables if kind == "published" or () in tables else [(), *tables]


def _subsets(items: Sequence[S]) -> list[tuple[S, ...]]:
    """All of them, the smaller first, each in the order of the items."""
    return [chosen for size in range(len(items) + 1) for chosen in combinations(items, size)]

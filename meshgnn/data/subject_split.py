"""Which subjects train, test and validate: families and sites stay together, leaks are counted.

G subjects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, LeakError, SettingError
from meshgnn.source.participant_table import Participants
from meshgnn.source.subjects import Subjects

DEALS = 200
Cohort = Subjects | Participants  # with brains or without: the same names, families, sites and targets


@dataclass(frozen=True, kw_only=True, eq=False)
class SubjectPart:
    """One division of the subjects.

    Args:
        train, test: [G] bool, disjoint; together everybody.
    """

    train: NDArray[np.bool_]
    test: NDArray[np.bool_]


class SubjectSplit:
    """Deals groups of subjects that belong together to parts; each part is tested once, or only the first."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            parts: into how many parts subjects are dealt.
            cross: test every part once, on a model trained on the others (cross-validation); if false, test the first
                part only.
            keep: who must not be parted: subjects of one family, subjects of one site.
            alike: what every part should hold in the same shares as the cohort (stratification): site, where sites
                are not kept together.
            seed: of the deal.
        """

        parts: int = 3
        cross: bool = True
        keep: tuple[Literal["family", "site"], ...] = ("family", "site")
        alike: tuple[Literal["site"], ...] = ()
        seed: int = 0

        def __post_init__(self) -> None:
            if self.parts < 2 or self.seed < 0:
                raise SettingError("<parts> must be at least 2 and <seed> not negative")
            if both := set(self.keep) & set(self.alike):
                raise SettingError(f"<alike> names {sorted(both)[0]!r}, which <keep> does not part")

        def build(self) -> "SubjectSplit":
            return SubjectSplit(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def apply(self, subjects: Cohort) -> list[SubjectPart]:
        """
        Raises:
            InputError: too few groups, or a target that the training or the test part of a division lacks.
            LeakError: who must stay together was parted.
        """
        c = self.config
        group = joint_groups(subjects, c.keep)
        count = int(group.max()) + 1
        if count < c.parts:
            raise InputError(self._too_few(subjects, count))
        part = deal(group, c.parts, subjects, c.seed, alike=c.alike)
        found = []
        for number in range(c.parts if c.cross else 1):
            one = SubjectPart(train=part != number, test=part == number)
            check_no_leak(subjects, one, c.keep)
            found.append(one)
        self._check_targets(subjects, found)
        return found

    def _too_few(self, subjects: Cohort, count: int) -> str:
        """Why there are fewer groups than parts, and what to do."""
        parts, keep = self.config.parts, self.config.keep
        text = (
            f"subjects fall into {count} group{'s' * (count != 1)} that share no {' and no '.join(keep) or 'subject'}"
        )
        across = _across(subjects) if set(keep) == {"family", "site"} else ""
        if across:
            text += f" ({across})"
        if "site" in keep:
            remedy = "--set split.keep=family"
        else:
            remedy = f"--set split.parts={count}" if count > 1 else "add subjects of other families"
        return f"{text}; {parts} parts need at least {parts}: {remedy}"

    @staticmethod
    def _check_targets(subjects: Cohort, parts: Sequence[SubjectPart]) -> None:
        for number, part in enumerate(parts):
            for column, target in enumerate(subjects.targets):
                values = subjects.values[:, column]
                known = values[part.train & np.isfinite(values)]
                if len(np.unique(known)) < 2:
                    raise InputError(
                        f"target {target.name!r}: the training part of division {number + 1} of {len(parts)} holds "
                        f"{'one class' if target.classes else 'one value'} or none; use fewer parts (split.parts) or "
                        "another split.seed"
                    )
        tested = np.logical_or.reduce([part.test for part in parts])
        for column, target in enumerate(subjects.targets):
            known = subjects.values[tested & np.isfinite(subjects.values[:, column]), column]
            if len(np.unique(known)) < 2:
                alike = "one class" if target.classes else "one value"
                raise InputError(
                    f"target {target.name!r}: the subjects to test on hold {alike} or none; use another split.seed, or "
                    "split.cross=true"
                )


def _across(subjects: Cohort) -> str:
    """The first family that lives at several sites, in words; "" if there is none."""
    sites: dict[str, set[str]] = {}
    for own, place in zip(subjects.family, subjects.site):
        if own and place:
            sites.setdefault(own, set()).add(place)
    for family, where in sites.items():
        if len(where) > 1:
            return f"family {family} joins sites {', '.join(sorted(where))}"
    return ""


def joint_groups(subjects: Cohort, keep: Sequence[str]) -> NDArray[np.int64]:
    """[G] number of the group of every subject: whoever shares a family or a site, directly or through others."""
    count = len(subjects)
    rows, columns = [np.arange(count)], [np.arange(count)]
    for kind in keep:
        names = subjects.groups(kind)
        first = {name: names.index(name) for name in dict.fromkeys(names)}
        rows.append(np.arange(count))
        columns.append(np.array([first[name] for name in names]))
    joined = sparse.coo_array(
        (np.ones(sum(map(len, rows))), (np.concatenate(rows), np.concatenate(columns))), shape=(count, count)
    )
    return csgraph.connected_components(joined, directed=False)[1].astype(np.int64)


def deal(
    group: NDArray[np.int64], parts: int, subjects: Cohort, seed: int, alike: Sequence[str] = ()
) -> NDArray[np.int64]:
    """[G] part of every subject. Groups are dealt in random order to the part with fewest subjects; of many such deals
    the one counts in which the parts are most alike in size and in the known targets' means and counts.

    Args:
        group: [G] numbers from 0; -1 for subjects that are not dealt, which get part -1.
        alike: kinds of groups (site) whose shares should be the same in every part, too.
    """
    strata = [np.unique(subjects.groups(kind), return_inverse=True)[1] for kind in alike]
    sizes = np.bincount(group[group >= 0])
    numbers = np.unique(group[group >= 0])
    known = np.isfinite(subjects.values)
    known[group < 0] = False
    spread = np.nanstd(np.where(known, subjects.values, np.nan), axis=0)
    middle = np.nanmean(np.where(known, subjects.values, np.nan), axis=0)
    unit = np.where(known, (subjects.values - middle) / np.where(spread > 0, spread, 1), 0)
    rng = np.random.default_rng([seed, parts])
    best, best_cost = np.full(len(group), -1, np.int64), np.inf
    for _ in range(DEALS):
        order = rng.permutation(numbers)
        order = order[np.argsort(-sizes[order], kind="stable")]
        filled = np.zeros(parts)
        owner = np.full(len(sizes), -1)
        for one in order:
            owner[one] = int(filled.argmin())
            filled[owner[one]] += sizes[one]
        part = np.where(group >= 0, owner[group], -1)
        cost = (filled / filled.mean() - 1).var()
        for k in range(parts):
            here = part == k
            counts = known[here].sum(0)
            cost += ((unit[here].sum(0) / np.maximum(counts, 1)) ** 2).sum() + (counts == 0).sum()
            for stratum in strata:
                whole = np.bincount(stratum[group >= 0], minlength=int(stratum.max()) + 1) / (group >= 0).sum()
                share = np.bincount(stratum[here], minlength=len(whole)) / max(here.sum(), 1)
                cost += ((share - whole) ** 2).sum()
        if cost < best_cost:
            best, best_cost = part.astype(np.int64), cost
    return best


def inner_folds(
    subjects: Cohort, train: NDArray[np.bool_], count: int, keep: Sequence[str], seed: int
) -> NDArray[np.bool_]:
    """[count, G] validation subjects of each fold inside the training part.

    Groups stay together as in the split itself; where there are fewer groups than folds, families alone do.

    Raises:
        InputError: fewer families than folds.
    """
    for kept in (tuple(keep), tuple(one for one in keep if one == "family")):
        group = joint_groups(subjects, kept)
        inside = np.unique(group[train], return_inverse=True)[1]
        if len(np.unique(inside)) >= count:
            dealt = np.full(len(subjects), -1, np.int64)
            dealt[train] = inside
            part = deal(dealt, count, subjects, seed)
            return np.stack([part == k for k in range(count)])
    raise InputError(
        f"{int(train.sum())} training subjects fall into fewer groups than trainer.folds={count}; lower trainer.folds"
    )


def leak_counts(subjects: Cohort, parts: Sequence[SubjectPart]) -> dict[str, int]:
    """What training and test parts share, summed over the divisions: subjects (by name or by the very same brain),
    families and sites."""
    names = subjects.ids
    # One whose data are not known is like nobody else.
    brains = [digest or f"only {name}" for name, digest in zip(names, subjects.contents)]
    found = {"shared_subjects": 0, "shared_families": 0, "shared_sites": 0}
    for part in parts:
        for key, group in (("shared_families", "family"), ("shared_sites", "site")):
            own = subjects.groups(group)
            found[key] += len(_both(own, part))
        found["shared_subjects"] += max(len(_both(names, part)), len(_both(brains, part)))
    return found


def _both(names: Sequence[str], part: SubjectPart) -> set[str]:
    sides = [{name for name, chosen in zip(names, side) if chosen} for side in (part.train, part.test)]
    return sides[0] & sides[1]


def check_no_leak(subjects: Cohort, part: SubjectPart, keep: Sequence[str]) -> dict[str, int]:
    """`leak_counts` of one division, or LeakError if somebody who must stay together was parted."""
    counts = leak_counts(subjects, [part])
    forbidden = ["shared_subjects", *({"family": "shared_families", "site": "shared_sites"}[kind] for kind in keep)]
    wrong = [name for name in forbidden if counts[name]]
    if wrong:
        raise LeakError(f"the split leaks: {', '.join(f'{name} {counts[name]}' for name in wrong)}")
    return counts


def counted(subjects: Cohort) -> Mapping[str, int]:
    """How many families, sites and known targets there are, for the log."""
    known = np.isfinite(subjects.values).sum(0)
    return {
        "subjects": len(subjects),
        "families": len(set(subjects.groups("family"))),
        "sites": len({site for site in subjects.site if site}),
        **{target.name: int(count) for target, count in zip(subjects.targets, known)},
    }

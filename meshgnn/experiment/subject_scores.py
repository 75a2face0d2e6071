"""What metrics.json holds of a subject task: every target's scores beside baselines, chance and intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.data.subject_split import Cohort, SubjectPart, counted
from meshgnn.experiment.subject_divisions import Division
from meshgnn.experiment.training import MAIN
from meshgnn.results import Difference, SubjectCounts, SubjectMetrics, TargetScores, TraitRow, TraitScores
from meshgnn.train.target_scores import JUDGED_BY, chance_interval, differences, judged, mean_scores, resampled


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What one method says of all subjects.

    Args:
        sees: its inputs, in words.
        by_seed: [seed][target] probabilities [G, K] or numbers [G, 1]; NaN for subjects that were not tested.
        fits: how many fits one prediction averages.
    """

    sees: str
    by_seed: tuple[list[NDArray[np.float64]], ...]
    fits: int = 1

    def together(self) -> list[NDArray[np.float64]]:
        """Mean over seeds of every target."""
        return [np.mean(each, axis=0) for each in zip(*self.by_seed)]


def subject_metrics(
    subjects: Cohort, divisions: Sequence[Division], rows: Mapping[str, Prediction], leakage: Mapping[str, int],
    **about: Any,
) -> SubjectMetrics:  # fmt: skip
    """The record.

    Args:
        rows: by name; the network's own under "main".
        about: further fields of `SubjectMetrics`.
    """
    counts = counted(subjects)
    tester = np.full(len(subjects), -1)
    for number, one in enumerate(divisions):
        tester[one.part.test] = number
    tested = tester >= 0
    validated = np.mean([division.validation.sum(1).mean() for division in divisions])
    trained = np.mean([division.part.train.sum() for division in divisions]) - validated
    cross = f"{len(divisions)}-fold cross-validation" if len(divisions) > 1 else "one test part"
    names = ", ".join(target.name for target in subjects.targets)
    targets: dict[str, TargetScores] = {}
    families = np.array(subjects.groups("family"))
    for column, target in enumerate(subjects.targets):
        known = tested & np.isfinite(subjects.values[:, column])
        true = subjects.values[known, column]
        samples = resampled(families[known].tolist())
        votes = {name: [seed[column][known] for seed in row.by_seed] for name, row in rows.items()}
        division = tester[known]
        scored = {name: judged(target, true, own, division, samples) for name, own in votes.items()}
        ours = scored[MAIN]
        each = [mean_scores(target, true, [own], division) for own in votes[MAIN]]
        minus = {}
        for name, own in scored.items():
            if name != MAIN:
                same = votes[MAIN][: len(votes[name])] if rows[name].fits > 1 else votes[MAIN]
                mine = ours if len(same) == len(votes[MAIN]) else judged(target, true, same, division, samples)
                gaps = differences(mine, own)
                minus[name] = {measure: Difference(**gap) for measure, gap in gaps.items()}
        targets[target.name] = TargetScores(
            kind=target.kind,
            classes=tuple(target.classes),
            subjects=int(known.sum()),
            families=len(set(families[known].tolist())),
            test=_row(ours[0], rows[MAIN]),
            per_seed=tuple(TraitScores(**one) for one in each),
            chance_of=JUDGED_BY[target.kind],
            chance_interval=tuple(chance_interval(target, true, votes[MAIN], division)),
            baselines={name: _row(own[0], rows[name]) for name, own in scored.items() if name != MAIN},
            ours_minus=minus,
        )
    return SubjectMetrics(
        task=f"{names} of {len(subjects)} subjects: {cross}",
        protocol="strict" if not any(leakage.values()) else "sites shared",
        subjects=SubjectCounts(train=round(float(trained)), validation=round(float(validated)), test=int(tested.sum())),
        divisions=len(divisions),
        families=counts["families"],
        sites=counts["sites"],
        leakage=dict(leakage),
        targets=targets,
        **about,
    )


def _row(scores: Mapping[str, Any], row: Prediction) -> TraitRow:
    spans = {name: tuple(ends) for name, ends in scores["intervals"].items()}
    return TraitRow(**{**scores, "intervals": spans}, sees=row.sees, fits=row.fits, seeds=len(row.by_seed))


def pool(kept: dict[str, NDArray[Any]], found: Mapping[str, Mapping[int, NDArray[Any]]], part: SubjectPart) -> None:
    """Keep predictions [G, ...] by "name/target" on the test part; NaN where nobody has predicted yet."""
    for name, own in found.items():
        for column, predicted in own.items():
            pooled = kept.setdefault(f"{name}/{column}", np.full(predicted.shape, np.nan))
            pooled[part.test] = predicted[part.test]

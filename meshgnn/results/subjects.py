"""metrics.json of traits of subjects."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from meshgnn.results.record import Record


@dataclass(frozen=True, kw_only=True)
class TraitScores(Record):
    """Scores of one target: the first three of classes, the others of numbers; None for those of the other kind."""

    balanced_accuracy: float | None = None
    auroc: float | None = None
    accuracy: float | None = None
    mae: float | None = None
    mse: float | None = None
    r2: float | None = None
    r: float | None = None

    @property
    def scores(self) -> dict[str, float]:
        """Those that the target has, by name; NaN where the tested subjects cannot tell."""
        found = {field.name: getattr(self, field.name) for field in fields(TraitScores)}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class TraitRow(TraitScores):
    """One row of the tables.

    Args:
        intervals: 95 % of every score, over families; None where no draw can tell.
        sees: the method's inputs, in words.
        fits: how many fits one prediction averages.
        seeds: over how many seeds the scores are means.
    """

    intervals: Mapping[str, tuple[float | None, ...]]
    sees: str
    fits: int
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Difference(Record):
    """A difference of scores with its 95 % interval over families; None where no draw can tell."""

    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class TargetScores(Record):
    """The scores of one target.

    Args:
        kind: "classification" or "regression".
        classes: names; empty for a number.
        subjects, families: tested ones of whom the target is known.
        test: of the network; per_seed: the same, seed by seed.
        chance_of, chance_interval: a score, and where it lies by chance (targets permuted among subjects).
        baselines: by name.
        ours_minus: name -> score -> the network's minus that of the baseline.
    """

    kind: str
    classes: tuple[str, ...]
    subjects: int
    families: int
    test: TraitRow
    per_seed: tuple[TraitScores, ...]
    chance_of: str
    chance_interval: tuple[float | None, ...]
    baselines: Mapping[str, TraitRow]
    ours_minus: Mapping[str, Mapping[str, Difference]]

    @property
    def ranked_by(self) -> str:
        """The score that rows are ordered by."""
        return self.chance_of if self.kind == "classification" else "mae"

    def rows(self, model: str) -> dict[str, TraitRow]:
        """The network, under this name, and every baseline, best first."""
        sign = 1 if self.ranked_by == "mae" else -1
        rows = {model: self.test, **self.baselines}
        return dict(sorted(rows.items(), key=lambda item: sign * item[1].scores.get(self.ranked_by, float("nan"))))


@dataclass(frozen=True, kw_only=True)
class SubjectCounts(Record):
    """Subjects that a member trains on and is validated on, on average, and all that are tested."""

    train: float
    validation: float
    test: int


@dataclass(frozen=True, kw_only=True)
class SubjectMetrics(Record):
    """metrics.json of traits of subjects.

    Args:
        task: of the run, in words.
        protocol: "strict", or what the parts share.
        divisions: number of divisions into training and test part.
        leakage: counts that must be 0.
        targets: by name.
        model: name of the network's class; head: its settings.
        features, coordinates: what the network sees.
        not_run: baseline -> why it could not be run.
        timing_s, peak_rss_mb: put in by the runner at the end.
    """

    task: str
    protocol: str
    subjects: SubjectCounts
    divisions: int
    families: int
    sites: int
    leakage: Mapping[str, int]
    targets: Mapping[str, TargetScores]
    seeds: tuple[int, ...]
    model: str
    head: Mapping[str, Any]
    features: tuple[str, ...]
    coordinates: bool
    not_run: Mapping[str, str]
    timing_s: Mapping[str, float] | None = None
    peak_rss_mb: float | None = None

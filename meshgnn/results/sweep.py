"""metrics.json of a sweep over numbers of subjects: learning curves and what pretraining is worth."""

from collections.abc import Mapping
from dataclasses import dataclass

from meshgnn.results.record import Record


@dataclass(frozen=True, kw_only=True)
class SweepPoint(Record):
    """One method at one number of subjects.

    Args:
        method: name of the curve.
        subjects: that it may learn from, those who stop the training included.
        score, low, high: mean over seeds of the tested subjects, with a 95 % interval over families and seeds.
        minus_scratch, minus_scratch_low, minus_scratch_high: the difference to the network from scratch at the same
            number, over the same draws.
        worth, worth_low, worth_high: subjects from scratch that reach the same score, read off the curve; no lower than
            its first number and no higher than its last, beyond which nothing is known.
    """

    method: str
    subjects: int
    score: float | None
    low: float | None
    high: float | None
    minus_scratch: float | None = None
    minus_scratch_low: float | None = None
    minus_scratch_high: float | None = None
    worth: float | None = None
    worth_low: float | None = None
    worth_high: float | None = None


@dataclass(frozen=True, kw_only=True)
class SweepMetrics(Record):
    """metrics.json of a sweep.

    Args:
        task: in words.
        target, kind, score_name: what is judged by which score.
        tested: subjects, the same for all points.
        sizes: numbers of subjects, ascending.
        seeds: subsets and starts of each.
        points: method by method, in ascending order of size.
        mean_gap: method -> mean difference to scratch over the logarithm of the number of subjects, with its interval.
        pretraining_skill: of the encoder on the task of its pretraining (0: constant, 1: perfect); none for a file.
        timing_s, peak_rss_mb: put in by the runner at the end.
    """

    task: str
    target: str
    kind: str
    score_name: str
    tested: int
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    points: tuple[SweepPoint, ...]
    mean_gap: Mapping[str, tuple[float | None, ...]]
    pretraining_skill: float | None = None
    timing_s: Mapping[str, float] | None = None
    peak_rss_mb: float | None = None

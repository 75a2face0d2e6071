"""metrics.json of a study that trains many networks: one row each."""

from collections.abc import Mapping
from dataclasses import dataclass

from meshgnn.results.record import Record


@dataclass(frozen=True, kw_only=True)
class ModelRow(Record):
    """One network of a study.

    Args:
        name: of its folder.
        target: that it predicts; kind: "classification" or "regression".
        inputs: images and connectivity that it gets; domains: of the table's columns, none for no table.
        score_name: balanced_accuracy of classes, r2 of numbers; score, low, high: of the tested subjects, with its 95 %
            interval over families. None where they cannot tell.
        scores: all that the target has.
        chance_of, chance_low, chance_high: a score, and where it lies by chance (targets permuted among subjects).
        constant: the same score of the constant prediction.
        linear: of a linear model on the same inputs; minus_linear, with its interval: the network's minus that.
        subjects: tested ones; trained: that a member trains on.
        seconds: that it took.
        diagnostic: whether it was given the labels.
    """

    name: str
    target: str
    kind: str
    inputs: tuple[str, ...]
    domains: tuple[str, ...]
    score_name: str
    score: float | None
    low: float | None
    high: float | None
    scores: Mapping[str, float | None]
    chance_of: str
    chance_low: float | None
    chance_high: float | None
    constant: float | None
    linear: float | None
    minus_linear: float | None
    minus_linear_low: float | None
    minus_linear_high: float | None
    subjects: int
    trained: float
    seconds: float
    diagnostic: bool


@dataclass(frozen=True, kw_only=True)
class ModelTable(Record):
    """metrics.json of a study.

    Args:
        task: in words.
        rows: in the order of the study.
        not_trained: name -> why it could not be trained.
        timing_s, peak_rss_mb: put in by the runner at the end.
    """

    task: str
    rows: tuple[ModelRow, ...]
    not_trained: Mapping[str, str]
    timing_s: Mapping[str, float] | None = None
    peak_rss_mb: float | None = None

"""What a sweep prints, and its report.html."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.traits.model_report import WORDS
from meshgnn.export.plots import curves
from meshgnn.export.study_report import StudySection, with_span, write_study_report
from meshgnn.results import SweepMetrics, SweepPoint


def worth(point: SweepPoint, sizes: tuple[int, ...]) -> str:
    """Subjects from scratch that a point is worth, as text: "<=" and ">=" where the curve from scratch ends."""
    if point.worth is None or point.worth_low is None or point.worth_high is None:
        return ""

    def told_as(value: float) -> str:
        sign = "<=" if value <= sizes[0] else ">=" if value >= sizes[-1] else ""
        return f"{sign}{value:.0f}"

    return f"{told_as(point.worth)} [{told_as(point.worth_low)}, {told_as(point.worth_high)}]"


def sweep_summary(metrics: SweepMetrics, folder: Path) -> str:
    """A table of every method and number of subjects."""
    name = WORDS[metrics.score_name]
    lines = [f"\n{metrics.task} ({len(metrics.seeds)} seeds)"]
    lines.append(f"{'':22s}{'subjects':>9s}{name:>26s}{'minus scratch':>26s}{'worth from scratch':>24s}")
    for point in metrics.points:
        gap = ""
        if point.minus_scratch is not None:
            gap = with_span(point.minus_scratch, point.minus_scratch_low, point.minus_scratch_high)
        score = with_span(point.score, point.low, point.high)
        lines.append(f"{point.method:22s}{point.subjects:9d}{score:>26s}{gap:>26s}{worth(point, metrics.sizes):>24s}")
    lines += [f"{key}: {with_span(*gap)} above scratch over all sizes" for key, gap in metrics.mean_gap.items()]
    lines.append(f"intervals: 95 %, over families and seeds; results in {folder}")
    return "\n".join(lines)


def write_sweep_report(
    path: Path, metrics: SweepMetrics, config: Mapping[str, Any], provenance: Mapping[str, Any]
) -> None:
    """Write the report.

    Args:
        config, provenance: as in config.json and provenance.json.
    """
    name, none = WORDS[metrics.score_name], float("nan")
    lines: dict[str, list[tuple[float, float, float, float]]] = {}
    for point in metrics.points:
        score, low, high = (none if value is None else value for value in (point.score, point.low, point.high))
        lines.setdefault(point.method, []).append((float(point.subjects), score, low, high))
    skill = metrics.pretraining_skill
    lead = (
        f"{metrics.tested} tested subjects, the same for all; {len(metrics.seeds)} seeds, each with nested subsets of "
        "its own. The number of subjects counts all whose labels a network has seen, those who stop its training "
        "included. Intervals: 95 %, over families of the tested subjects and over seeds.",
        "Weights from a file." if skill is None else f"Skill of the pretraining on its own task: {skill:.3f}.",
    )
    rows = tuple(
        (
            point.method, str(point.subjects), with_span(point.score, point.low, point.high),
            "" if point.minus_scratch is None
            else with_span(point.minus_scratch, point.minus_scratch_low, point.minus_scratch_high),
            worth(point, metrics.sizes),
        )
        for point in metrics.points
    )  # fmt: skip
    sections = [
        StudySection(
            title="Learning curves", picture=curves(lines, "subjects", name),
            caption=f"{name} over the number of subjects, with 95 % intervals.",
            columns=("method", "subjects", name, "minus scratch", "worth so many from scratch"), rows=rows,
        ),
        StudySection(
            title="Over all sizes", columns=("method", f"mean difference to scratch, {name}"),
            rows=tuple((key, with_span(*gap)) for key, gap in metrics.mean_gap.items()),
        ),
    ]  # fmt: skip
    write_study_report(path, metrics.task, lead, sections, config, provenance)

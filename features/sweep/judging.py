"""Learning curves of a sweep: scores with intervals, differences to scratch, what pretraining is worth."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from features.sweep.curves import equivalent_subjects, mean_gap
from features.traits.model_rows import SCORE
from meshgnn.results import SweepMetrics, SweepPoint
from meshgnn.source.subjects import Target
from meshgnn.train.target_scores import interval, resampled, scores_of

Floats = NDArray[np.float64]
DRAWS = 400
SCRATCH = "scratch"


def judged_sweep(
    target: Target,
    true: Floats,
    families: Sequence[str],
    predicted: Mapping[str, Floats],
    *,
    methods: Sequence[str],
    sizes: tuple[int, ...],
    seeds: tuple[int, ...],
    skill: float | None,
    whole: int,
) -> SweepMetrics:
    """The record of a sweep.

    A draw takes families of the tested subjects and seeds, both with replacement, the same for all methods and sizes.

    Args:
        true: [N] of the tested subjects; families: theirs.
        predicted: "METHOD/SIZE/SEED" -> probabilities [N, K] or numbers [N, 1].
        methods: the first is scratch.
        skill: of the pretraining on its own task.
        whole: subjects of the cohort.
    """
    name = SCORE[target.kind]
    rng = np.random.default_rng(0)
    everybody = np.arange(len(true))

    def curve(method: str, rows: NDArray[np.int64], chosen: Sequence[int]) -> Floats:
        """[sizes] mean over the chosen seeds."""
        table = [
            [scores_of(target, true[rows], predicted[f"{method}/{size}/{seed}"][rows])[name] for seed in set(chosen)]
            for size in sizes
        ]
        weight = [list(chosen).count(seed) for seed in set(chosen)]
        return np.average(np.array(table), axis=1, weights=weight)

    draws = [
        (rows, [seeds[k] for k in rng.integers(0, len(seeds), len(seeds))])
        for rows in resampled(families, DRAWS)
        if len(np.unique(true[rows])) > 1
    ]
    means = {method: curve(method, everybody, seeds) for method in methods}
    drawn = {method: np.stack([curve(method, *draw) for draw in draws]) for method in methods}  # [draws, sizes]
    points, gaps = [], {}
    for method in methods:
        others = method != SCRATCH
        if others:
            each = [mean_gap(sizes, ours, theirs) for ours, theirs in zip(drawn[method], drawn[SCRATCH])]
            gaps[method] = (mean_gap(sizes, means[method], means[SCRATCH]), *interval(np.array(each)))
        for k, size in enumerate(sizes):
            low, high = interval(drawn[method][:, k])
            about: dict[str, float] = {}
            if others:
                gap = interval(drawn[method][:, k] - drawn[SCRATCH][:, k])
                about = dict(zip(("minus_scratch_low", "minus_scratch_high"), gap))
                about["minus_scratch"] = float(means[method][k] - means[SCRATCH][k])
                about["worth"] = equivalent_subjects(sizes, means[SCRATCH], float(means[method][k]))
                worth = [
                    equivalent_subjects(sizes, theirs, float(ours[k]))
                    for ours, theirs in zip(drawn[method], drawn[SCRATCH])
                ]
                about |= dict(zip(("worth_low", "worth_high"), interval(np.array(worth))))
            score = float(means[method][k])
            points.append(SweepPoint(method=method, subjects=size, score=score, low=low, high=high, **about))
    return SweepMetrics(
        task=f"{target.name} of {whole} subjects: scratch against pretrained, {len(true)} tested",
        target=target.name, kind=target.kind, score_name=name, tested=len(true), sizes=sizes, seeds=tuple(seeds),
        points=tuple(points), mean_gap=gaps, pretraining_skill=skill,
    )  # fmt: skip

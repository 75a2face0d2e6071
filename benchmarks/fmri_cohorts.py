"""Traits from runs on several virtual cohorts: networks beside linear models on the same inputs, subjects in common.

For every seed of a cohort the experiment `fmri_sex` is run with some of its inputs (each a network of its own), as
large as asked for, and its predictions are put together: every score is a mean over cohorts and the parts that were
tested in them, with a 95 % interval over families, and so is each network's score minus that of a linear model. The
settings of `fmri_sex` were chosen on the cohorts of seeds 11, 101 and 102; those of seeds 21 to 23 judged earlier
settings; the default seeds are others.

The last column of a null target's rows is the interval of scores that chance would reach. Runs stay in --out, and go on
where they were.

    python benchmarks/fmri_cohorts.py --out DIR [--quick] [--json FILE] [--seeds 201 202 203] [--inputs NAME ...]
        [--cross] [--pool mean] [--raw]
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402

from benchmarks._pairs import keep, show  # noqa: E402
from experiments.fmri_sex import fmri_sex  # noqa: E402
from features.encoders.run_transformer import RunTransformer  # noqa: E402
from features.encoders.series_transformer import SeriesTransformer  # noqa: E402
from features.encoders.swin4d import Swin4D  # noqa: E402
from features.fmri.experiment import RunPrediction  # noqa: E402
from features.traits.items import TraitInput  # noqa: E402
from meshgnn.experiment.runner import run  # noqa: E402
from meshgnn.source.virtual.runs import TARGETS, VirtualRuns  # noqa: E402
from meshgnn.store import read_arrays  # noqa: E402
from meshgnn.train.target_scores import differences, interval, judged, mean_scores, resampled  # noqa: E402

SCORES = {"classification": "auroc", "regression": "r2"}
DEALT = 200  # random orders of a target, for what chance reaches


def config_of(
    seed: int, subjects: int, inputs: list[str], *, cross: bool, pool: Any, raw: bool, folds: int, epochs: int,
    phase_steps: int,
) -> RunPrediction.Config:  # fmt: skip
    """`fmri_sex` with these inputs on another cohort.

    Args:
        seed: of the cohort.
        inputs: names; the phases are left out where `bold` is none of them.
        cross: whether every subject is tested once.
        pool: of the transformers over time.
        raw: correlations are not standardised over subjects.
        phase_steps: of every phase; 0 for those of the experiment.
    """
    base = fmri_sex()
    assert isinstance(base.cohort, VirtualRuns.Config)
    named = {one.name: one for one in base.inputs}
    if wrong := [name for name in inputs if name not in named]:
        raise SystemExit(f"there is no input {wrong[0]!r}; there are {', '.join(named)}")
    phases = tuple(replace(one, steps=phase_steps or one.steps) for one in base.phases)
    phased = base.pretrained in inputs
    return replace(
        base,
        cohort=replace(base.cohort, people=replace(base.cohort.people, subjects=subjects, seed=seed)),
        inputs=tuple(_pooled(named[name], pool, not raw) for name in inputs),
        main=(inputs[0],),
        phases=phases if phased else (),
        pretrained=base.pretrained if phased else "",
        split=replace(base.split, cross=cross),
        trainer=replace(base.trainer, folds=folds, epochs=epochs),
    )


def _pooled(one: TraitInput, pool: Any, standardised: bool) -> TraitInput:
    change: dict[str, Any] = {"pool": pool, "standardised": standardised}
    if isinstance(one.encoder, Swin4D.Config):
        return replace(one, encoder=replace(one.encoder, **change))
    if not isinstance(one.encoder, RunTransformer.Config | SeriesTransformer.Config):
        return one
    return replace(one, encoder=replace(one.encoder, sequence=replace(one.encoder.sequence, **change)))


def votes_of(config: RunPrediction.Config, folder: Path) -> dict[str, list[np.ndarray]]:
    """What networks and linear models say of every target [G, K], by name; NaN of those who were not tested."""
    run(config, folder, resume=(folder / "config.json").is_file())
    first, found = config.inputs[0].name, dict[str, list[np.ndarray]]()
    tables = {name: read_arrays(folder / "tables" / f"{name}.safetensors") for name in ("predictions", "baselines")}
    for name in sorted({key.split("/")[0] for key in tables["predictions"]}):
        own = name.split(":")[0].removesuffix("_alone")
        found[f"network {first if own == 'main' else own}"] = [
            tables["predictions"][f"{name}/{column}"] for column in range(len(TARGETS))
        ]
    for name in sorted({key.split("/")[0] for key in tables["baselines"]}):
        if name.startswith("linear_"):
            found[name.replace("_", " ", 1)] = [
                tables["baselines"][f"{name}/{column}"] for column in range(len(TARGETS))
            ]
    return found


def measure(seeds: list[int], folder: Path, **settings: Any) -> list[dict[str, Any]]:
    cohorts = []
    for seed in seeds:
        config = config_of(seed, **settings)
        assert isinstance(config.cohort, VirtualRuns.Config)
        people = config.cohort.build().participants()
        cohorts.append((seed, people, config.split.build().apply(people), votes_of(config, folder / f"cohort{seed}")))
    found: list[dict[str, Any]] = []
    for column, target in enumerate(TARGETS):
        true, division, families = [], [], []
        votes: dict[str, list[np.ndarray]] = {name: [] for name in cohorts[0][3]}
        for seed, people, parts, said in cohorts:
            for number, part in enumerate(parts):
                there = part.test & np.isfinite(people.values[:, column])
                true.append(people.values[there, column])
                division.append(np.full(int(there.sum()), 100 * seed + number))
                families += [f"{seed}-{name}" for name in np.array(people.groups("family"))[there]]
                for name, own in said.items():
                    votes[name].append(own[column][there])
        y, where, samples = np.concatenate(true), np.concatenate(division), resampled(families)
        together = {name: np.concatenate(own) for name, own in votes.items()}
        scored = {name: judged(target, y, [own], where, samples) for name, own in together.items()}
        score = SCORES[target.kind]
        for name, own in scored.items():
            each = [
                mean_scores(target, y[where // 100 == seed], [together[name][where // 100 == seed]],
                            where[where // 100 == seed])[score] for seed in seeds
            ]  # fmt: skip
            row = {"name": f"{target.name}, {name}", "score": score, "value": round(own[0][score], 3)}
            row |= {"interval": _rounded(own[0]["intervals"][score]), "cohorts": _rounded(each), "tested": len(y)}
            if name.startswith("network"):
                for other in (key for key in scored if key.startswith("linear")):
                    gap = differences(own, scored[other])[score]
                    row[f"minus {other}"] = _rounded([gap["difference"], gap["low"], gap["high"]])
            if target.name == "null":
                row["chance"] = _rounded(_chance(target, y, together[name], where))
            found.append(row)
    return found


def _chance(target: Any, true: np.ndarray, votes: np.ndarray, division: np.ndarray) -> list[float]:
    """Where the middle 95 % of AUROC lie if the true classes of each part are dealt out at random in it."""
    rng, found = np.random.default_rng(0), []
    for _ in range(DEALT):
        dealt = true.copy()
        for number in np.unique(division):
            dealt[division == number] = rng.permutation(true[division == number])
        found.append(mean_scores(target, dealt, [votes], division)["auroc"])
    return interval(np.array(found))


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 3) for value in values]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two cohorts of 40 subjects, series alone, half a minute")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--out", type=Path, help="folder for the runs; a temporary one if none is named")
    parser.add_argument("--seeds", type=int, nargs="+", default=[201, 202, 203], help="of the cohorts")
    parser.add_argument("--subjects", type=int, default=200, help="of a cohort")
    parser.add_argument("--inputs", nargs="+", default=["series_transformer", "connectivity"], help="of fmri_sex")
    parser.add_argument("--pool", choices=("correlation", "mean"), default="correlation", help="of the transformers")
    parser.add_argument("--raw", action="store_true", help="do not standardise correlations over subjects")
    parser.add_argument("--cross", action="store_true", help="test every subject once, in four parts")
    options = parser.parse_args()
    base = fmri_sex().trainer
    settings = {"subjects": options.subjects, "inputs": options.inputs, "cross": options.cross,
                "pool": options.pool, "raw": options.raw, "folds": base.folds, "epochs": base.epochs,
                "phase_steps": 0}  # fmt: skip
    if options.quick:
        options.seeds = options.seeds[:2]
        settings |= {"subjects": 40, "folds": 2, "epochs": 2, "phase_steps": 4}
    with tempfile.TemporaryDirectory() as place:
        rows = measure(options.seeds, options.out or Path(place), **settings)
    for found in rows:
        show(found)
    keep(rows, options.json)


if __name__ == "__main__":
    main()

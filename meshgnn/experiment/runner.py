"""Drives an experiment: stage after stage, each skipped if the hash of its inputs and config is unchanged."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from meshgnn.config import to_plain
from meshgnn.errors import InputError
from meshgnn.experiment.run_folder import RunFolder, peak_rss_mb, stopwatch
from meshgnn.store import content_hash, read_json, write_json


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of an experiment.

    Args:
        name: of the step.
        run: does the work in the run folder and returns the files it wrote, relative to it.
        depends: JSON-ready config and input hashes that decide whether an earlier result may be kept; the stages before
            it always count too.
    """

    name: str
    run: Callable[[RunFolder], list[str]]
    depends: Any = field(default=None)


class Experiment(Protocol):
    """What an experiment's config builds.

    A method `check()`, if there is one, is called before anything is written and raises InputError for wrong input.
    """

    def inputs(self) -> dict[str, str]:
        """Hash of every input file by path."""
        ...

    def seeds(self) -> list[int]: ...

    def stages(self) -> list[Stage]: ...

    def summary(self, run: RunFolder) -> str:
        """What to print at the end."""
        ...


def run(config: Any, out: Path, *, resume: bool = False) -> RunFolder:
    """Build an experiment's config and run all its stages in the folder `out`: the command line's work, from Python.

    Raises:
        InputError: what the command line would print.
    """
    folder = RunFolder(Path(out))
    stored = {"experiment": None, "overrides": [], "config": to_plain(config)}
    run_experiment(config.build(), stored, folder, resume=resume, only="")
    return folder


def run_experiment(experiment: Experiment, config: dict[str, Any], run: RunFolder, *, resume: bool, only: str) -> None:
    """Run all stages (or the one named `only`, whose forerunners must be done).

    Raises:
        InputError: the run folder or a stage's input is wrong.
    """
    stages = experiment.stages()
    names = [stage.name for stage in stages]
    if only and only not in names:
        raise InputError(f"--stage {only}: there is no such stage; stages: {', '.join(names)}")
    # Everything that can be wrong with the input is told before a file is written.
    inputs = experiment.inputs()
    if hasattr(experiment, "check"):
        experiment.check()
    keys = [content_hash(inputs)]
    for stage in stages:
        keys.append(content_hash(stage.name, stage.depends, keys[-1]))
    for stage, key in zip(stages, keys[1:]):
        if only and stage.name == only:
            break
        if only and not run.stage_done(stage.name, key):
            raise InputError(f"--stage {only}: stage {stage.name!r} before it is not done; run without --stage first")
    run.open(resume=resume or bool(only and names.index(only)))
    write_json(run / "config.json", config)
    run.write_provenance(inputs, experiment.seeds())
    for number, (stage, key) in enumerate(zip(stages, keys[1:]), start=1):
        title = f"[{number}/{len(stages)}] {stage.name}"
        if only and stage.name != only:
            continue
        if run.stage_done(stage.name, key) and not only:
            run.say(f"{title}: unchanged, kept")
            continue
        run.say(title)
        with stopwatch() as watch:
            outputs = stage.run(run)
        run.close_stage(stage.name, key, outputs, watch["seconds"])
        run.say(f"{title}: {watch['seconds']:.1f} s")
    _finish(run, names)
    if (run / "metrics.json").is_file():
        run.say(experiment.summary(run))


SCORES = "tables/scores.json"


def _finish(run: RunFolder, stages: list[str]) -> None:
    """metrics.json: what a stage left in `SCORES`, with time and memory, which are known only now."""
    if not (run / SCORES).is_file():
        return
    metrics = read_json(run / SCORES)
    metrics["timing_s"] = run.stage_seconds(stages)
    try:
        earlier = float(read_json(run / "metrics.json").get("peak_rss_mb") or 0)
    except (InputError, AttributeError, TypeError, ValueError):
        earlier = 0.0
    metrics["peak_rss_mb"] = max(peak_rss_mb(), earlier)
    write_json(run / "metrics.json", metrics)

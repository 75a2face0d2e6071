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
    """What an experiment's config builds."""

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
    inputs = experiment.inputs()
    run.open(resume=resume)
    write_json(run / "config.json", config)
    run.write_provenance(inputs, experiment.seeds())
    key = content_hash(inputs)
    for number, stage in enumerate(stages, start=1):
        key = content_hash(stage.name, stage.depends, key)
        title = f"[{number}/{len(stages)}] {stage.name}"
        done = run.stage_done(stage.name, key)
        if only and stage.name != only:
            if not done and names.index(only) > number - 1:
                raise InputError(
                    f"--stage {only}: stage {stage.name!r} before it is not done; run without --stage first"
                )
            continue
        if done and not only:
            run.say(f"{title}: unchanged, kept")
            continue
        run.say(title)
        with stopwatch() as watch:
            outputs = stage.run(run)
        run.close_stage(stage.name, key, outputs, watch["seconds"])
        run.say(f"{title}: {watch['seconds']:.1f} s")
    _finish(run)
    run.say(experiment.summary(run))


def _finish(run: RunFolder) -> None:
    """Put time and memory into metrics.json; both are known only now."""
    path = run / "metrics.json"
    if not path.is_file():
        return
    metrics = read_json(path)
    metrics["timing_s"] = run.stage_seconds()
    metrics["peak_rss_mb"] = max(peak_rss_mb(), metrics.get("peak_rss_mb") or 0)
    write_json(path, metrics)

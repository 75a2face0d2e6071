"""Drives an experiment: stage after stage, each skipped if the hash of its inputs and config is unchanged."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from meshgnn import __version__
from meshgnn.config import to_plain
from meshgnn.errors import InputError
from meshgnn.experiment.run_folder import RunFolder, circumstances, now, peak_rss_mb, stopwatch
from meshgnn.store import content_hash, read_json, write_json


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of an experiment.

    Args:
        name: of the step.
        run: does the work in the run folder and returns the files it wrote, relative to it.
        depends: JSON-ready config and input hashes that decide whether an earlier result may be kept.
        after: names of the stages whose results it reads; they count too. None: it may read the results of all stages
            before it and every input file of the experiment. A stage that names others states the hashes of the input
            files that it reads itself in `depends`.
        version: raised by hand when the same settings and inputs give another result than before.
    """

    name: str
    run: Callable[[RunFolder], list[str]]
    depends: Any = None
    after: tuple[str, ...] | None = None
    version: int = 1


def stage_keys(stages: Sequence[Stage], inputs: dict[str, str]) -> dict[str, str]:
    """Name -> key of every stage: an earlier result is kept if its key is the same.

    A key holds the stage's settings, the keys of the stages it comes after, and the version of the code: that of the
    package and that of the stage. It does not hold the commit: a commit that mends a comment would redo everything.
    Whoever changes what a stage gives raises its `version`; provenance.json tells the commit each stage was run with.

    Raises:
        ValueError: a stage comes after one that does not stand before it.
    """
    keys: dict[str, str] = {}
    for stage in stages:
        wrong = [name for name in stage.after or () if name not in keys]
        if wrong or stage.name in keys:
            raise ValueError(f"stage {stage.name!r} stands twice, or before {wrong}")
        before = [[name, keys[name]] for name in (keys if stage.after is None else stage.after)]
        files = inputs if stage.after is None else {}
        keys[stage.name] = content_hash(stage.name, stage.depends, before, files, __version__, stage.version)
    return keys


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
    # Everything that can be wrong with folder and input is told before a file is written.
    going_on = resume or bool(only and names.index(only))
    if not only:
        run.look(resume=going_on, config=config)
    inputs = experiment.inputs()
    if hasattr(experiment, "check"):
        experiment.check()
    keys = stage_keys(stages, inputs)
    for name in names[: names.index(only)] if only else []:
        if not run.stage_done(name, keys[name]):
            raise InputError(f"--stage {only}: stage {name!r} before it is not done; run without --stage first")
    if only:
        run.look(resume=going_on, config=config)
    run.open()
    write_json(run / "config.json", config)
    here = circumstances()

    def provenance(running: str = "") -> None:
        run.write_provenance(here, inputs, experiment.seeds(), keys, running)

    if not (run / "provenance.json").is_file():
        provenance()
    for number, stage in enumerate(stages, start=1):
        title, key = f"[{number}/{len(stages)}] {stage.name}", keys[stage.name]
        if only and stage.name != only:
            continue
        if run.stage_done(stage.name, key) and not only:
            run.say(f"{title}: unchanged, kept")
            continue
        run.say(title)
        begun = {**here, "started": now()}
        provenance(running=stage.name)
        try:
            with stopwatch() as watch:
                outputs = stage.run(run)
        except OSError as error:
            if error.filename is None:  # a failed write does not tell its file
                error.filename = str(run.path)
            raise
        run.close_stage(stage.name, key, outputs, watch["seconds"], begun)
        provenance()
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

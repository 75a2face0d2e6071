"""Drives an experiment: stage after stage, each skipped if the hash of its inputs and config is unchanged."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

from meshgnn import __version__
from meshgnn.config import to_plain
from meshgnn.errors import InputError, SettingError
from meshgnn.experiment.run_folder import RunFolder, circumstances, now, peak_rss_mb
from meshgnn.ranks import rank_and_world
from meshgnn.store import content_hash, read_json, write_json


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of an experiment.

    Args:
        name: of the step.
        run: does the work in the run folder and returns the files it wrote, relative to it.
        after: names of the stages whose results it reads; what they depend on counts too.
        depends: JSON-ready settings that decide whether an earlier result may be kept.
        files: hash by name of the input files that it reads itself.
        version: raised by hand when the same settings and inputs give another result than before.
        beside: it leaves processors idle and shares nothing with other stages of its kind: with such stages next to it
            in the list, as far as it does not come after them, it may run at the same time.
        follow: what the other ranks do while rank 0 runs the stage, where it is shared out among several; they write
            nothing of their own.
    """

    name: str
    run: Callable[[RunFolder], list[str]]
    after: tuple[str, ...]
    depends: Any = None
    files: Mapping[str, str] = field(default_factory=dict)
    version: int = 1
    beside: bool = False
    follow: Callable[[RunFolder], object] | None = None


class Team(Protocol):
    """This process among those that torchrun or srun started; `features.parallel.ranks.Ranks`."""

    @property
    def rank(self) -> int: ...

    def agreed(self, *values: float) -> tuple[float, ...]:
        """Rank 0's numbers, on all ranks; all of them call it."""
        ...

    def leave(self) -> None:
        """The end of what the ranks do together; all of them call it."""
        ...


def check_seeds(seeds: Sequence[int]) -> None:
    """Raises SettingError for `<seeds>` of an experiment that are none, not different, or no seeds."""
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) >= 2**31:
        raise SettingError("<seeds> must be one or more different numbers from 0 to 2147483647")


def stage_keys(stages: Sequence[Stage]) -> dict[str, str]:
    """Name -> key of every stage: an earlier result is kept if its key is the same.

    A key holds the stage's settings and input files, the keys of the stages it comes after, and the version of the
    code: that of the package and that of the stage. It does not hold the commit: a commit that mends a comment would
    redo everything. Whoever changes what a stage gives raises its `version`; provenance.json names the commit that
    each stage was run with.

    Raises:
        ValueError: a stage comes after one that does not stand before it.
    """
    keys: dict[str, str] = {}
    for stage in stages:
        wrong = [name for name in stage.after if name not in keys]
        if wrong or stage.name in keys:
            raise ValueError(f"stage {stage.name!r} stands twice, or before {wrong}")
        before = [[name, keys[name]] for name in stage.after]
        settings = [stage.depends, before, dict(stage.files), __version__, stage.version]
        keys[stage.name] = content_hash(stage.name, *settings)
    return keys


class Experiment:
    """What an experiment's config builds; experiments inherit from it and say what is their own."""

    def answer(self) -> str | None:
        """What an experiment that only looks at something prints; None for one that has stages to run."""
        return None

    def input_files(self) -> dict[str, str]:
        """Hash of every input file by name, for provenance.json. Stages take `files`, the same made once."""
        return {}

    @cached_property
    def files(self) -> dict[str, str]:
        """`input_files()`, hashed once: sections can be many gigabytes."""
        return self.input_files()

    def check(self) -> None:
        """Called before anything is written; raises InputError for whatever is wrong with input and settings."""

    def seeds(self) -> list[int]:
        """For provenance.json."""
        return []

    def stages(self) -> list[Stage]:
        """In an order in which they can be run."""
        return []

    def team(self) -> Team:
        """All ranks that were started, who meet here; called if there are several.

        Raises:
            InputError: nothing of this experiment, or of these settings, is shared out among ranks.
        """
        raise InputError(
            "several ranks were started, and nothing of this experiment is shared out among them; start it alone"
        )

    def summary(self, run: RunFolder) -> str:
        """What to print at the end, where a stage left scores."""
        return ""


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

    Of several ranks, rank 0 does so, and the others take part in the stages that are shared out.

    Raises:
        InputError: the run folder or a stage's input is wrong, or several ranks were started for nothing.
    """
    team = experiment.team() if rank_and_world()[1] > 1 else None
    if team is not None and team.rank:
        _follow(experiment.stages(), run, team)
        return
    # Whatever is wrong with folder and input is reported before a file is written.
    if not only:
        run.check(resume=resume, config=config)
    stages = experiment.stages()
    names = [stage.name for stage in stages]
    if only and only not in names:
        raise InputError(f"--stage {only}: there is no such stage; stages: {', '.join(names)}")
    _ = experiment.files  # input files are hashed before anything is written
    experiment.check()
    keys = stage_keys(stages)
    for name in names[: names.index(only)] if only else []:
        if not run.stage_done(name, keys[name]):
            raise InputError(f"--stage {only}: stage {name!r} before it is not done; run without --stage first")
    if only:
        run.check(resume=resume or names.index(only) > 0, config=config)
    run.open()
    write_json(run / "config.json", config)
    work = _Work(run, experiment, stages, keys, team)
    if only:
        work.alone(stages[names.index(only)])
    else:
        work.all()
    if team is not None:
        team.agreed(OVER)
        team.leave()
    _finish(run, names)
    if (run / "metrics.json").is_file():
        run.say(experiment.summary(run))


AT_ONCE = 3  # stages that run side by side: one thread of each is often alone at work


class _Work:
    """Runs stages and keeps their records."""

    def __init__(
        self, run: RunFolder, experiment: Experiment, stages: Sequence[Stage], keys: dict[str, str], team: Team | None
    ) -> None:
        self.run, self.experiment, self.stages, self.keys, self.team = run, experiment, stages, keys, team
        self.here = circumstances()
        self.running: list[str] = []
        if not (run / "provenance.json").is_file():
            self._provenance()

    def _provenance(self) -> None:
        self.run.write_provenance(
            self.here, self.experiment.files, self.experiment.seeds(), self.keys, tuple(self.running)
        )

    def _title(self, stage: Stage) -> str:
        return f"[{self.stages.index(stage) + 1}/{len(self.stages)}] {stage.name}"

    def all(self) -> None:
        """Every stage that is not done, in order; neighbours in the list that allow it side by side."""
        several = 1 if self.team else AT_ONCE
        for beside, group in groupby(self.stages, lambda stage: stage.beside):
            if beside and several > 1:
                self._side_by_side(list(group), several)
                continue
            for stage in group:
                if not self._kept(stage):
                    self.alone(stage)

    def alone(self, stage: Stage) -> None:
        """Run one stage, done or not."""
        begun = self._begin(stage)
        if self.team is not None and stage.follow:
            self.team.agreed(self.stages.index(stage))
        self._end(stage, begun, *self._timed(stage))

    def _side_by_side(self, stages: list[Stage], several: int) -> None:
        """Stages in order, `several` at a time, each as soon as those it comes after are done.

        If one fails, those that run already are finished and kept before its error is raised.
        """
        open_, running = list(stages), dict[Future[tuple[list[str], float]], tuple[Stage, dict[str, Any]]]()
        failed: BaseException | None = None
        with ThreadPoolExecutor(several) as pool:
            while running or (open_ and failed is None):
                for stage in list(open_) if failed is None else ():
                    undone = {one.name for one in open_} | {one.name for one, _ in running.values()}
                    if len(running) == several or undone & set(stage.after):
                        continue
                    open_.remove(stage)
                    if not self._kept(stage):
                        begun = self._begin(stage)
                        running[pool.submit(self._timed, stage)] = stage, begun
                for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                    stage, begun = running.pop(future)
                    error = future.exception()
                    if error is None:
                        self._end(stage, begun, *future.result())
                    failed = failed or error
        if failed is not None:
            raise failed

    def _kept(self, stage: Stage) -> bool:
        done = self.run.stage_done(stage.name, self.keys[stage.name])
        if done:
            self.run.say(f"{self._title(stage)}: unchanged, kept")
        return done

    def _begin(self, stage: Stage) -> dict[str, Any]:
        """The provenance of what is about to run."""
        self.run.say(self._title(stage))
        self.running.append(stage.name)
        self._provenance()
        return {**self.here, "started": now()}

    def _timed(self, stage: Stage) -> tuple[list[str], float]:
        """Files written and seconds taken."""
        start = perf_counter()
        try:
            return stage.run(self.run), perf_counter() - start
        except OSError as error:
            if error.filename is None:  # a failed write does not name its file
                error.filename = str(self.run.path)
            raise

    def _end(self, stage: Stage, begun: dict[str, Any], outputs: list[str], seconds: float) -> None:
        self.run.close_stage(stage.name, self.keys[stage.name], outputs, seconds, begun)
        self.running.remove(stage.name)
        self._provenance()
        self.run.say(f"{self._title(stage)}: {seconds:.1f} s")


OVER = -1  # instead of the number of a stage: rank 0 is done


def _follow(stages: Sequence[Stage], run: RunFolder, team: Team) -> None:
    """Take part in the stages that rank 0 names, until it is done."""
    while (number := int(team.agreed(OVER)[0])) != OVER:
        follow = stages[number].follow
        assert follow is not None, "rank 0 names stages that are shared out"
        follow(run)
    team.leave()


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

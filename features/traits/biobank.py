"""Every combination of inputs for every target of a cohort, one network after another or side by side."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import torch

from features.subject_data.convert import VolumeConversion
from features.subject_data.table import column_notes
from features.traits.biobank_options import MATRICES, SUFFIXES, TABLE, BiobankOptions
from features.traits.cohort import (
    DRAWN,
    STORES,
    ImageCohort,
    convert,
    draw,
    hashes_of,
    images_of,
    participants_of,
    table_in,
)
from features.traits.combinations import Combination, Kind, Study, enumerate_runs, without_own
from features.traits.experiment import TraitPrediction
from features.traits.model_report import write_model_report
from features.traits.model_rows import row_of, study_summary, write_rows
from meshgnn.config import Config as BaseConfig
from meshgnn.config import at, to_plain
from meshgnn.data.subject_split import SubjectSplit
from meshgnn.errors import InputError, SettingError
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import SCORES, Experiment, Stage
from meshgnn.experiment.runner import run as run_alone
from meshgnn.experiment.subject_summary import read_subject_metrics
from meshgnn.export.html import number
from meshgnn.export.study_report import with_span
from meshgnn.results import ModelRow, ModelTable
from meshgnn.slurm_jobs import SlurmJobs
from meshgnn.source.participant_table import TABLE as PARTICIPANTS
from meshgnn.source.participant_table import Participants, ParticipantTable
from meshgnn.source.text_table import read_text_table
from meshgnn.source.virtual.images import COLUMNS, DOMAINS, VirtualImages
from meshgnn.store import content_hash, file_hash, read_json, write_json

MODELS, ROWS, ROW = "models", "models.tsv", "row.json"


class BiobankInputs(Experiment):
    """A study of what each input tells of each trait, after "Computational limits to the legibility of the human brain"
    (NeuroImage 2024, 10.1016/j.neuroimage.2024.120600).

    Every network is a `TraitPrediction` of its own in `models/<target>_<inputs>_<blocks>`, with its baselines,
    intervals and report; models.tsv holds one row of each. A killed study goes on where it was: finished networks are
    not trained again, an unfinished one goes on at its last epoch. Columns of a target's own domain are never among its
    inputs.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            cohort: VirtualImages, drawn into the run; or ParticipantTable: a folder with participants.tsv and sub-*.
            targets: all of the virtual cohort if none are named (those of a folder stand in cohort.targets).
            combinations: published: the combinations of the study; full: those, and images and connectivity without
                the table for every target; every: whatever can be combined; one: all inputs for options.target.
            always: the domain that published networks of another domain's targets always get.
            together: image types that are taken together or not at all.
            domains: COLUMN=DOMAIN of targets and of the table's columns, in addition to the JSON files.
            options: of every network.
            conversion: of volumes; the size of its cube is that of the options.
            split: how subjects are divided.
            seeds: one ensemble each; scores are means over them.
            workers: networks that are trained side by side, each in a process of its own.
            jobs: train each in a Slurm job of its own instead; the command submits them and waits.
        """

        cohort: ImageCohort = field(default_factory=VirtualImages.Config)
        targets: tuple[str, ...] = ()
        combinations: Kind | Literal["one"] = "published"
        always: str = "constitutional"
        together: tuple[tuple[str, ...], ...] = (("flair", "t1"),)
        domains: tuple[str, ...] = ()
        options: BiobankOptions = field(default_factory=BiobankOptions)
        conversion: VolumeConversion.Config = field(default_factory=VolumeConversion.Config)
        split: SubjectSplit.Config = field(
            default_factory=lambda: SubjectSplit.Config(cross=False, keep=("family",), alike=("site",))
        )
        seeds: tuple[int, ...] = (0,)
        workers: int = 1
        jobs: SlurmJobs.Config | None = None

        def __post_init__(self) -> None:
            if self.workers < 1:
                raise SettingError("<workers> must be at least 1")
            if wrong := [one for one in self.domains if not all(one.partition("="))]:
                raise SettingError(f"<domains> holds {wrong[0]!r}; COLUMN=DOMAIN is needed")

        def build(self) -> "BiobankInputs":
            return BiobankInputs(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    # -- what there is --------------------------------------------------------------------------------------------

    @cached_property
    def _people(self) -> Participants:
        c = self.config
        asked = c.targets
        if c.combinations == "one":
            asked = (c.options.target,)
        if isinstance(c.cohort, ParticipantTable.Config):
            return participants_of(replace(c.cohort, targets=asked or c.cohort.targets), ())
        return participants_of(c.cohort, asked)

    def _folder(self, run: RunFolder | None) -> Path:
        if isinstance(self.config.cohort, ParticipantTable.Config):
            return self.config.cohort.folder
        return run / DRAWN if run else Path()

    @cached_property
    def _domains(self) -> dict[str, str]:
        """Domain of every target and every column of the table that has one."""
        found: dict[str, str]
        if isinstance(self.config.cohort, VirtualImages.Config):
            found = {**DOMAINS, **{name: domain for name, (domain, _) in COLUMNS.items()}, "smoking": "disease"}
        else:
            folder = self.config.cohort.folder
            notes = {**column_notes(folder / PARTICIPANTS), **column_notes(table_in(folder))}
            found = {name: str(about["Domain"]) for name, about in notes.items() if about.get("Domain")}
        return found | dict(one.split("=", 1) for one in self.config.domains)

    @cached_property
    def _columns(self) -> list[str]:
        """Of the table."""
        if isinstance(self.config.cohort, VirtualImages.Config):
            return [*COLUMNS, "smoking"]
        return read_text_table(table_in(self.config.cohort.folder), ["participant_id"])[0]

    @cached_property
    def combinations(self) -> tuple[Combination, ...]:
        """What is trained, in order."""
        c, options = self.config, self.config.options
        there = {self._domains.get(name, "") for name in self._columns} if TABLE in options.inputs else set()
        blocks = tuple(name for name in options.metadata_blocks if name in there)
        inputs = tuple(name for name in options.inputs if name != TABLE)
        targets = {target.name: self._domains.get(target.name, "") for target in self._people.targets}
        if c.combinations == "one":
            ((target, own),) = targets.items()
            return (Combination(target=target, inputs=inputs, domains=without_own(blocks, own)),)
        parts = tuple(tuple(name for name in part if name in inputs) for part in c.together)
        with at("together"):
            study = Study(
                targets=targets, domains=blocks, inputs=inputs, together=tuple(part for part in parts if part),
                always=c.always,
            )  # fmt: skip
        return enumerate_runs(c.combinations, study)

    @property
    def _images(self) -> list[str]:
        return [name for name in self.config.options.inputs if name in SUFFIXES]

    def _conversion(self) -> VolumeConversion.Config:
        cube = self.config.conversion.cube
        return replace(self.config.conversion, cube=replace(cube, size=self.config.options.voxels))

    def _prediction(self, one: Combination, folder: Path, stores: Path) -> TraitPrediction.Config:
        """The experiment of one network, on a cohort and its stores."""
        c = self.config
        base = c.cohort if isinstance(c.cohort, ParticipantTable.Config) else ParticipantTable.Config()
        coded, numeric = (tuple({*names} & {one.target}) for names in (base.categorical, base.numeric))
        cohort = replace(base, folder=folder, targets=(one.target,), categorical=coded, numeric=numeric)
        target = next(target for target in self._people.targets if target.name == one.target)
        places = {name: stores / name for name in self._images}
        return c.options.prediction(one, target, cohort, places, self._domains, c.split, c.seeds)

    # -- the experiment socket ------------------------------------------------------------------------------------

    def input_files(self) -> dict[str, str]:
        c = self.config
        if isinstance(c.cohort, VirtualImages.Config):
            return {}
        folder = c.cohort.folder
        columns, matrices = c.options.columns, c.options.matrices
        found: list[Path] = []
        if TABLE in c.options.inputs:
            found += (columns if columns.path != Path() else replace(columns, path=table_in(folder))).files()
        if MATRICES in c.options.inputs:
            named = matrices.stack is not None or matrices.folder != Path()
            found += (matrices if named else replace(matrices, folder=folder)).files()
        images = [images_of(self._conversion(), folder, SUFFIXES[name]) for name in self._images]
        return hashes_of(folder, found, images)

    def seeds(self) -> list[int]:
        return list(self.config.seeds)

    def check(self) -> None:
        """Targets, domains and combinations; raises InputError."""
        names = [one.name for one in self.combinations]
        if not names:
            raise InputError("options.inputs and options.metadata_blocks name nothing that the cohort has")
        if len({name.lower() for name in names}) < len(names):
            raise InputError("two networks would share a folder; give targets, inputs and domains names that differ")

    def stages(self) -> list[Stage]:
        c = self.config
        drawn = isinstance(c.cohort, VirtualImages.Config)
        found = [Stage(name="draw", run=self._draw, after=(), depends=to_plain(c.cohort))] if drawn else []
        made = ("draw",) if drawn else ()
        if self._images:
            depends = to_plain([self._conversion(), self._images])
            found.append(Stage(name="convert", run=self._convert, after=made, depends=depends, files=self.files))
            made = ("convert",)
        study = [c.cohort, c.targets, c.combinations, c.always, c.together, c.domains, c.options, c.split, c.seeds]
        return [
            *found,
            Stage(name=MODELS, run=self._models, after=made, depends=to_plain(study), files=self.files),
            Stage(name="export", run=self._export, after=(MODELS,)),
        ]

    def summary(self, run: RunFolder) -> str:
        path = run / "metrics.json"
        return study_summary(ModelTable.from_json(read_json(path), str(path)), run / ROWS)

    # -- stages ---------------------------------------------------------------------------------------------------

    def _draw(self, run: RunFolder) -> list[str]:
        assert isinstance(self.config.cohort, VirtualImages.Config)
        return [*draw(self.config.cohort, run), f"{DRAWN}/phenotype/measures.tsv"]

    def _convert(self, run: RunFolder) -> list[str]:
        files: list[str] = []
        for name in self._images:
            with at(f"options.inputs: {name}"):
                files += convert(run, self._conversion(), self._folder(run), SUFFIXES[name], name)
        return files

    def _key(self, one: Combination, data: Mapping[str, str]) -> str:
        """Hash of everything that decides a network, wherever the run lies."""
        return content_hash(to_plain(self._prediction(one, Path(DRAWN), Path(STORES))), dict(data))

    def _data(self, run: RunFolder) -> dict[str, str]:
        """Hash by name of what networks are trained on."""
        found = {Path(name).name: digest for name, digest in self.files.items()}
        for name in self._images:
            found[name] = file_hash(run / STORES / name / "store.safetensors")
        if isinstance(self.config.cohort, VirtualImages.Config):
            found[DRAWN] = content_hash(to_plain(self.config.cohort))
        return found

    def _models(self, run: RunFolder) -> list[str]:
        c, data = self.config, self._data(run)
        if c.options.diagnostic:
            run.warn("options.diagnostic: networks are given the labels; their scores show that they learn, no more")
        keys = {one.name: self._key(one, data) for one in self.combinations}
        before = {name: _kept(run / MODELS / name, key) for name, key in keys.items()}
        rows = {name: row for name, row in before.items() if row is not None}
        if rows:
            run.say(f"  {len(rows)} of {len(keys)} networks were finished before")
        failed: dict[str, str] = {}
        left = [one for one in self.combinations if one.name not in rows]
        for one, row in self._trained(run, left):
            if isinstance(row, str):
                failed[one.name] = row
                run.warn(f"{one.name}: not trained: {row}")
                continue
            rows[one.name] = row
            write_json(run / MODELS / one.name / ROW, {"key": keys[one.name], "row": row.to_json()})
            write_rows(run / ROWS, [rows[name] for name in keys if name in rows])
            score = f"{row.score_name} {with_span(row.score, row.low, row.high)}, linear {number(row.linear)}"
            run.say(f"  {len(rows) + len(failed)}/{len(keys)} {one.name}: {score}, {row.seconds:.0f} s")
        if not rows:
            raise InputError(f"none of {len(keys)} networks could be trained; the first: {next(iter(failed.values()))}")
        ordered = tuple(rows[name] for name in keys if name in rows)
        write_rows(run / ROWS, ordered)
        targets = ", ".join(target.name for target in self._people.targets)
        task = f"{len(keys)} networks ({c.combinations}) of {len(self._people)} subjects: {targets}"
        write_json(run / SCORES, ModelTable(task=task, rows=ordered, not_trained=failed).to_json())
        return [ROWS, SCORES]

    def _trained(self, run: RunFolder, left: list[Combination]) -> Iterator[tuple[Combination, "ModelRow | str"]]:
        """The row of every network, or why there is none, as they are finished."""
        c, diagnostic = self.config, self.config.options.diagnostic
        configs = [self._prediction(one, self._folder(run), run / STORES) for one in left]
        places = [run / MODELS / one.name for one in left]
        if c.jobs is not None and left:
            tasks = [(one, config, place.resolve(), diagnostic) for one, config, place in zip(left, configs, places)]
            with at("jobs"):
                for number, row in c.jobs.build().map(train_one, tasks, run / "jobs"):
                    yield left[number], row
            return
        if c.workers == 1 or len(left) < 2:
            for one, config, place in zip(left, configs, places):
                yield one, train_one(one, config, place, diagnostic)
            return
        threads = max(1, (os.cpu_count() or 1) // c.workers)
        make = get_context("spawn")
        pool = ProcessPoolExecutor(c.workers, make, initializer=torch.set_num_threads, initargs=(threads,))
        try:
            jobs = {
                pool.submit(train_one, one, config, place, diagnostic): one
                for one, config, place in zip(left, configs, places)
            }
            for job in as_completed(jobs):
                yield jobs[job], job.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _export(self, run: RunFolder) -> list[str]:
        table = ModelTable.from_json(read_json(run / SCORES), str(run / SCORES))
        config, provenance = (read_json(run / name) for name in ("config.json", "provenance.json"))
        write_model_report(run / "report.html", table, config, provenance)
        return ["report.html"]


def train_one(one: Combination, config: TraitPrediction.Config, place: Path, diagnostic: bool) -> ModelRow | str:
    """Train and judge one network in a run folder of its own, or go on with it; what is printed goes to its log alone.

    Returns:
        Its row; or why it cannot be trained.
    """
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            run_alone(config, place, resume=(place / "config.json").is_file())
        return row_of(one, read_subject_metrics(place / "metrics.json"), diagnostic)
    except InputError as error:
        return str(error)


def _kept(place: Path, key: str) -> ModelRow | None:
    """The row of a network that was finished before with the same settings and data."""
    try:
        stored = read_json(place / ROW)
        return ModelRow.from_json(stored["row"], str(place / ROW)) if stored["key"] == key else None
    except (InputError, KeyError, TypeError):
        return None

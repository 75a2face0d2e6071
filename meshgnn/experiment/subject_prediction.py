"""Traits of subjects from whole brains: read, baselines, train, evaluate, export.

G subjects, T targets, K classes of a target.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import Config as BaseConfig
from meshgnn.config import to_plain
from meshgnn.data.subject_inputs import CohortValues, SubjectInputs
from meshgnn.data.subject_split import SubjectPart, SubjectSplit, counted
from meshgnn.errors import InputError, SettingError
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import SCORES, Experiment, Stage, check_seeds
from meshgnn.experiment.subject_divisions import LEAKAGE, Division, check_members, divided, write_leaks
from meshgnn.experiment.subject_scores import Prediction, pool, subject_metrics
from meshgnn.experiment.subject_summary import (
    TABLE,
    export_subjects,
    read_subject_metrics,
    subject_summary,
    write_subjects,
)
from meshgnn.experiment.subject_training import brains_of, train_subjects
from meshgnn.experiment.summary import write_history
from meshgnn.experiment.training import MAIN, Network, controls_of
from meshgnn.nn import GraphHead, GraphSAGE, NetworkConfig
from meshgnn.source.participants import SubjectFolders
from meshgnn.source.subjects import Subjects
from meshgnn.source.virtual.subjects import VirtualSubjects
from meshgnn.store import file_hash, read_arrays, read_json, write_arrays, write_json
from meshgnn.train.fit import TrainerConfig
from meshgnn.train.graph_targets import GraphTargets
from meshgnn.train.subject_baselines import SEES, baselines, feature_tables
from meshgnn.train.subject_ensemble import SubjectEnsemble

BASELINES = "tables/baselines.safetensors"
HISTORY = ("division", "seed", "fold", "epoch", "loss", GraphTargets.watched)


class SubjectPrediction(Experiment):
    """Classification and regression of whole brains, judged beside baselines on subjects never trained on."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            cohort: VirtualSubjects, or SubjectFolders: a folder with participants.tsv and sub-*.
            inputs: which features, at which scales, with coordinates or without.
            split: how subjects are divided.
            model: GraphSAGE, GCN, GAT, MLP or PyGConv.
            head: how nodes are pooled.
            trainer: how every member is trained; an epoch is one step.
            batch: brains in a step; 0 for all training brains.
            seeds: one ensemble each; test scores are means over them.
            controls: also train the same network without neighbours and on shuffled edges; of an MLP, with messages.
            control_seeds: with how many of the seeds; 0 = all.
        """

        cohort: VirtualSubjects.Config | SubjectFolders.Config = field(default_factory=VirtualSubjects.Config)
        inputs: SubjectInputs.Config = field(default_factory=SubjectInputs.Config)
        split: SubjectSplit.Config = field(default_factory=SubjectSplit.Config)
        model: NetworkConfig = field(default_factory=GraphSAGE.Config)
        head: GraphHead.Config = field(default_factory=GraphHead.Config)
        trainer: TrainerConfig = field(default_factory=TrainerConfig)
        batch: int = 12
        seeds: tuple[int, ...] = (0, 1)
        controls: bool = True
        control_seeds: int = 1

        def __post_init__(self) -> None:
            check_seeds(self.seeds)
            if self.batch < 0 or self.control_seeds < 0:
                raise SettingError("<batch> and <control_seeds> must not be negative")

        def build(self) -> "SubjectPrediction":
            return SubjectPrediction(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    # -- the experiment socket ------------------------------------------------------------------------------------

    def input_files(self) -> dict[str, str]:
        return {str(path): file_hash(path) for path in self._subjects.files}

    def seeds(self) -> list[int]:
        return list(self.config.seeds)

    def stages(self) -> list[Stage]:
        c = self.config
        data = to_plain([c.cohort, c.inputs, c.split])
        training = to_plain([c.model, c.head, c.trainer, c.batch, list(c.seeds), c.controls, c.control_seeds])
        training[2].pop("workers")  # members do not depend on it
        return [
            Stage(name="read", run=self._read, after=(), depends=data, files=self.files),
            Stage(name="baselines", run=self._baselines, after=("read",), depends=[c.seeds[0], c.trainer.folds]),
            Stage(name="train", run=self._train, after=("read",), depends=training),
            Stage(name="evaluate", run=self._evaluate, after=("baselines", "train")),
            Stage(name="export", run=self._export, after=("evaluate",)),
        ]

    def check(self) -> None:
        """Everything that can be wrong with the subjects or the settings; raises InputError."""
        c = self.config
        c.trainer.resolved_device()
        if c.head.units == "areas" and not self._values.units:
            raise InputError(
                "the brains share no area to pool over; add a parcellation (atlas labels) to every brain, or --set "
                "head.units=nodes --set head.pooling=mean"
            )
        for subject, brain in zip(self._subjects.subjects, self._values.brains):
            if not brain.cortex.any():
                raise InputError(f"{subject.name} has no node in cortex; its mask is empty")
        check_members(self._subjects, self._divisions)

    # -- what every stage sees ------------------------------------------------------------------------------------

    @cached_property
    def _subjects(self) -> Subjects:
        return self.config.cohort.build().read()

    @cached_property
    def _values(self) -> CohortValues:
        return self.config.inputs.build().read(self._subjects)

    @cached_property
    def _divisions(self) -> list[Division]:
        c = self.config
        return divided(self._subjects, c.split, c.trainer.folds, c.seeds)

    @property
    def _parts(self) -> list[SubjectPart]:
        return [division.part for division in self._divisions]

    @cached_property
    def networks(self) -> dict[str, Network]:
        """Every network that is trained, by name."""
        c = self.config
        main = Network(config=c.model, sees="everything", seeds=c.seeds)
        return {MAIN: main} | (controls_of(main, c.control_seeds) if c.controls else {})

    # -- stages ---------------------------------------------------------------------------------------------------

    def _read(self, run: RunFolder) -> list[str]:
        for warning in self._subjects.warnings:
            run.warn(warning)
        counts = ", ".join(f"{name} {count}" for name, count in counted(self._subjects).items())
        run.say(f"  {counts}; features: {', '.join(self._values.features)}; areas: {len(self._values.units) // 2}")
        leakage = write_leaks(run, self._subjects, self._parts)
        write_subjects(run / "tables" / "subjects.tsv", self._subjects, self._parts)
        return [leakage, "tables/subjects.tsv"]

    def _baselines(self, run: RunFolder) -> list[str]:
        c, subjects = self.config, self._subjects
        shared = read_json(run / LEAKAGE)["shared_sites"] > 0
        kept: dict[str, NDArray[Any]] = {}
        for division in self._divisions:
            made, _ = c.inputs.build().fit(subjects, self._values, division.part.train)
            tables = feature_tables(self._values, np.stack([brain.whole for brain in made]))
            found = baselines(
                subjects.targets, subjects.values, tables, division.part.train,
                division.validation[: c.trainer.folds], subjects.groups("site") if shared else None,
            )  # fmt: skip
            pool(kept, {name: dict(enumerate(own)) for name, own in found.items()}, division.part)
        write_arrays(run / BASELINES, kept)
        return [BASELINES]

    def _train(self, run: RunFolder) -> list[str]:
        c = self.config
        history, files = train_subjects(
            run, self.networks, self._divisions, self._subjects, self._values, c.inputs, c.head, c.trainer, c.batch
        )
        write_history(run / "metrics.csv", history, HISTORY)
        return [*files, "metrics.csv"]

    def _evaluate(self, run: RunFolder) -> list[str]:
        c, subjects = self.config, self._subjects
        kept: dict[str, NDArray[Any]] = {}
        networks = self.networks
        loaded = {name: SubjectEnsemble.load(run / network.place) for name, network in networks.items()}
        for number, division in enumerate(self._divisions):
            made, _ = c.inputs.build().fit(subjects, self._values, division.part.train)
            for name, network in networks.items():
                by_seed = loaded[name].predict(brains_of(network, made), number)
                found = {f"{name}:{seed}": dict(enumerate(own)) for seed, own in by_seed.items()}
                pool(kept, found, division.part)
        stored = read_arrays(run / BASELINES)
        names = list(dict.fromkeys(name.split("/")[0] for name in sorted(stored)))
        rows = {name: Prediction(sees=SEES[name], by_seed=(_targets(stored, name, subjects),)) for name in names}
        for name, network in networks.items():
            each = tuple(_targets(kept, f"{name}:{seed}", subjects) for seed in network.seeds)
            rows[name] = Prediction(sees=network.sees, by_seed=each, fits=c.trainer.folds)
        metrics = subject_metrics(
            subjects, self._divisions, rows, read_json(run / LEAKAGE), seeds=tuple(c.seeds),
            model=to_plain(c.model)["_"], head=to_plain(c.head), features=tuple(self._values.features),
            coordinates=c.inputs.coordinates,
            not_run={} if self._values.units else {"parcel_means": "the brains share no parcellation"},
        )  # fmt: skip
        write_arrays(run / "tables" / "predictions.safetensors", kept)
        write_subjects(run / TABLE, subjects, self._parts, rows[MAIN].together())
        write_json(run / SCORES, metrics.to_json())
        return ["tables/predictions.safetensors", TABLE, SCORES]

    def _export(self, run: RunFolder) -> list[str]:
        return export_subjects(run)

    def summary(self, run: RunFolder) -> str:
        return subject_summary(read_subject_metrics(run / "metrics.json"), run.path)


def _targets(stored: Mapping[str, NDArray[Any]], name: str, subjects: Subjects) -> list[NDArray[np.float64]]:
    """One array per target."""
    return [stored[f"{name}/{column}"] for column in range(len(subjects.targets))]

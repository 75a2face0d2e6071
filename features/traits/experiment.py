"""Traits of subjects from images, connectivity and tables: drawn or read, converted, trained, judged beside baselines.

G subjects, T targets, K classes of a target.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from features.fusion.concatenation import Concatenation
from features.fusion.multi_input_net import Fusion, MultiInputNet
from features.fusion.trait_head import TraitHead
from features.parallel.ranks import Ranks, joined
from features.subject_data.convert import VolumeConversion
from features.subject_data.run_conversion import RunConversion
from features.traits.cohort import (
    BAD_ITEMS,
    DRAWN,
    STORES,
    CohortConfig,
    check_confounds,
    check_runs,
    check_stores,
    confound_table,
    convert,
    convert_runs,
    draw,
    hashes_of,
    images_of,
    items_of,
    needs_conversion,
    needs_runs,
    of_folder,
    participants_of,
    placed,
    some_of,
    write_bad_items,
)
from features.traits.items import TraitInput, TraitItems
from features.traits.linear import linear_tables, sees
from features.traits.members import PlacedMember, members_of, predictions
from features.traits.pooled import tested
from features.traits.rows import prediction_rows
from features.traits.training import TraitTrainer, train_member
from features.transfer.pretrained import Pretrained
from meshgnn.config import Config as BaseConfig
from meshgnn.config import at, to_plain
from meshgnn.data.residualizer import Residualizer
from meshgnn.data.stored_split import save_split
from meshgnn.data.subject_split import SubjectPart, SubjectSplit, counted
from meshgnn.data.target_transform import ScoreTarget, TransformConfig
from meshgnn.errors import SettingError
from meshgnn.experiment.progress import Bars
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import SCORES, Experiment, Stage, check_seeds
from meshgnn.experiment.subject_divisions import LEAKAGE, Division, check_members, divided, write_leaks
from meshgnn.experiment.subject_scores import pool, subject_metrics
from meshgnn.experiment.subject_summary import (
    TABLE,
    export_subjects,
    read_subject_metrics,
    subject_summary,
    write_subjects,
)
from meshgnn.experiment.summary import write_history
from meshgnn.experiment.training import MAIN
from meshgnn.ranks import rank_and_world
from meshgnn.source.participant_table import Participants, ParticipantTable
from meshgnn.source.virtual.images import VirtualImages
from meshgnn.store import read_arrays, read_json, write_arrays, write_json
from meshgnn.train.subject_baselines import baselines, nothing_left

BASELINES = "tables/baselines.safetensors"
HISTORY = ("network", "division", "seed", "fold", "epoch", "loss", "validation_skill")


class TraitPrediction(Experiment):
    """Classification and regression of subjects by networks of several inputs, any of which a subject may lack.

    Every setting that looks at targets - standardisation, transforms, confound regression, penalties, early stopping -
    sees the training part of a division alone.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            cohort: VirtualImages, drawn into the run; or ParticipantTable: a folder with participants.tsv and sub-*.
            targets: of virtual images, all if none are named (those of a folder stand in cohort.targets).
            most_subjects: so many at most, drawn by split.seed, the fewer among the more; 0 takes all.
            inputs: what there is of a subject, and how each is encoded.
            conversion: of volumes that are not in a store yet.
            runs: of runs over time that are not in a store yet.
            fusion, head: how inputs are joined, and what follows.
            input_dropout: share of a subject's inputs that are left out at random in training, never the last one.
            main: inputs of the network that is compared with all others; all of them if none are named.
            alone: also train the same network on every single input.
            confounds: regressed out of numbers by the training subjects, before anything is learnt or judged; columns
                of participants.tsv.
            zero: also judge the prediction 0 of every number, where a target is what is left without confounds.
            transform: of numbers, for the network, which gets them standardised after it.
            split: how subjects are divided.
            trainer: how every member is trained.
            seeds: one ensemble each; scores are means over them.
        """

        cohort: CohortConfig = field(default_factory=VirtualImages.Config)
        targets: tuple[str, ...] = ()
        most_subjects: int = 0
        inputs: tuple[TraitInput, ...]
        conversion: VolumeConversion.Config = field(default_factory=VolumeConversion.Config)
        runs: RunConversion.Config = field(default_factory=RunConversion.Config)
        fusion: Fusion = field(default_factory=Concatenation.Config)
        head: TraitHead.Config = field(default_factory=TraitHead.Config)
        input_dropout: float = 0.0
        main: tuple[str, ...] = ()
        alone: bool = True
        confounds: Residualizer.Config = field(default_factory=Residualizer.Config)
        zero: bool = False
        transform: TransformConfig = field(default_factory=ScoreTarget.Config)
        split: SubjectSplit.Config = field(default_factory=SubjectSplit.Config)
        trainer: TraitTrainer = field(default_factory=TraitTrainer)
        seeds: tuple[int, ...] = (0,)

        def __post_init__(self) -> None:
            check_seeds(self.seeds)
            if self.most_subjects < 0:
                raise SettingError("<most_subjects> must not be negative")
            names = tuple(one.name for one in self.inputs)
            self.network(names)
            if wrong := [name for name in self.main if name not in names]:
                raise SettingError(f"<main> names {wrong[0]!r}; there are {', '.join(names)}")

        def network(self, names: tuple[str, ...]) -> MultiInputNet.Config:
            """The network on some of the inputs."""
            with at("inputs"):
                whole = MultiInputNet.Config(
                    blocks=tuple(one.block() for one in self.inputs), fusion=self.fusion, head=self.head,
                    input_dropout=self.input_dropout,
                )  # fmt: skip
            return whole.only(names)

        def build(self) -> "TraitPrediction":
            return TraitPrediction(self)

    def __init__(self, config: Config) -> None:
        self.config = config
        self._kept: dict[int, TraitItems] = {}

    # -- the experiment socket ------------------------------------------------------------------------------------

    @property
    def drawn(self) -> bool:
        """Whether the cohort is a virtual one."""
        return not isinstance(self.config.cohort, ParticipantTable.Config)

    def _folder(self, run: RunFolder | None) -> Path:
        """Of the cohort; of a virtual one only once there is a run."""
        if isinstance(self.config.cohort, ParticipantTable.Config):
            return self.config.cohort.folder
        return run / DRAWN if run else Path()

    def input_files(self) -> dict[str, str]:
        if self.drawn:
            return {}
        c = self.config
        folder = self._folder(None)
        files = [path for one in c.inputs for path in placed(one, folder, Path(STORES), c.targets).files()]
        images = [images_of(c.conversion, folder, one.name) for one in c.inputs if needs_conversion(one)]
        if needs_runs(c.inputs):
            runs = of_folder(c.runs, folder)
            images.append(runs.images)
            files += runs.build().beside()
        return hashes_of(folder, files, images)

    def seeds(self) -> list[int]:
        return list(self.config.seeds)

    def team(self) -> Ranks:
        if self.config.trainer.parallel.mode == "one":
            raise SettingError(
                "several ranks were started; set <trainer.parallel.mode> to what they share: data, model, ..."
            )
        return joined()

    def check(self) -> None:
        """Everything that can be wrong with the table, the split or the settings; raises InputError."""
        c, people = self.config, self._people
        with at("confounds"):
            check_confounds(c.cohort, people, c.confounds.confounds)
        check_stores(c.inputs)
        check_runs(c.inputs)
        check_members(people, self._divisions)

    def stages(self) -> list[Stage]:
        c, files = self.config, self.files
        data = to_plain([c.cohort, c.targets, c.most_subjects, c.split, c.confounds])
        made = ("draw",) if self.drawn else ()
        converted = [one.name for one in c.inputs if needs_conversion(one)]
        inputs = [to_plain(one.data) for one in c.inputs]
        networks: list[Any] = [
            [[one.block(), one.pretrained] for one in c.inputs],
            c.fusion,
            c.head,
            c.input_dropout,
            c.alone,
        ]
        networks += [c.main] if c.main else []
        learning = to_plain([networks, c.trainer, c.transform, c.seeds])
        linear = to_plain([c.seeds[0], c.trainer.folds, c.zero])
        found = [Stage(name="draw", run=self._draw, after=(), depends=to_plain(c.cohort))] if self.drawn else []
        if converted or needs_runs(c.inputs):
            depends = [to_plain(c.conversion), converted, *([to_plain(c.runs)] if needs_runs(c.inputs) else [])]
            found.append(Stage(name="convert", run=self._convert, after=made, depends=depends, files=files))
            made = ("convert",)
        return [
            *found,
            Stage(name="read", run=self._read, after=made, depends=[data, inputs], files=files),
            Stage(name="baselines", run=self._baselines, after=("read",), depends=linear),
            Stage(name="train", run=self._train, after=("read",), depends=learning, version=3, follow=self._trained),
            Stage(name="evaluate", run=self._evaluate, after=("baselines", "train"), version=3),
            Stage(name="export", run=self._export, after=("evaluate",)),
        ]

    # -- what every stage sees ------------------------------------------------------------------------------------

    @cached_property
    def _people(self) -> Participants:
        c = self.config
        return some_of(participants_of(c.cohort, c.targets), c.most_subjects, c.split.seed)

    @cached_property
    def _divisions(self) -> list[Division]:
        c = self.config
        return divided(self._people, c.split, c.trainer.folds, c.seeds)

    @property
    def _parts(self) -> list[SubjectPart]:
        return [division.part for division in self._divisions]

    def _items(self, run: RunFolder, number: int) -> TraitItems:
        """The inputs, standardised by the training subjects of a division."""
        if number not in self._kept:
            train = self._divisions[number].part.train
            place = self._folder(run), run / STORES
            self._kept = {number: items_of(self.config.inputs, self._people, train, *place)}
        return self._kept[number]

    def _values(self, run: RunFolder, number: int) -> NDArray[np.float64]:
        """[G, T] targets of a division: what is left of numbers without the confounds, by its training subjects."""
        c, people = self.config, self._people
        values = np.array(people.values)
        columns = [column for column, target in enumerate(people.targets) if not target.classes]
        if c.confounds.confounds and columns:
            table = confound_table(c.cohort, self._folder(run), people)
            with at("confounds"):
                fitted = c.confounds.build(table, values[:, columns], self._divisions[number].part.train)
                values[:, columns] = fitted.apply(table, values[:, columns])
            if not rank_and_world()[0]:
                fitted.save(run / "tables" / f"confounds-{number}.json")
        return values

    @cached_property
    def networks(self) -> dict[str, tuple[str, ...]]:
        """Name -> inputs of every network that is trained."""
        names = tuple(one.name for one in self.config.inputs)
        found = {MAIN: self.config.main or names}
        if self.config.alone and len(names) > 1:
            found |= {f"{name}_alone": (name,) for name in names if (name,) != found[MAIN]}
        return found

    # -- stages ---------------------------------------------------------------------------------------------------

    def _draw(self, run: RunFolder) -> list[str]:
        assert not isinstance(self.config.cohort, ParticipantTable.Config)
        return draw(self.config.cohort, run)

    def _convert(self, run: RunFolder) -> list[str]:
        files: list[str] = []
        for number, one in enumerate(self.config.inputs):
            if needs_conversion(one):
                with at(f"inputs.{number}"):
                    files += convert(run, self.config.conversion, self._folder(run), one.name)
        if needs_runs(self.config.inputs):
            with at("runs"):
                files += convert_runs(run, self.config.runs, self._folder(run))
        return files

    def _read(self, run: RunFolder) -> list[str]:
        c, people = self.config, self._people
        run.say(f"  {', '.join(f'{name} {count}' for name, count in counted(people).items())}")
        items = self._items(run, 0)
        for number, name in enumerate(items.names):
            run.say(f"  {name}: {int(items.present[:, number].sum())} subjects, items {items.shapes[name]}")
        classes = [len(target.classes) for target in people.targets]
        with torch.device("meta"):  # encoders that do not take these items are named before anything is trained
            c.network(items.names).build(items.shapes, classes)
        without = [name for name, there in zip(people.ids, items.usable) if not there]
        if without:
            listed = ", ".join(without[:5]) + (", ..." if len(without) > 5 else "")
            run.warn(f"{len(without)} subjects have none of the inputs; the network says nothing of them ({listed})")
        write_bad_items(run, items)
        leakage = write_leaks(run, people, self._parts)
        save_split(run / "tables" / "split.json", people, self._parts)
        write_subjects(run / "tables" / "subjects.tsv", people, self._parts)
        write_json(run / "tables" / "left_out.json", without)
        return [leakage, "tables/split.json", "tables/subjects.tsv", "tables/left_out.json", BAD_ITEMS]

    def _baselines(self, run: RunFolder) -> list[str]:
        c, people = self.config, self._people
        shared = read_json(run / LEAKAGE)["shared_sites"] > 0
        kept: dict[str, NDArray[Any]] = {}
        for number, division in enumerate(self._divisions):
            values = self._values(run, number)
            found = baselines(
                people.targets, values, linear_tables(self._items(run, number)), division.part.train,
                division.validation[: c.trainer.folds], people.groups("site") if shared else None,
            )  # fmt: skip
            if c.zero:
                found["zero"] = nothing_left(people.targets, found["constant"])
            pool(kept, {name: dict(enumerate(own)) for name, own in found.items()}, division.part)
        write_arrays(run / BASELINES, kept)
        return [BASELINES]

    def _members(self, run: RunFolder, number: int, values: NDArray[np.float64]) -> list[PlacedMember]:
        """Every member of a division with these values."""
        c, people = self.config, self._people
        networks = {name: (c.network(inputs), inputs) for name, inputs in self.networks.items()}
        found = members_of(
            networks, self.starts(run, number), self._items(run, number),
            people, values, self._divisions[number], c.transform, c.seeds, c.trainer.folds,
        )  # fmt: skip
        return [replace(one, place=run / "networks" / one.network / f"division{number}" / one.place) for one in found]

    def starts(self, run: RunFolder, number: int) -> dict[str, Pretrained.Config]:
        """Weights that encoders start from in a division, by the name of their input."""
        return {one.name: one.pretrained for one in self.config.inputs if one.pretrained.file}

    def _train(self, run: RunFolder) -> list[str]:
        history, files = self._trained(run)
        write_history(run / "metrics.csv", history, HISTORY)
        return [*files, "metrics.csv"]

    def _trained(self, run: RunFolder) -> tuple[list[dict[str, Any]], list[str]]:
        """Train all members; every epoch of theirs, and their files. All ranks call it."""
        history, files = [], []
        for number in range(len(self._divisions)):
            for one in self._members(run, number, self._values(run, number)):
                prefix = f"{one.network}, division {number + 1}, seed {one.seed}, fold {one.fold + 1}: "
                _, rows = train_member(one.member, self.config.trainer, one.place, Bars(run, prefix))
                about = {"network": one.network, "division": number, "seed": one.seed, "fold": one.fold}
                history += [{**about, **row} for row in rows]
                names = ("network.safetensors", "network.json")
                files += [str((one.place / name).relative_to(run.path)) for name in names]
        return history, files

    def _evaluate(self, run: RunFolder) -> list[str]:
        c, people = self.config, self._people
        kept: dict[str, NDArray[Any]] = {}
        truth = np.array(people.values)
        for number, division in enumerate(self._divisions):
            values = self._values(run, number)
            truth[division.part.test] = values[division.part.test]
            members = self._members(run, number, values)
            pool(kept, predictions(members, people, values, division.part.train, c.transform, c.trainer), division.part)
        judged = replace(people, values=truth)
        items = self._items(run, 0)
        stored = read_arrays(run / BASELINES)
        linear = {key.split("/")[0] for key in stored}
        about = {"constant": "nothing", "zero": "nothing", "site": "the site", **sees(items, linear)}
        rows, filled = prediction_rows(
            stored, kept, self.networks, c.seeds, c.trainer.folds, about, tested(self._parts)
        )
        if filled:
            run.say(f"  up to {filled} tested subjects lack all inputs of a network and get the constant prediction")
        name = f"{c.main[0]}_alone" if len(c.main) == 1 else "MultiInputNet"
        metrics = subject_metrics(
            judged, self._divisions, rows, read_json(run / LEAKAGE), seeds=tuple(c.seeds),
            model=name, head=to_plain(c.head), features=items.names, coordinates=False, not_run={},
        )  # fmt: skip
        write_arrays(run / "tables" / "predictions.safetensors", kept)
        write_subjects(run / TABLE, judged, self._parts, rows[MAIN].together())
        write_json(run / SCORES, metrics.to_json())
        return ["tables/predictions.safetensors", TABLE, SCORES]

    def _export(self, run: RunFolder) -> list[str]:
        return export_subjects(run)

    def summary(self, run: RunFolder) -> str:
        return subject_summary(read_subject_metrics(run / "metrics.json"), run.path)

"""Scratch against pretrained at growing numbers of subjects, judged on one fixed test part.

G subjects, K classes of the target, or 1 of a number.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from features.fusion.model_files import load_network
from features.fusion.multi_input_net import MultiInputNet
from features.fusion.trait_head import TraitHead
from features.subject_data.convert import VolumeConversion
from features.subject_data.volumes import SubjectVolumes
from features.sweep.judging import judged_sweep
from features.sweep.report import sweep_summary, write_sweep_report
from features.sweep.shapes import Shapes
from features.sweep.subsets import Subset, nested
from features.sweep.surrogate import PLACE, SurrogateConfig, pretrain, pretrained_weights
from features.traits.cohort import (
    DRAWN,
    STORES,
    ImageCohort,
    convert,
    draw,
    hashes_of,
    images_of,
    items_of,
    needs_conversion,
    participants_of,
)
from features.traits.items import TraitInput, TraitItems
from features.traits.linear import linear_tables
from features.traits.pooled import in_own_units, scaled
from features.traits.training import TraitMember, TraitTrainer, predict, train_member
from features.transfer.pretrained import Pretrained
from features.transfer.schedule import TransferSchedule
from meshgnn.config import Config as BaseConfig
from meshgnn.config import at, to_plain
from meshgnn.data.subject_split import SubjectPart, SubjectSplit
from meshgnn.data.target_transform import ScoreTarget, TransformConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import SCORES, Experiment, Stage
from meshgnn.experiment.summary import write_history
from meshgnn.results import SweepMetrics
from meshgnn.source.participant_table import Participants, ParticipantTable
from meshgnn.source.subjects import Target
from meshgnn.source.virtual.images import VirtualImages
from meshgnn.store import file_hash, read_arrays, read_json, write_arrays, write_json
from meshgnn.train.subject_baselines import constant, linear

Mode = Literal["head", "full", "gradual"]
SCRATCH, RANDOM = "scratch", "random_head"
PREDICTIONS = "tables/predictions.safetensors"
HISTORY = ("method", "subjects", "seed", "epoch", "loss", "validation_skill")


class TransferSweep(Experiment):
    """How many subjects pretraining is worth, in the spirit of "From YouTube to the brain" (Malik & Bzdok 2022, Neural
    Networks 153:325-338, 10.1016/j.neunet.2022.06.014), whose sizes, slices and schedules are not published.

    For every seed the training subjects are put into one order by families; a subset is its first n, so that each lies
    within the next, and every fourth family of it stops the training: n is all that a network has seen labels of. What
    is learnt of images (mean and standard deviation) comes from the same subjects. The test part is fixed. Weights come
    from the input's `pretrained.file`, or from a surrogate that is trained in the run and needs no network.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            cohort: VirtualImages, drawn into the run; or ParticipantTable: a folder, whose cohort.targets names one.
            target: of virtual images.
            input: volumes and their encoder.
            conversion: of volumes that are not in a store yet.
            surrogate: what the encoder is pretrained on, where input.pretrained names no file: Shapes or OtherSubjects.
            pretraining: how; one member, `folds` is not used.
            modes: schedules of the pretrained network: head, full, gradual.
            random_head: also train a head on the frozen encoder as it was drawn.
            head: from features to the target.
            transform: of a number.
            split: the first part tests; the others are what subsets are taken from.
            sizes: numbers of subjects, ascending; 0 at the end for all.
            seeds: of subsets and starts.
            trainer: of every network; `folds` and schedule.mode are not used.
        """

        cohort: ImageCohort = field(default_factory=VirtualImages.Config)
        target: str = "sex"
        input: TraitInput
        conversion: VolumeConversion.Config = field(default_factory=VolumeConversion.Config)
        surrogate: SurrogateConfig = field(default_factory=Shapes.Config)
        pretraining: TraitTrainer = field(default_factory=TraitTrainer)
        modes: tuple[Mode, ...] = ("full", "gradual", "head")
        random_head: bool = True
        head: TraitHead.Config = field(default_factory=lambda: TraitHead.Config(widths=()))
        transform: TransformConfig = field(default_factory=ScoreTarget.Config)
        split: SubjectSplit.Config = field(
            default_factory=lambda: SubjectSplit.Config(cross=False, keep=("family",), alike=("site",))
        )
        sizes: tuple[int, ...] = (50, 100, 200, 0)
        seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
        trainer: TraitTrainer = field(default_factory=TraitTrainer)

        def __post_init__(self) -> None:
            known = [size for size in self.sizes if size]
            rising = sorted(set(known)) == known and 0 not in self.sizes[:-1] and min(known, default=8) >= 8
            if not self.sizes or not rising:
                raise SettingError("<sizes> must ascend from 8 or more; a 0 at the end stands for all")
            if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
                raise SettingError("<seeds> must be one or more different numbers, none negative")
            if len(set(self.modes)) < len(self.modes) or not (self.modes or self.random_head):
                raise SettingError("<modes> must name schedules, each once")
            if not isinstance(self.input.data, SubjectVolumes.Config):
                raise SettingError("<input> must be volumes (SubjectVolumes)")

        def build(self) -> "TransferSweep":
            return TransferSweep(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    # -- what there is --------------------------------------------------------------------------------------------

    @cached_property
    def _people(self) -> Participants:
        c = self.config
        return participants_of(c.cohort, (c.target,))

    @property
    def _target(self) -> Target:
        return self._people.targets[0]

    @cached_property
    def _part(self) -> SubjectPart:
        return self.config.split.build().apply(self._people)[0]

    def _folder(self, run: RunFolder | None) -> Path:
        if isinstance(self.config.cohort, ParticipantTable.Config):
            return self.config.cohort.folder
        return run / DRAWN if run else Path()

    def _items(self, run: RunFolder, train: NDArray[np.bool_]) -> TraitItems:
        return items_of((self.config.input,), self._people, train, self._folder(run), run / STORES)

    def _subsets(self, run: RunFolder, seed: int) -> list[Subset]:
        known = np.isfinite(self._people.values[:, 0]) & self._items(run, self._part.train).usable
        families = self._people.groups("family")
        return nested(self._part.train & known, families, self._people.values[:, 0], self.config.sizes, seed)

    @property
    def methods(self) -> dict[str, tuple[Mode, bool]]:
        """Schedule of every method, and whether it starts from pretrained weights."""
        found: dict[str, tuple[Mode, bool]] = {SCRATCH: ("full", False)}
        found |= {f"pretrained_{mode}": (mode, True) for mode in self.config.modes}
        return found | ({RANDOM: ("head", False)} if self.config.random_head else {})

    # -- the experiment socket ------------------------------------------------------------------------------------

    def input_files(self) -> dict[str, str]:
        c = self.config
        own = [c.input.pretrained.file] if c.input.pretrained.file else []
        if isinstance(c.cohort, VirtualImages.Config):
            return {str(path): file_hash(path) for path in own if path.is_file()}
        folder = self._folder(None)
        images = [images_of(c.conversion, folder, c.input.name)] if needs_conversion(c.input) else []
        return hashes_of(folder, [*c.input.data.files(), *own], images)

    def seeds(self) -> list[int]:
        return list(self.config.seeds)

    def check(self) -> None:
        """Targets, sizes and the file of weights; raises InputError."""
        c = self.config
        if len(self._people.targets) != 1:
            raise InputError("cohort.targets must name one target: every curve is that of one")
        inside = int((self._part.train & np.isfinite(self._people.values[:, 0])).sum())
        if max(c.sizes) > inside:
            raise InputError(
                f"sizes asks for {max(c.sizes)} subjects, but the target is known for {inside} of the training part"
            )
        if c.input.pretrained.file:
            with at("input.pretrained"):
                c.input.pretrained.build()

    def stages(self) -> list[Stage]:
        c, files = self.config, self.files
        found, made = [], tuple[str, ...]()
        if isinstance(c.cohort, VirtualImages.Config):
            found.append(Stage(name="draw", run=self._draw, after=(), depends=to_plain(c.cohort)))
            made = ("draw",)
        if needs_conversion(c.input):
            depends = to_plain([c.conversion, c.input.name])
            found.append(Stage(name="convert", run=self._convert, after=made, depends=depends, files=files))
            made = ("convert",)
        learnt = to_plain([c.input, c.surrogate, c.pretraining, c.conversion])
        taught = [c.cohort, c.target, c.input, c.modes, c.random_head, c.head, c.transform, c.split, c.sizes, c.seeds]
        return [
            *found,
            Stage(name="pretrain", run=self._pretrain, after=made, depends=learnt, files=files),
            Stage(name="train", run=self._train, after=("pretrain",), depends=to_plain([*taught, c.trainer])),
            Stage(name="evaluate", run=self._evaluate, after=("train",)),
            Stage(name="export", run=self._export, after=("evaluate",)),
        ]

    def summary(self, run: RunFolder) -> str:
        path = run / "metrics.json"
        return sweep_summary(SweepMetrics.from_json(read_json(path), str(path)), run.path)

    # -- stages ---------------------------------------------------------------------------------------------------

    def _draw(self, run: RunFolder) -> list[str]:
        assert isinstance(self.config.cohort, VirtualImages.Config)
        return draw(self.config.cohort, run)

    def _convert(self, run: RunFolder) -> list[str]:
        return convert(run, self.config.conversion, self._folder(run), self.config.input.name)

    def _pretrain(self, run: RunFolder) -> list[str]:
        c, files, skill = self.config, list[str](), None
        if c.modes and not c.input.pretrained.file:
            shape = self._items(run, self._part.train).shapes[c.input.name]
            files, skill = pretrain(run, c.surrogate, c.input, shape, c.conversion, c.pretraining)
            run.say(f"  the encoder's skill on its own task is {skill:.3f} (0: the constant, 1: perfect)")
        write_json(run / PLACE / "pretraining.json", {"skill": skill})
        return [*files, f"{PLACE}/pretraining.json"]

    def _members(self, run: RunFolder) -> Iterator[tuple[str, int, Subset, TraitMember, TraitTrainer, Path]]:
        """Every network: method, seed, subset, what it trains on and how, its folder."""
        c, people = self.config, self._people
        start = c.input.pretrained
        if c.modes and not start.file:
            start = pretrained_weights(run)
        network = MultiInputNet.Config(blocks=(c.input.block(),), head=c.head)
        for seed in c.seeds:
            for subset in self._subsets(run, seed):
                items = self._items(run, subset.chosen)
                values, _ = scaled(people.targets, people.values, subset.chosen, c.transform)
                for name, (mode, begun) in self.methods.items():
                    weights: dict[str, Pretrained.Config] = {c.input.name: start} if begun else {}
                    member = TraitMember(
                        network=network, items=items, values=values, classes=(len(self._target.classes),),
                        train=subset.fit, validation=subset.judged, seed=seed, pretrained=weights,
                    )  # fmt: skip
                    schedule: TransferSchedule.Config = replace(c.trainer.schedule, mode=mode)
                    place = run / "networks" / name / f"subjects{subset.size}-seed{seed}"
                    yield name, seed, subset, member, replace(c.trainer, schedule=schedule), place

    def _train(self, run: RunFolder) -> list[str]:
        history, files, total = [], [], len(self.methods) * len(self.config.sizes) * len(self.config.seeds)
        for number, (name, seed, subset, member, trainer, place) in enumerate(self._members(run), 1):
            _, rows = train_member(member, trainer, place)
            best = max(row["validation_skill"] for row in rows)
            run.say(f"  {number}/{total} {name}, {subset.size} subjects, seed {seed}: validation skill {best:.3f}")
            about = {"method": name, "subjects": subset.size, "seed": seed}
            history += [{**about, **row} for row in rows]
            files += [str((place / file).relative_to(run.path)) for file in ("network.safetensors", "network.json")]
        write_history(run / "metrics.csv", history, HISTORY)
        return [*files, "metrics.csv"]

    def _evaluate(self, run: RunFolder) -> list[str]:
        c, people, target = self.config, self._people, self._target
        whole = self._items(run, self._part.train)
        tested = self._part.test & np.isfinite(people.values[:, 0]) & whole.usable
        rows = np.flatnonzero(tested)
        (table,) = linear_tables(whole).values()
        kept: dict[str, NDArray[Any]] = {}
        sizes: list[int] = []
        for name, seed, subset, member, trainer, place in self._members(run):
            sizes.append(subset.size)
            _, scales = scaled(people.targets, people.values, subset.chosen, c.transform)
            outputs = predict(load_network(place), member.items, rows, trainer.sampler.size)
            kept[f"{name}/{subset.size}/{seed}"] = in_own_units(outputs, member.classes, scales)[0]
            if name == SCRATCH:
                own = people.values[:, 0]
                said, _ = linear(target, table, own, subset.chosen, subset.judged[None])
                kept[f"linear/{subset.size}/{seed}"] = said[rows]
                kept[f"constant/{subset.size}/{seed}"] = constant(target, own, subset.chosen)[rows]
        write_arrays(run / PREDICTIONS, kept)
        kept = {name: np.asarray(value, np.float64) for name, value in read_arrays(run / PREDICTIONS).items()}
        families = [people.groups("family")[row] for row in rows]
        metrics = judged_sweep(
            target, people.values[rows, 0], families, kept, methods=(*self.methods, "linear", "constant"),
            sizes=tuple(sorted(set(sizes))), seeds=c.seeds, skill=read_json(run / PLACE / "pretraining.json")["skill"],
            whole=len(people),
        )  # fmt: skip
        write_json(run / SCORES, metrics.to_json())
        return [PREDICTIONS, SCORES]

    def _export(self, run: RunFolder) -> list[str]:
        metrics = SweepMetrics.from_json(read_json(run / SCORES), str(run / SCORES))
        config, provenance = (read_json(run / name) for name in ("config.json", "provenance.json"))
        write_sweep_report(run / "report.html", metrics, config, provenance)
        with (run / "curves.tsv").open("w", newline="") as handle:
            points = [point.to_json() for point in metrics.points]
            names = list(dict.fromkeys(name for point in points for name in point))
            writer = csv.DictWriter(handle, names, restval="n/a", delimiter="\t", lineterminator="\n")
            writer.writeheader()
            writer.writerows(points)
        return ["report.html", "curves.tsv"]

"""Objectives compared on one budget: encoders trained on few annotated sections, judged on brains never seen.

Patches are read at the true places of nodes, or are fields in which single cells are seen, so that nothing but the
encoder makes the difference.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from features.encoders.section_cnn import SectionCNN
from features.judging.judge import SHARES, annotated_sections, described, probed
from features.judging.pixels import raw_pixels
from features.judging.report import curve_rows, study_summary, write_judging_report
from features.judging.scores import Rows
from features.judging.true_nodes import TrueNodes, read_true_nodes, write_true_fields, write_true_nodes
from features.model_files import NodeEncoder, new_encoder
from features.node_data.cortical_patches import CorticalPatches
from features.node_data.field_patches import FieldPatches
from features.node_data.section_patches import SectionPatches
from features.objectives.contrastive import SupervisedContrastive
from features.objectives.cross_entropy import CrossEntropy
from features.objectives.distance_regression import DistanceRegression
from features.objectives.nt_xent import NTXent
from features.pretrain import PretrainConfig, pretrain
from features.pretraining.probes import embed
from features.samplers.balanced import BalancedBatches
from features.samplers.distance_pairs import DistancePairs
from features.samplers.spatial_pairs import SpatialPairs
from meshgnn.config import Config as BaseConfig
from meshgnn.config import to_plain
from meshgnn.errors import SettingError
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import SCORES, Experiment, Stage, check_seeds
from meshgnn.source.virtual import VirtualBrain
from meshgnn.source.virtual.settings import VERSION
from meshgnn.store import content_hash, read_json, write_json

Method = Literal[
    "scratch", "supcon", "supcon_classes", "distance", "spatial", "distance_tuned", "spatial_tuned", "untrained", "pca",
    "profiles",
]  # fmt: skip
LABELLED = ("scratch", "supcon", "supcon_classes")  # trained anew for every share
STARTS = {"distance_tuned": "distance", "spatial_tuned": "spatial"}
FREE = ("untrained", "pca", "profiles")


class JudgingStudy(Experiment):
    """Scratch, distance, contrastive and self-supervised encoders at growing shares of annotated sections."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            brain: what brains are like.
            train: seeds of the brains that are learnt from; the share of annotated sections counts over all of them.
            test: seeds of the brains that judge; nothing is chosen on them.
            shares: of annotated sections.
            methods: scratch (cross-entropy); supcon and supcon_classes (supervised contrastive without and with class
                logits); distance and spatial (no labels, all sections: distance regression, NT-Xent with spatial
                positives), as they are, or `_tuned`: trained on by cross-entropy with the budget of scratch; untrained;
                pca (of raw pixels); profiles.
            per_section: nodes of a section, at most.
            within_mm: a node counts for a section this near.
            data: what an encoder sees: SectionPatches or CorticalPatches at nodes, or FieldPatches of a brain with
                fields of cells (`brain.preset=cells`; all of its fields count, and `per_section` and `within_mm` do
                not).
            encoder: the network of all methods.
            steps: of every training.
            unlabelled_steps: of trainings without labels; 0 = as many as `steps`.
            classes, patches: of a labelled batch; unlabelled batches hold as many items.
            micro: items encoded at a time (gradient caching); 0 = all.
            views: augmented views of each item in contrastive losses.
            temperature, radius_um: of contrastive losses; of spatial positives.
            classify: weight of the class logits of supcon_classes.
            seeds: of starts, batches and the order of annotated sections.
            components: of pca.
        """

        brain: VirtualBrain.Config = field(
            default_factory=lambda: VirtualBrain.Config(preset="quick", hemispheres="L", subdivisions=0)
        )
        train: tuple[int, ...] = (1, 2, 3)
        test: tuple[int, ...] = (4, 5, 6, 7, 8)
        shares: tuple[float, ...] = SHARES
        methods: tuple[Method, ...] = get_args(Method)
        per_section: int = 40
        within_mm: float = 1.0
        data: SectionPatches.Config | CorticalPatches.Config | FieldPatches.Config = field(
            default_factory=SectionPatches.Config
        )
        encoder: SectionCNN.Config = field(default_factory=SectionCNN.Config)
        steps: int = 150
        unlabelled_steps: int = 0
        classes: int = 32
        patches: int = 4
        micro: int = 0
        views: int = 1
        learning_rate: float = 2e-3
        temperature: float = 0.1
        classify: float = 1.0
        radius_um: float = 3000.0
        seeds: tuple[int, ...] = (0, 1, 2)
        components: int = 64

        def __post_init__(self) -> None:
            check_seeds(self.seeds)
            if not self.train or not self.test or set(self.train) & set(self.test):
                raise SettingError("<train> and <test> need seeds of brains, none in both")
            if not self.shares or not all(0 < share <= 1 for share in self.shares):
                raise SettingError("<shares> must lie above 0 and at most at 1")
            wrong = [one for one in self.methods if STARTS.get(one, one) not in self.methods]
            if wrong or not self.methods:
                raise SettingError(f"<methods>: {wrong or 'none'} needs the one that it starts from")
            if min(self.per_section, self.steps, self.components) < 1 or not self.within_mm > 0:
                raise SettingError("<per_section>, <steps>, <components> must be at least 1, <within_mm> above 0")
            if isinstance(self.data, FieldPatches.Config) and not self.brain.resolve().cells:
                raise SettingError("<data>=FieldPatches needs brains with fields of cells; set <brain.preset>=cells")

        def build(self) -> "JudgingStudy":
            return JudgingStudy(self)

    def __init__(self, config: Config) -> None:
        self.config = config
        self._brains: dict[int, TrueNodes] = {}

    def seeds(self) -> list[int]:
        return [*self.config.train, *self.config.test]

    def stages(self) -> list[Stage]:
        c = self.config
        read = to_plain([VERSION, c.brain, c.data, c.per_section, c.within_mm])
        stages = [
            Stage(name=f"brain-{seed}", run=partial(self._draw, seed), after=(), depends=[read, seed])
            for seed in self.seeds()
        ]
        after = tuple(stage.name for stage in stages)
        return [*stages, Stage(name="judge", run=self._judge, after=after, depends=to_plain(c))]

    def summary(self, run: RunFolder) -> str:
        return study_summary(read_json(run / SCORES)["judging"], run.path)

    def _draw(self, seed: int, run: RunFolder) -> list[str]:
        c = self.config
        name = f"brains/brain-{seed}.safetensors"
        if isinstance(c.data, FieldPatches.Config):
            write_true_fields(replace(c.brain, seed=seed), c.data, run / name)
        else:
            write_true_nodes(replace(c.brain, seed=seed), c.data, run / name, c.per_section, c.within_mm)
        return [name]

    def _judge(self, run: RunFolder) -> list[str]:
        c = self.config
        self.load(run)
        jobs = [(method, seed) for method in c.methods for seed in (c.seeds if method not in FREE[1:] else (0,))]
        jobs.sort(key=lambda job: job[1])  # all methods of one seed first: a killed study still compares
        rows: list[dict[str, Any]] = []
        for done, (method, seed) in enumerate(jobs):
            rows += self.scores(method, seed, run)
            run.say(f"  {done + 1}/{len(jobs)} {method}, seed {seed}")
        known = {
            str(share): [len(self._known_areas(share, seed)) for seed in c.seeds] for share in c.shares
        }  # areas that the annotated sections show
        areas = sorted({int(k) for seed in c.test for k in self._brains[seed].labels})
        counts = {f"brain-{seed}": one.counts for seed, one in self._brains.items()}
        found = {"rows": rows, "areas": len(areas), "known_areas": known, "nodes": counts, "steps": c.steps}
        table = {"curves": curve_rows(rows), **found}
        write_json(run / SCORES, {"task": f"judging features ({c.brain.preset})", "protocol": "strict",
                                  "classes": len(areas), "seeds": list(c.seeds), "judging": table})  # fmt: skip
        pictures: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
        show = [one for one in ("pca", "scratch", "supcon", "spatial") if one in c.methods]
        for method in show:
            share = max(c.shares) if method in LABELLED else None
            pictures[method] = (self.features(method, share, c.seeds[0], run)[1][c.test[0]],
                                self._brains[c.test[0]].labels)  # fmt: skip
        write_judging_report(run / "report.html", table, pictures, self._brains[c.test[0]].names, to_plain(c))
        return [SCORES, "report.html"]

    def _known_areas(self, share: float, seed: int) -> set[int]:
        train = self._joined(self.config.train)
        return set(np.unique(train.labels[np.isin(train.groups, annotated_sections(train.groups, share, seed))]))

    def load(self, run: RunFolder) -> None:
        """Read the brains that the first stages drew. Raises InputError where one is missing."""
        self._brains = {seed: read_true_nodes(run / f"brains/brain-{seed}.safetensors") for seed in self.seeds()}

    def nodes(self, seed: int) -> TrueNodes:
        """Of one brain, once they are loaded."""
        return self._brains[seed]

    def scores(self, method: str, seed: int, run: RunFolder) -> list[dict[str, Any]]:
        """Scores at every share; kept one by one, so that a killed study goes on."""
        c, rows = self.config, []
        for share in c.shares:
            key = content_hash(VERSION, to_plain(replace(c, methods=("scratch",), shares=(share,), seeds=(0,))))
            path = run / f"scores/{method}-{share:g}-{seed}.json"
            stored = read_json(path) if path.is_file() else {}
            if stored.get("key") != key:
                train, test = self.features(method, share, seed, run)
                joined = self._joined(c.train, train)
                known = joined[np.isin(joined.groups, annotated_sections(joined.groups, share, seed))]
                judged = {f"brain-{one}": self._joined((one,), test) for one in c.test}
                scores: dict[str, Any] = probed(known, judged)
                if share == max(c.shares):
                    few = {brain: _evenly(rows_, 900) for brain, rows_ in judged.items()}
                    scores |= described(few)
                stored = {"key": key, "method": method, "share": share, "seed": seed, "scores": scores}
                write_json(path, stored)
            rows.append({name: value for name, value in stored.items() if name != "key"})
        return rows

    # -- features ---------------------------------------------------------------------------------------------------

    def _joined(self, seeds: tuple[int, ...], values: Mapping[int, NDArray[Any]] | None = None) -> Rows:
        """Rows of several brains end to end; sections of different brains get different numbers."""
        parts = [self._brains[seed] for seed in seeds]
        return Rows(
            values=np.concatenate([one.labels[:, None] * 0.0 if values is None else values[seed]
                                   for seed, one in zip(seeds, parts)]),
            labels=np.concatenate([one.labels for one in parts]),
            groups=np.concatenate([one.sections + 10000 * seed for seed, one in zip(seeds, parts)]),
            places_mm=np.concatenate([one.places_mm for one in parts]),
        )  # fmt: skip

    def features(
        self, method: str, share: float | None, seed: int, run: RunFolder
    ) -> tuple[dict[int, NDArray[Any]], dict[int, NDArray[Any]]]:  # fmt: skip
        """[N, C] of every training and every test brain; an encoder that is not there is trained.

        Args:
            method: one of `Config.methods`.
            share: of annotated sections, for methods with labels.
            seed: of the training.
            run: folder of the encoders.
        """
        c, brains = self.config, self._brains
        if method == "profiles":
            made = {seed: one.profiles for seed, one in brains.items()}
        elif method == "pca":
            raw = {one: _pixels(nodes) for one, nodes in brains.items()}
            pixels = np.concatenate([raw[one] for one in c.train])
            pca = PCA(min(c.components, *pixels.shape), random_state=0).fit(pixels)
            made = {one: pca.transform(values).astype(np.float32) for one, values in raw.items()}
        else:
            encoder = self._encoder(method, share, seed, run)
            made = {one: _embedded(encoder, nodes) for one, nodes in brains.items()}
        return {one: made[one] for one in c.train}, {one: made[one] for one in c.test}

    def _encoder(self, method: str, share: float | None, seed: int, run: RunFolder) -> NodeEncoder:
        c = self.config
        if method == "untrained":
            torch.manual_seed(seed)
            return new_encoder(c.encoder, c.data, self._brains[c.train[0]].patches.shape[1:]).eval()
        labelled = method in LABELLED or method in STARTS
        sampler: Any = BalancedBatches.Config(classes=c.classes, patches=c.patches, rare="skip")
        objective: Any = CrossEntropy.Config()
        half = c.classes * c.patches // 2
        if method == "supcon":
            objective = SupervisedContrastive.Config(classify=0.0, temperature=c.temperature, views=c.views)
        elif method == "supcon_classes":
            objective = SupervisedContrastive.Config(classify=c.classify, temperature=c.temperature, views=c.views)
        elif method == "distance":
            objective, sampler = DistanceRegression.Config(), DistancePairs.Config(pairs=half)
        elif method == "spatial":
            objective = NTXent.Config(views=c.views, temperature=c.temperature)
            sampler = SpatialPairs.Config(pairs=half, radius_um=c.radius_um)
        start = None
        if method in STARTS:
            self._encoder(STARTS[method], None, seed, run)
            start = _folder(run, STARTS[method], None, seed)
        recipe = PretrainConfig(
            encoder=c.encoder, data=c.data, objective=objective, sampler=sampler, epochs=1,
            epoch_steps=c.steps if labelled or not c.unlabelled_steps else c.unlabelled_steps, held_out=0, seed=seed,
            threads=1, learning_rate=c.learning_rate, start=start, micro=c.micro,
        )  # fmt: skip
        chosen = annotated_sections(self._joined(c.train).groups, share or 1.0, seed) if labelled else None
        sources = [
            self._brains[one].node_set(f"brain-{one}", None if chosen is None else chosen - 10000 * one)
            for one in c.train
        ]
        kept = [one for one in sources if not labelled or (one.labels >= 0).any()]
        return pretrain(recipe, kept, _folder(run, method, share if labelled else None, seed))


def _embedded(encoder: NodeEncoder, nodes: TrueNodes) -> NDArray[np.float32]:
    rows = np.arange(len(nodes.labels))
    return np.concatenate([embed(encoder, nodes.items(rows[k : k + 256])) for k in range(0, len(rows), 256)])


def _pixels(nodes: TrueNodes) -> NDArray[np.float32]:
    rows = np.arange(len(nodes.labels))
    return np.concatenate([raw_pixels(nodes.items(rows[k : k + 64])) for k in range(0, len(rows), 64)])


def _folder(run: RunFolder, method: str, share: float | None, seed: int) -> Path:
    return Path(run / f"encoders/{method}-{'all' if share is None else format(share, 'g')}-{seed}")


def _evenly(rows: Rows, most: int) -> Rows:
    return rows[np.linspace(0, len(rows.labels) - 1, min(most, len(rows.labels))).astype(int)]

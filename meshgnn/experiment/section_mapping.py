"""Area mapping from sections: stacks -> meshes -> features -> network, judged on unseen brains and between sections."""

import csv
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from meshgnn.config import Config as BaseConfig
from meshgnn.config import at, to_plain
from meshgnn.data.inputs import NodeInputs
from meshgnn.data.split import Folds
from meshgnn.encoder import MeshMaker, SectionBrain, SectionFeatures
from meshgnn.errors import InputError, LeakError
from meshgnn.experiment import section_scores
from meshgnn.experiment.progress import Bars
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import SCORES, Stage
from meshgnn.experiment.section_scores import BARE, MAIN, OTHER, Maps, Part
from meshgnn.experiment.summary import section_summary, write_history
from meshgnn.experiment.training import train_ensemble
from meshgnn.export.area_map import AreaMap
from meshgnn.export.command import export
from meshgnn.export.gifti import write_area_map
from meshgnn.export.on_sections import write_on_sections
from meshgnn.export.report import write_report
from meshgnn.export.tables import write_csv
from meshgnn.graph import Areas, MeshGraph
from meshgnn.nn import GraphSAGE, NetworkConfig
from meshgnn.source.annotations import annotated_labels, read_annotations
from meshgnn.source.cohort import CohortSource, Member, StackFolders, VirtualCohort
from meshgnn.source.sections import read_stack
from meshgnn.store import file_hash, load_graph, read_arrays, read_json, save_graph, write_arrays, write_json
from meshgnn.train.baselines import SEEDED, baselines
from meshgnn.train.cohort import (
    Cohort,
    baseline_inputs,
    inner_edges,
    prior_map,
    shared_sections,
    training_task,
)
from meshgnn.train.ensemble import Ensemble
from meshgnn.train.fit import TrainerConfig
from meshgnn.train.metrics import mean_scores
from meshgnn.train.propagate import drawn


class SectionMapping:
    """Node classification on brains made from sections."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            cohort: the brains, and which of them are never trained on.
            mesh: config of a `MeshMaker`.
            encoder: config of `SectionFeatures`: what the network sees.
            other: config of further `SectionFeatures` to compare with in the same network; None for no comparison.
            inputs: scales, coordinates.
            bare: also train without coordinates.
            model, trainer, validation: the network and how it is trained.
            seeds: one ensemble each.
            variant_seeds: how many of them the variants (without coordinates, other features) are trained with;
                0 = all.
        """

        cohort: VirtualCohort.Config | StackFolders.Config = field(default_factory=VirtualCohort.Config)
        mesh: Any
        encoder: Any
        other: Any = None
        inputs: NodeInputs.Config = field(default_factory=NodeInputs.Config)
        bare: bool = True
        model: NetworkConfig = field(default_factory=GraphSAGE.Config)
        trainer: TrainerConfig = field(default_factory=TrainerConfig)
        validation: Folds = field(default_factory=Folds)
        seeds: tuple[int, ...] = (0, 1, 2)
        variant_seeds: int = 0

        def __post_init__(self) -> None:
            if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
                raise InputError("seeds must be one or more different numbers from 0")

        def build(self) -> "SectionMapping":
            return SectionMapping(self)

    def __init__(self, config: Config) -> None:
        self.config = config
        self.cohort: CohortSource = config.cohort.build()
        self.members = self.cohort.members()
        self.maker: MeshMaker = config.mesh.build()
        self.encoders: dict[str, SectionFeatures] = {"encoder": config.encoder.build()}
        if config.other is not None:
            self.encoders["other"] = config.other.build()

    # -- the experiment socket ------------------------------------------------------------------------------------

    def inputs(self) -> dict[str, str]:
        if isinstance(self.config.cohort, StackFolders.Config):
            return {f"{member.name}/{name}": key for member in self.members for name, key in member.depends.items()}
        return {}

    def seeds(self) -> list[int]:
        return list(self.config.seeds)

    def check(self) -> None:
        self.cohort.check()

    def stages(self) -> list[Stage]:
        """Every stage names what it reads: a brain more, or a changed one, redoes nothing that does not read it."""
        c = self.config
        every, training = list(self.members), [member for member in self.members if not member.unseen]

        def of(kind: str, members: list[Member]) -> tuple[str, ...]:
            return tuple(f"{kind}-{member.name}" for member in members)

        found = []
        for member in every:
            found.append(Stage(name=f"sections-{member.name}", run=partial(self._sections, member),
                               depends=member.depends, after=()))  # fmt: skip
        for member in every:
            found.append(Stage(name=f"mesh-{member.name}", run=at("mesh")(partial(self._mesh, member)),
                               depends=to_plain(c.mesh), after=of("sections", [member])))  # fmt: skip
        for name in self.encoders:
            depends = to_plain([getattr(c, name)])
            found.append(
                Stage(name=name, run=at(name)(partial(self._fit, name)), depends=depends, after=of("mesh", training))
            )
        for member in every:
            found.append(Stage(name=f"features-{member.name}", run=partial(self._features, member),
                               after=(*self.encoders, *of("mesh", [member]))))  # fmt: skip
        learning = to_plain([c.model, c.trainer, list(c.seeds), c.variant_seeds, c.validation, c.inputs, c.bare])
        learning[1].pop("workers")  # members do not depend on it
        unseen = [member.unseen for member in every]
        return [
            *found,
            Stage(name="baselines", run=self._baselines, depends=[list(c.seeds), to_plain(c.inputs), unseen],
                  after=of("features", every)),
            Stage(name="train", run=self._train, depends=learning, after=of("features", training)),
            Stage(name="evaluate", run=self._evaluate, after=("baselines", "train")),
            Stage(name="export", run=self._export, after=("evaluate",)),
        ]  # fmt: skip

    # -- from sections to features --------------------------------------------------------------------------------

    def _folder(self, run: RunFolder, member: Member) -> Path:
        return run / "brains" / member.name

    def _stack(self, run: RunFolder, member: Member) -> Path:
        if isinstance(self.cohort, StackFolders):
            return self.cohort.folders[member.name]
        return self._folder(run, member) / "sections"

    def _sections(self, member: Member, run: RunFolder) -> list[str]:
        folder = self._folder(run, member)
        folder.mkdir(parents=True, exist_ok=True)
        _, written = self.cohort.provide(member, folder, Bars(run, f"{member.name} "))
        return [f"brains/{member.name}/{name}" for name in written]

    def _mesh(self, member: Member, run: RunFolder) -> list[str]:
        stack_folder, out = self._stack(run, member), self._folder(run, member) / "mesh"
        written = self.maker.make(member.name, stack_folder, out, Bars(run, f"{member.name} "))
        graph, stack = self.maker.load(stack_folder, out)
        graph = graph.relabelled(np.full(graph.n_nodes, -1), Areas(names=()))
        assert graph.locations is not None
        numbers: tuple[int, ...] = ()
        if (stack_folder / "annotations").is_dir():
            annotations = read_annotations(stack_folder)
            numbers = annotations.sections
            labels = np.where(graph.cortex, annotated_labels(graph.locations, annotations, stack), -1)
            graph = graph.relabelled(labels, annotations.areas)
        elif not member.unseen:
            raise InputError(f"{stack_folder}: no annotations here; a brain to train on needs them")
        folder = self._folder(run, member)
        write_json(folder / "drawn.json", list(numbers))
        truth = self.maker.truth(stack_folder, out)
        if truth is not None and not len(graph.areas):
            graph = graph.relabelled(np.full(graph.n_nodes, -1), truth.areas)
        save_graph(graph, folder / "graph")
        files = ["graph.safetensors", "graph.json", "drawn.json"]
        if truth is not None:
            number = {name: k for k, name in enumerate(graph.areas.names)}
            table = np.array([*(number.get(name, -1) for name in truth.areas.names), -1], np.int32)
            write_arrays(folder / "truth.safetensors", {"labels": table[truth.labels]})
            files.append("truth.safetensors")
        share = float((graph.labels >= 0).mean())
        run.say(f"  {member.name}: {graph.n_nodes} nodes, {share:.0%} on annotated sections")
        return [f"brains/{member.name}/{name}" for name in [*files, *(f"mesh/{name}" for name in written)]]

    def _brain(self, run: RunFolder, member: Member) -> SectionBrain:
        folder = self._folder(run, member)
        _, stack = self.maker.load(self._stack(run, member), folder / "mesh")
        return SectionBrain(
            graph=load_graph(folder / "graph"), stack=stack, drawn=tuple(read_json(folder / "drawn.json"))
        )

    def _fit(self, name: str, run: RunFolder) -> list[str]:
        folder = run / name
        folder.mkdir(exist_ok=True)
        brains = [self._brain(run, member) for member in self.members if not member.unseen]
        return [f"{name}/{file}" for file in self.encoders[name].fit(brains, folder, Bars(run))]

    def _features(self, member: Member, run: RunFolder) -> list[str]:
        brain = self._brain(run, member)
        graph = brain.graph
        for name, encoder in self.encoders.items():
            table = encoder.make(brain, run / name, Bars(run, f"{member.name} {name} "))
            seen = table.mask & graph.cortex
            if not seen.any():
                raise InputError(f"{member.name}: no node got features from {name}; are its sections readable?")
            graph = graph.with_table(table)
            run.say(f"  {member.name} {name}: {seen.sum() / graph.cortex.sum():.0%} of cortex nodes have features")
        place = self._folder(run, member) / "features"
        save_graph(graph, place)
        return [f"brains/{member.name}/features.safetensors", f"brains/{member.name}/features.json"]

    # -- learning -------------------------------------------------------------------------------------------------

    def _cohort(self, run: RunFolder) -> Cohort:
        graphs = tuple(load_graph(self._folder(run, member) / "features") for member in self.members)
        areas = next(graph.areas for graph, m in zip(graphs, self.members) if not m.unseen)
        graphs = tuple(graph if len(graph.areas) else graph.relabelled(graph.labels, areas) for graph in graphs)
        return Cohort(graphs=graphs, unseen=tuple(member.unseen for member in self.members))

    def _names(self, graph: MeshGraph, table: str) -> tuple[str, ...]:
        others = [name for other, t in graph.tables.items() if other != table for name in t.columns]
        return tuple(name for name in self.config.inputs.build().names(graph) if name not in others)

    @cached_property
    def variants(self) -> dict[str, tuple[str, NodeInputs.Config]]:
        """Name -> table and inputs of every network that is trained."""
        c = self.config
        own = self.encoders["encoder"].name
        found = {MAIN: (own, c.inputs)}
        if c.bare and c.inputs.coordinates:
            found[BARE] = (own, replace(c.inputs, coordinates=False))
        if c.other is not None:
            found[OTHER] = (self.encoders["other"].name, c.inputs)
        return found

    def _baselines(self, run: RunFolder) -> list[str]:
        cohort = self._cohort(run)
        inputs = baseline_inputs(
            cohort, self.config.inputs, self._names(cohort.training[0], self.encoders["encoder"].name)
        )
        recipes = baselines(inputs)
        kept: dict[str, NDArray[Any]] = {}
        for name in tqdm(recipes, desc="baselines", disable=None, leave=False):
            for seed in self.config.seeds if name in SEEDED else self.config.seeds[:1]:
                kept[f"{name}/{seed}"] = recipes[name](seed)
        kept[f"prior_map/{self.config.seeds[0]}"] = prior_map(inputs)
        write_arrays(run / "tables" / "baselines.safetensors", kept)
        return ["tables/baselines.safetensors"]

    def _train(self, run: RunFolder) -> list[str]:
        c = self.config
        cohort = self._cohort(run)
        files, history = [], []
        for variant, (table, inputs) in self.variants.items():
            seeds = c.seeds[: c.variant_seeds or None] if variant != MAIN else c.seeds
            names = self._names(cohort.training[0], table)
            run.say(f"  {variant}: {len(names)} features{' and coordinates' if inputs.coordinates else ''}")
            task, frame = training_task(cohort, inputs, names, c.trainer.folds, c.validation, seeds)
            place = "" if variant == MAIN else f"variants/{variant}/"
            trained = train_ensemble(
                run, task, place=place, network=c.model, trainer=c.trainer, seeds=seeds, inputs=inputs, names=names,
                areas=cohort.graphs[0].areas, frame=frame, align="similarity",
            )  # fmt: skip
            files += [f"{place}{name}" for name in trained.ensemble.save(run / place)]
            if variant == MAIN:
                history = trained.history
                judged = task.labels >= 0
                write_arrays(
                    run / "tables" / "out_of_fold.safetensors",
                    {str(seed): votes[judged] for seed, votes in trained.out_of_fold.items()}
                    | {"labels": task.labels[judged]},
                )
        write_history(run / "metrics.csv", history)
        return [*files, "tables/out_of_fold.safetensors", "metrics.csv"]

    # -- judging --------------------------------------------------------------------------------------------------

    def _maps(self, run: RunFolder, cohort: Cohort, variant: str) -> list[Maps]:
        """[seed][brain] probabilities of one variant."""
        ensemble = Ensemble.load(run.path if variant == MAIN else run / "variants" / variant)
        first = cohort.training[0]
        by_brain = [
            ensemble.predict(graph, edges=inner_edges(graph), align="mirror" if graph is first else "similarity")
            for graph in cohort.graphs
        ]
        return [[votes[seed] for votes in by_brain] for seed in ensemble.weights]

    def _truths(self, run: RunFolder, cohort: Cohort) -> list[MeshGraph | None]:
        """Every brain with what it is judged by: the truth, or a mapper's labels of an unseen brain."""
        found: list[MeshGraph | None] = []
        for member, graph in zip(self.members, cohort.graphs):
            path = self._folder(run, member) / "truth.safetensors"
            if path.is_file():
                found.append(graph.relabelled(read_arrays(path)["labels"], graph.areas))
            else:
                found.append(graph if member.unseen and (graph.labels >= 0).any() else None)
        return found

    def _leakage(self, run: RunFolder) -> dict[str, int]:
        """Edges cannot join brains; what can happen is one image in two stacks."""
        images: list[dict[str, str]] = [{}, {}]
        for member in self.members:
            for section in read_stack(self._stack(run, member), mirrored="turn"):
                images[member.unseen][f"{member.name}/{section.index}"] = file_hash(section.path)
        if shared := shared_sections(*images):
            raise LeakError(f"{shared} section images stand in a training and in an unseen stack")
        return {"train_test_edges": 0, "shared_nodes": 0, "shared_patches": shared}

    def _evaluate(self, run: RunFolder) -> list[str]:
        cohort = self._cohort(run)
        truths = self._truths(run, cohort)
        given = [drawn(graph) >= 0 for graph in cohort.graphs]
        strict, gaps = section_scores.parts(truths, given, cohort.unseen)
        maps = {variant: self._maps(run, cohort, variant) for variant in self.variants}
        stored = read_arrays(run / "tables" / "baselines.safetensors")
        others: dict[str, list[Maps]] = {}
        for key in sorted(stored):  # the file keeps no order, and sums over seeds depend on it
            others.setdefault(key.split("/")[0], []).append([stored[key][rows] for rows in cohort.slices()])
        filled, metrics = self._metrics(run, cohort, strict, gaps, maps, others)
        files = []
        together = section_scores.mean_map(filled)
        for member, graph, truth, votes in zip(self.members, cohort.graphs, truths, together):
            area_map = AreaMap(graph=truth or graph, probabilities=votes)
            written = write_area_map(run / "predictions", area_map)
            write_csv(run / "predictions" / f"{member.name}.csv", area_map)
            files += [str(path.relative_to(run.path)) for path in written] + [f"predictions/{member.name}.csv"]
        write_arrays(
            run / "tables" / "probabilities.safetensors", {m.name: votes for m, votes in zip(self.members, together)}
        )
        write_json(run / SCORES, metrics)
        return [*files, "tables/probabilities.safetensors", SCORES]

    def _metrics(
        self,
        run: RunFolder,
        cohort: Cohort,
        strict: Part,
        gaps: Part,
        maps: dict[str, list[Maps]],
        others: dict[str, list[Maps]],
    ) -> tuple[list[Maps], dict[str, Any]]:
        """Maps with the gaps between annotations filled, [seed][brain], and all that is told of a run."""
        c = self.config
        stored = read_arrays(run / "tables" / "out_of_fold.safetensors")
        known, folds = stored["labels"], [stored[str(seed)] for seed in c.seeds]
        names = self._names(cohort.training[0], self.encoders["encoder"].name)
        metrics: dict[str, Any] = {
            "task": f"{', '.join(member.name for member in self.members)}: from sections to areas",
            "protocol": "strict",
            "classes": len(cohort.graphs[0].areas),
            "seeds": list(c.seeds),
            "brains": {
                name: [member.name for member in self.members if member.unseen is unseen]
                for name, unseen in (("training", False), ("unseen", True))
            },
            "nodes": {"train": len(known), "test": strict.nodes, "gap_filling": gaps.nodes},
            "features": [f"{len(names)} of {type(self.encoders['encoder']).__name__}"],
            "transductive_features": [],
            "left_out_features": [],
            "rim": False,
            "coordinates": c.inputs.coordinates,
            "alignment": "similarity" if c.inputs.coordinates else None,
            "model": to_plain(c.model)["_"],
            "validation": mean_scores([section_scores.striped_scores(known, votes) for votes in folds]),
            "leakage": self._leakage(run),
            "reconstruction": section_scores.mean_measures(
                {m.name: self.maker.measures(self._folder(run, m) / "mesh") for m in self.members}
            ),
        }
        filled, scores = section_scores.judged(cohort, strict, gaps, maps, others, folds)
        return filled, metrics | scores

    # -- files for other programs ---------------------------------------------------------------------------------

    def _export(self, run: RunFolder) -> list[str]:
        cohort = self._cohort(run)
        probabilities = read_arrays(run / "tables" / "probabilities.safetensors")
        files = []
        shown: tuple[AreaMap, str] | None = None
        for member, graph, truth in zip(self.members, cohort.graphs, self._truths(run, cohort)):
            brain = self._brain(run, member)
            area_map = AreaMap(graph=truth or graph, probabilities=probabilities[member.name])
            out = run / "export" / member.name
            bars = Bars(run, f"{member.name} ")
            written = export(area_map, out, ("graphml", "html"), stack=brain.stack, annotated=brain.drawn)
            written += write_on_sections(out / "sections", area_map, brain.stack, tell=partial(bars, "sections"))
            files += [str(path.relative_to(run.path)) for path in written]
            if shown is None or member.unseen:
                page = next(path for path in written if path.suffix == ".html")
                shown = area_map, page.read_text(encoding="utf-8")
        assert shown is not None
        with (run / "metrics.csv").open(newline="") as handle:
            history = list(csv.DictReader(handle))
        write_report(
            run / "report.html", read_json(run / SCORES), history, read_json(run / "config.json"),
            read_json(run / "provenance.json"), *shown,
        )  # fmt: skip
        return [*files, "report.html"]

    def summary(self, run: RunFolder) -> str:
        return section_summary(read_json(run / "metrics.json"), run.path)

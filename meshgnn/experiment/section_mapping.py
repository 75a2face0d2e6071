"""Area mapping from sections: stacks -> meshes -> features -> network, judged on unseen brains and between sections."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from threading import RLock
from typing import Any, ClassVar

import numpy as np

from meshgnn.borders.section import SectionBorderFinder
from meshgnn.config import Config as BaseConfig
from meshgnn.config import at, to_plain
from meshgnn.data.inputs import CoordinateFrame, NodeInputs
from meshgnn.data.model_inputs import ModelInputs
from meshgnn.errors import InputError
from meshgnn.experiment import section_borders, section_scores
from meshgnn.experiment.feature_tables import placed_makers
from meshgnn.experiment.methods import fit_baselines, stored_methods, train_networks, trained_methods, validated_labels
from meshgnn.experiment.progress import Bars
from meshgnn.experiment.protocol_scores import Method, Part, mean_map
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import SCORES, Experiment, Stage
from meshgnn.experiment.section_brain import export_brain
from meshgnn.experiment.section_brains import SectionBrains
from meshgnn.experiment.section_scores import HIDDEN
from meshgnn.experiment.summary import control_scores, read_metrics, run_report, section_summary
from meshgnn.experiment.training import MAIN, Network, Seen, controls_of
from meshgnn.experiment.trust import sets_judged, trust_of_unseen
from meshgnn.export.area_map import AreaMap
from meshgnn.export.gifti import write_area_map
from meshgnn.export.tables import write_csv
from meshgnn.export.trust import FILE as TRUST
from meshgnn.export.trust import Trust, load_trust, save_trust
from meshgnn.graph import MeshGraph
from meshgnn.nn import GraphSAGE, NetworkConfig
from meshgnn.results import BrainNames, Metrics, NodeCounts, Validation
from meshgnn.sockets import MeshMaker
from meshgnn.source.cohort import CohortSource, Member, StackFolders, VirtualCohort
from meshgnn.store import file_hash, read_arrays, read_json, write_arrays, write_json
from meshgnn.train.cohort import Cohort, cohort_inputs
from meshgnn.train.fit import TrainerConfig
from meshgnn.train.intervals import Maps
from meshgnn.train.metrics import mean_scores, striped_scores
from meshgnn.train.propagate import annotations_in_cortex, carried_labels, join
from meshgnn.train.same_inputs import NO_REGISTRATION

WITHOUT_COORDINATES, OTHER_FEATURES, FIRST_ALONE = "without_coordinates", "other_features", "first_alone"
OWN = "the run's features"
SEES = {MAIN: OWN, WITHOUT_COORDINATES: OWN, OTHER_FEATURES: "other features", FIRST_ALONE: "the first of them alone"}


class SectionMapping(Experiment):
    """Node classification on brains made from sections."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            cohort: the brains, and which of them are never trained on.
            mesh: config of a `MeshMaker`.
            features: configs of makers of features (`meshgnn.sockets.FeatureMaker`); the network sees their tables side
                by side.
            compared: further ones, to compare with in the same network; none for no comparison.
            inputs: scales, coordinates.
            first_alone: where several makers stand side by side, also train on the table of the first one alone.
            without_coordinates: also train without coordinates.
            model, trainer: the network and how it is trained; trainer.folds is the number of folds of the one plan that
                encoder and network share.
            buffer_mm: geodesic width of the strip around a fold's nodes that the fold's network does not train on.
            seeds: one ensemble each.
            variant_seeds: how many of them the variants (without coordinates, other features, the first ones alone) are
                trained with; 0 = all.
            controls: also train the same network without neighbours and on shuffled edges; of an MLP, with messages.
            control_seeds: with how many of the seeds; 0 = all.
            hide: where a training stack has no truth, about every n-th annotated section is kept from training
                and judges the gaps between annotations; 0 = none.
            adapt: adapt the maps of brains never trained on, network's and controls', to each brain
                (`meshgnn.train.adaptation`): class means are estimated anew from all its nodes, never from a label.
            borders: on so many sections of every unseen brain whose truth is known, the network's borders are compared
                with those of Schleicher's test (`meshgnn.experiment.section_borders`); 0 = none.
            compare: finished control runs (`virtual_brain:uniform`, `:masked`), whose scores the report quotes.
        """

        moved: ClassVar[dict[str, str]] = {
            "bare": "without_coordinates", "encoder": "features", "encoder.*": "features.0", "other": "compared",
            "other.*": "compared.0",
        }  # fmt: skip

        cohort: VirtualCohort.Config | StackFolders.Config = field(default_factory=VirtualCohort.Config)
        mesh: Any
        features: tuple[Any, ...]
        compared: tuple[Any, ...] = ()
        inputs: NodeInputs.Config = field(default_factory=NodeInputs.Config)
        first_alone: bool = True
        without_coordinates: bool = True
        model: NetworkConfig = field(default_factory=GraphSAGE.Config)
        trainer: TrainerConfig = field(default_factory=TrainerConfig)
        buffer_mm: float = 6.0
        seeds: tuple[int, ...] = (0, 1, 2)
        variant_seeds: int = 0
        controls: bool = True
        control_seeds: int = 1
        hide: int = 5
        adapt: bool = True
        borders: int = 3
        compare: tuple[Path, ...] = ()

        def __post_init__(self) -> None:
            counts = self.hide, self.variant_seeds, self.control_seeds, self.borders
            if self.buffer_mm < 0 or min(counts) < 0 or self.hide == 1:
                raise InputError(
                    "buffer_mm, variant_seeds, control_seeds and borders must not be negative, hide 0 or at least 2"
                )
            if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
                raise InputError("seeds must be one or more different numbers from 0")

        def build(self) -> "SectionMapping":
            return SectionMapping(self)

    def __init__(self, config: Config) -> None:
        self.config = config
        self.cohort: CohortSource = config.cohort.build()
        self.members = self.cohort.members()
        self.maker: MeshMaker = config.mesh.build()
        self.makers = placed_makers(features=config.features, compared=config.compared)
        # Baselines and training run side by side on the same inputs; evaluation finds them made.
        self._lock = RLock()
        self._loaded: tuple[Path, Cohort] | None = None
        self._made: dict[str, tuple[ModelInputs, CoordinateFrame]] = {}  # of what is loaded, by variant
        self.brains = SectionBrains(self.cohort, self.maker, self.makers, folds=config.trainer.folds, hide=config.hide)

    # -- the experiment socket ------------------------------------------------------------------------------------

    def input_files(self) -> dict[str, str]:
        if isinstance(self.config.cohort, StackFolders.Config):
            files = {member.name: {**member.depends, **member.truth} for member in self.members}
            return {f"{brain}/{name}": key for brain, own in files.items() for name, key in own.items()}
        return {}

    def seeds(self) -> list[int]:
        return list(self.config.seeds)

    def check(self) -> None:
        self.cohort.check()
        for run in self.config.compare:
            control_scores(run)
        self.brains.check()
        if isinstance(self.cohort, StackFolders):
            self.brains.check_images([self.cohort.folders[member.name] for member in self.members])

    def stages(self) -> list[Stage]:
        """Every stage names what it reads, so that adding or changing a brain repeats only the stages that read it."""
        c = self.config
        every, training = list(self.members), [member for member in self.members if not member.unseen]

        def of(kind: str, members: list[Member]) -> tuple[str, ...]:
            return tuple(f"{kind}-{member.name}" for member in members)

        found = []
        for member in every:
            found.append(Stage(name=f"sections-{member.name}", run=partial(self.brains.draw, member),
                               depends=member.depends, after=(), beside=True))  # fmt: skip
        for member in every:
            found.append(Stage(name=f"mesh-{member.name}", run=at("mesh")(partial(self.brains.mesh, member)),
                               depends=[to_plain(c.mesh), 0 if member.unseen else c.hide, bool(member.truth)],
                               after=of("sections", [member]), beside=True))  # fmt: skip
            found.append(Stage(name=f"truth-{member.name}", run=at("mesh")(partial(self.brains.truth, member)),
                               depends=dict(member.truth), after=of("mesh", [member]), beside=True))  # fmt: skip
        for name, one in self.makers.items():
            found.append(Stage(name=name, run=partial(self.brains.fit, name), after=of("mesh", training),
                               depends=[*one.depends(), c.trainer.folds]))  # fmt: skip
        for member in every:
            found.append(Stage(name=f"features-{member.name}", run=partial(self.brains.features, member),
                               after=(*self.makers, *of("mesh", [member]))))  # fmt: skip
        plan = [c.trainer.folds, c.buffer_mm, list(c.seeds), to_plain(c.inputs)]
        learning = to_plain(
            [c.model, c.trainer, *plan, c.variant_seeds, list(self.variants), c.controls, c.control_seeds]
        )
        learning[1].pop("workers")  # members do not depend on it
        unseen = [member.unseen for member in every]
        finished = [run / "metrics.json" for run in c.compare]
        compared = [[str(path), file_hash(path)] for path in finished if path.is_file()]
        return [
            *found,
            Stage(name="baselines", run=self._baselines, depends=[*plan, unseen, list(self.variants)],
                  after=of("features", every), version=7, beside=True),
            Stage(name="borders", run=self._borders, depends=[c.borders, to_plain(SectionBorderFinder.Config())],
                  after=of("truth", [member for member in every if member.unseen]), beside=True),
            Stage(name="train", run=self._train, depends=learning, after=of("features", training), beside=True),
            Stage(name="evaluate", run=self._evaluate, depends=[compared, c.adapt], version=7,
                  after=("baselines", "borders", "train", *of("truth", every))),
            Stage(name="export", run=self._export, after=("evaluate",)),
        ]  # fmt: skip

    # -- learning -------------------------------------------------------------------------------------------------

    def _cohort(self, run: RunFolder) -> Cohort:
        """All brains with their features, read once."""
        with self._lock:
            if self._loaded is None or self._loaded[0] != run.path:
                self._loaded, self._made = (run.path, self.brains.load(run)), {}
            return self._loaded[1]

    def _seen(self, cohort: Cohort, network: Network) -> Seen:
        """What a network and every baseline of its variant see; computed once."""
        c = self.config
        tables, inputs = self.variants[network.variant]
        names = self._names(cohort.training[0], tables)
        with self._lock:
            if network.variant not in self._made:
                made = cohort_inputs(cohort, inputs, names, c.trainer.folds, c.seeds, c.buffer_mm)
                self._made[network.variant] = made
            models, frame = self._made[network.variant]
        return Seen(
            models=network.inputs(models.with_folds(len(network.seeds) * c.trainer.folds)), config=inputs, names=names,
            areas=cohort.graphs[0].areas, frame=frame, align="similarity",
        )  # fmt: skip

    def _names(self, graph: MeshGraph, tables: tuple[str, ...]) -> tuple[str, ...]:
        others = [name for other, table in graph.tables.items() if other not in tables for name in table.columns]
        with at("inputs"):
            names = self.config.inputs.build().names(graph)
        return tuple(name for name in names if name not in others)

    @cached_property
    def variants(self) -> dict[str, tuple[tuple[str, ...], NodeInputs.Config]]:
        """Name -> tables and inputs of every network that is trained."""
        c = self.config
        own, compared = self._tables("features"), self._tables("compared")
        found = {MAIN: (own, c.inputs)}
        if c.without_coordinates and c.inputs.coordinates:
            found[WITHOUT_COORDINATES] = (own, replace(c.inputs, coordinates=False))
        if compared:
            found[OTHER_FEATURES] = (compared, c.inputs)
        if c.first_alone and len(own) > 1:
            found[FIRST_ALONE] = (own[:1], c.inputs)
        return found

    def _tables(self, setting: str) -> tuple[str, ...]:
        """Names of the tables of the makers of one setting."""
        return tuple(one.maker.name for one in self.makers.values() if one.key.startswith(setting))

    @cached_property
    def networks(self) -> dict[str, Network]:
        """Every network that is trained, by name."""
        c, found = self.config, {}
        for variant, (_, inputs) in self.variants.items():
            found[variant] = Network(
                config=c.model,
                sees=f"{SEES[variant]}{', position' if inputs.coordinates else ''}",
                seeds=c.seeds if variant == MAIN else c.seeds[: c.variant_seeds or None],
                place="" if variant == MAIN else f"variants/{variant}/",
                variant=variant,
            )
        return found | (controls_of(found[MAIN], c.control_seeds) if c.controls else {})

    def _baselines(self, run: RunFolder) -> list[str]:
        c, seen = self.config, partial(self._seen, self._cohort(run))
        return fit_baselines(run, self.networks, seen, c.seeds, c.trainer.folds, "aligned coordinates")

    def _train(self, run: RunFolder) -> list[str]:
        seen = partial(self._seen, self._cohort(run))
        return train_networks(run, self.networks, seen, self.config.trainer)

    def _borders(self, run: RunFolder) -> list[str]:
        found, many = {}, self.config.borders
        for member in self.members:
            stack = self.brains.stack_folder(run, member)
            if member.unseen and many and self.maker.true_areas(stack) is not None:
                bars = Bars(run, f"{member.name} ")
                found[member.name] = section_borders.found_on(self.brains.brain(run, member), stack, many, bars)
        write_json(run / section_borders.FILE, found)
        return [section_borders.FILE]

    # -- judging --------------------------------------------------------------------------------------------------

    def _methods(self, run: RunFolder, cohort: Cohort) -> dict[str, Method]:
        """The network, its variants, its controls and every baseline, with all their predictions."""
        places, trainer = cohort.slices(), self.config.trainer
        adapt = cohort.unseen if self.config.adapt else ()
        trained = trained_methods(run, self.networks, partial(self._seen, cohort), places, trainer, adapt)
        return trained | stored_methods(run, places)

    def _leakage(self, run: RunFolder, cohort: Cohort) -> dict[str, int]:
        """Counts of leaks: edges and nodes of the training data that belong to unseen brains, and shared images."""
        seen = self._seen(cohort, self.networks[MAIN]).models
        unseen = np.array(cohort.unseen)[seen.brain]
        used = seen.train.any(0) | seen.validation.any(0) | seen.known
        shared = self.brains.check_images([self.brains.stack_folder(run, member) for member in self.members], Bars(run))
        return {
            "train_test_edges": int((unseen[seen.edges[0]] != unseen[seen.edges[1]]).sum()) // 2,
            "shared_nodes": int((used & unseen).sum()),
            "shared_patches": shared,
        }

    def _evaluate(self, run: RunFolder) -> list[str]:
        cohort = self._cohort(run)
        given = [annotations_in_cortex(graph) >= 0 for graph in cohort.graphs]
        strict, gaps = section_scores.parts(self.brains.judges(run, cohort), given, cohort.unseen)
        methods = self._methods(run, cohort)
        maps, metrics = self._metrics(run, cohort, strict, gaps, methods)
        shown = self.brains.shown(run, cohort)
        together = mean_map(maps)
        if gaps and gaps.by == HIDDEN:  # judged without them; the map itself uses all that was drawn
            assert metrics.gap_filling is not None
            assert metrics.gap_filling.annotations is not None
            weight = metrics.gap_filling.annotations.weight
            alone = mean_map(methods[MAIN].maps)
            together = [
                votes if unseen else join(carried_labels(graph, annotations_in_cortex(graph)), own, weight)
                for graph, votes, own, unseen in zip(shown, together, alone, cohort.unseen)
            ]
        borders = read_json(run / section_borders.FILE)
        brains = {m.name: self.brains.brain(run, m) for m in self.members if borders.get(m.name)}
        by_name = {m.name: (graph, votes) for m, graph, votes in zip(self.members, shown, together)}
        seen = self._seen(cohort, self.networks[MAIN]).models
        trusted = trust_of_unseen(run, self.members, seen, together, self.config.adapt)
        names = {row: member.name for row, member in enumerate(self.members)}
        sets = sets_judged(run, strict, methods, names, trusted)
        metrics = replace(metrics, borders=section_borders.judged(borders, brains, by_name), sets=sets)
        files = []
        for member, graph, votes in zip(self.members, shown, together):
            area_map = trusted.get(member.name, Trust()).of(AreaMap(graph=graph, probabilities=votes))
            written = write_area_map(run / "predictions", area_map)
            write_csv(run / "predictions" / f"{member.name}.csv", area_map)
            files += [str(path.relative_to(run.path)) for path in written] + [f"predictions/{member.name}.csv"]
        write_arrays(
            run / "tables" / "probabilities.safetensors", {m.name: votes for m, votes in zip(self.members, together)}
        )
        save_trust(run / "tables" / TRUST, trusted)
        write_json(run / SCORES, metrics.to_json())
        return [*files, "tables/probabilities.safetensors", f"tables/{TRUST}", SCORES]

    def _metrics(
        self, run: RunFolder, cohort: Cohort, strict: Part, gaps: Part, methods: dict[str, Method]
    ) -> tuple[list[Maps], Metrics]:
        """Maps with the gaps between annotations filled, [seed][brain], and the record for metrics.json."""
        c = self.config
        known = validated_labels(run)
        folds = methods[MAIN].folds or ()
        names = self._names(cohort.training[0], self._tables("features"))
        contours = self.brains.contours(run, cohort)
        filled, unseen, between = section_scores.judged(cohort, strict, gaps, methods, contours)
        alignment = "similarity" if c.inputs.coordinates else None
        return filled, Metrics(
            task=f"{', '.join(member.name for member in self.members)}: from sections to areas",
            protocol="strict", classes=len(cohort.graphs[0].areas), seeds=tuple(c.seeds),
            brains=BrainNames(
                training=tuple(member.name for member in self.members if not member.unseen),
                unseen=tuple(member.name for member in self.members if member.unseen),
            ),
            nodes=NodeCounts(train=len(known), test=strict.nodes, gap_filling=gaps.nodes),
            features=(f"{len(names)} of {', '.join(to_plain(one)['_'] for one in c.features)}",),
            transductive_features=(), left_out_features=(), rim=False,
            coordinates=c.inputs.coordinates, alignment=alignment, model=to_plain(c.model)["_"],
            validation=Validation(**mean_scores([striped_scores(known, votes) for votes in folds])),
            not_run={} if "registered_prior" in methods else {"registered_prior": NO_REGISTRATION},
            controls={str(path): control_scores(path) for path in c.compare},
            leakage=self._leakage(run, cohort), reconstruction=section_scores.mean_measures(self.brains.measures(run)),
            strict=unseen, gap_filling=between,
        )  # fmt: skip

    # -- files for other programs ---------------------------------------------------------------------------------

    def _export(self, run: RunFolder) -> list[str]:
        cohort = self._cohort(run)
        probabilities = read_arrays(run / "tables" / "probabilities.safetensors")

        def one(member: Member, graph: MeshGraph) -> tuple[AreaMap, list[Path]]:
            trust = load_trust(run / "tables" / TRUST, member.name)
            area_map = trust.of(AreaMap(graph=graph, probabilities=probabilities[member.name]))
            place, bars = run / "export" / member.name, Bars(run, f"{member.name} ")
            return area_map, export_brain(area_map, self.brains.brain(run, member), place, bars)

        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(one, self.members, self.brains.shown(run, cohort)))
        files = [str(path.relative_to(run.path)) for _, written in found for path in written]
        # The report shows the last brain never seen, or else the first one.
        area_map, written = next(
            (pair for member, pair in zip(self.members[::-1], found[::-1]) if member.unseen), found[0]
        )
        page = next(path for path in written if path.suffix == ".html").read_text(encoding="utf-8")
        return [*files, run_report(run, area_map, page)]

    def summary(self, run: RunFolder) -> str:
        return section_summary(read_metrics(run / "metrics.json"), run.path)

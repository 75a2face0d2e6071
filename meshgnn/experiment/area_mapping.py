"""Area mapping on one brain: read, baselines, train, evaluate, export."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from meshgnn.config import Config as BaseConfig
from meshgnn.config import at, from_plain, to_plain
from meshgnn.confusion import macro_f1
from meshgnn.data.derived import RIM_PREFIX, computed_features
from meshgnn.data.functional_edges import FunctionalEdges
from meshgnn.data.inputs import TRANSDUCTIVE, Alignment, CoordinateFrame, NodeInputs
from meshgnn.data.model_inputs import ModelInputs
from meshgnn.data.single_brain import single_brain_inputs
from meshgnn.data.split import BlockSplit, Folds, HemisphereSplit, Split, validation_folds
from meshgnn.errors import InputError
from meshgnn.experiment import registering
from meshgnn.experiment.feature_tables import FITTED, check_names, kept_tables, make_tables
from meshgnn.experiment.methods import Baselines, stored_methods, train_networks, trained_methods, validated_labels
from meshgnn.experiment.preparation import Prepared, prepare
from meshgnn.experiment.progress import Bars
from meshgnn.experiment.protocol_scores import Judge, Part, block
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import SCORES, Experiment, Stage, check_seeds
from meshgnn.experiment.summary import read_metrics, run_report, summary_text
from meshgnn.experiment.training import MAIN, Network, Seen, controls_of
from meshgnn.export.area_map import AreaMap
from meshgnn.export.gifti import write_area_map
from meshgnn.export.page import page_html
from meshgnn.export.tables import write_csv, write_graphml
from meshgnn.graph import MeshGraph
from meshgnn.mesh.topology import summary
from meshgnn.nn import GraphSAGE, NetworkConfig
from meshgnn.registration import Registration
from meshgnn.results import Confusion, Measures, Metrics, NodeCounts, Validation
from meshgnn.sockets import Brain, FeatureMaker
from meshgnn.source.socket import BrainSource
from meshgnn.store import file_hash, load_graph, read_arrays, read_json, save_graph, write_arrays, write_json
from meshgnn.train.fit import TrainerConfig
from meshgnn.train.metrics import LeftOut, mean_scores, score, striped_scores
from meshgnn.train.place_prior import PlacePrior
from meshgnn.train.same_inputs import NO_REGISTRATION, SameInputs

ALIGNMENT = "tables/alignment.json"


def _left_out(graph: MeshGraph, split: Split) -> LeftOut:
    """Cortex of the test part that carries no label, and labels of the test part that lie outside the cortex mask."""
    outside = split.asked & ~graph.cortex & (graph.labels >= 0)
    return LeftOut(
        unmatched=split.test & (graph.labels < 0),
        missed=np.bincount(graph.labels[outside], minlength=len(graph.areas)).astype(float),
    )


class AreaMapping(Experiment):
    """Node classification on one brain, compared with baselines."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            source: yields the brain.
            features: makers of features beside those that the source brings (`meshgnn.sockets.FeatureMaker`). What
                learns, learns from the training part alone; what learns from labels is cross-fitted over the
                validation folds of the first seed, so that further seeds validate on labels that it has seen.
            register: makes a registered sphere of the hemispheres where the brain brings none; none leaves it out.
            inputs: which features the models get, at which scales, with coordinates or without.
            split: HemisphereSplit or BlockSplit.
            model: GraphSAGE, GCN, GAT, MLP or PyGConv.
            trainer: how it is trained.
            seeds: one ensemble each; test scores are means over them.
            validation: how the training part is cut into validation blocks.
            prior: join the maps of the test part, and of other brains, with a position prior
                (`meshgnn.train.place_prior`): on registered spheres where there are some, else by coordinates. Where
                hemispheres are split; slabs of one have nothing to correspond with.
            connect: further edges for the network, between nodes whose runs are alike; a model that has them maps no
                other brain.
            controls: also train the same network without neighbours and on shuffled edges; of an MLP, with messages.
            control_seeds: with how many of the seeds; 0 = all.
        """

        moved: ClassVar[dict[str, str]] = {
            "geometry=NoTables": "features=none", "geometry": "features", "geometry.*": "features.Geometry",
            **{f"features.{one.name}": f"inputs.{one.name}" for one in fields(NodeInputs.Config)},
        }  # fmt: skip

        source: Any
        features: tuple[Any, ...] = ()
        register: Registration.Config | None = None
        inputs: NodeInputs.Config = field(default_factory=NodeInputs.Config)
        split: HemisphereSplit.Config | BlockSplit.Config = field(default_factory=HemisphereSplit.Config)
        model: NetworkConfig = field(default_factory=GraphSAGE.Config)
        trainer: TrainerConfig = field(default_factory=TrainerConfig)
        seeds: tuple[int, ...] = (0, 1, 2)
        validation: Folds = field(default_factory=Folds)
        prior: bool = True
        connect: FunctionalEdges.Config | None = None
        controls: bool = True
        control_seeds: int = 1

        def __post_init__(self) -> None:
            check_seeds(self.seeds)

        def build(self) -> "AreaMapping":
            return AreaMapping(self)

    def __init__(self, config: Config) -> None:
        self.config = config
        self.source: BrainSource = config.source.build()
        self.makers: list[FeatureMaker] = [one.build() for one in config.features]
        check_names(self.makers)
        self.reading = self.source.read()
        self._prepared: dict[bool, Prepared] = {}
        self._extra: NDArray[np.int32] | None = None

    # -- the experiment socket ------------------------------------------------------------------------------------

    def input_files(self) -> dict[str, str]:
        """Raises InputError when the brain lacks what a maker of features needs."""
        found = list(self.reading.files)
        for number, maker in enumerate(self.makers):
            with at(f"features.{number}"):
                found += maker.inputs(Brain(graph=self.reading.graph, series=self.reading.series))
        return {str(path): file_hash(path) for path in found}

    def seeds(self) -> list[int]:
        return list(self.config.seeds)

    def stages(self) -> list[Stage]:
        c = self.config
        data = to_plain([c.source, c.register, c.inputs, c.split])
        made = to_plain([c.source, c.features, c.split, c.validation, c.trainer.folds, c.seeds[0]])
        training = to_plain([c.model, c.trainer, list(c.seeds), c.validation, c.controls, c.control_seeds, c.prior])
        training += [to_plain(c.connect)] if c.connect else []
        training[1].pop("workers")  # members do not depend on it
        files = self.files
        before = registering.stages(self.reading, c.register, to_plain(c.source), files)
        if self.makers:
            before.append(Stage(name="features", run=self._features, after=(), depends=made, files=files))
        chosen = [list(c.seeds), c.trainer.folds, to_plain(c.validation)]
        return [
            *before,
            Stage(name="read", run=self._read, after=tuple(s.name for s in before), depends=data, files=files),
            Stage(name="baselines", run=self._baselines, after=("read",), depends=chosen, version=3),
            Stage(name="train", run=self._train, after=("baselines",), depends=training, version=3),
            Stage(name="evaluate", run=self._evaluate, after=("baselines", "train"), version=2),
            Stage(name="export", run=self._export, after=("evaluate",)),
        ]

    # -- stages ---------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Everything that can be wrong with the brain or the settings; raises InputError."""
        prepared = self._prepare(None)
        graph, split, c = prepared.graph, prepared.split, self.config
        c.trainer.resolved_device()  # an unusable device is reported now, not after the baselines
        folds = [
            fold for seed in c.seeds for fold in validation_folds(graph, split, c.trainer.folds, c.validation, seed)
        ]
        labelled = graph.labels >= 0
        if not all((fold.train & labelled).any() and (fold.validation & labelled).any() for fold in folds):
            raise InputError(
                f"{graph.brain}: the training part is too small for {c.trainer.folds} validation folds with buffers; "
                "lower trainer.folds or validation.buffer_mm"
            )

    def _prepare(self, run: RunFolder | None) -> Prepared:
        """The brain with its features; without those that are still to be made, as long as there is no run."""
        c, complete = self.config, run is not None or not self.makers
        last = run is not None or not (self.makers or registering.needed(self.reading, c.register))
        if last not in self._prepared:
            tables = kept_tables(self.makers, run / FITTED) if run else []
            reading = registering.with_sphere(self.reading, c.register, c.inputs, run)
            self._prepared[last] = prepare(reading, tables if complete else None, c.split.build().apply, c.inputs)
        return self._prepared[last]

    def _features(self, run: RunFolder) -> list[str]:
        """Fit the makers of features on the training part and keep their tables, whatever part a node is in."""
        split, c = self._prepare(None).split, self.config
        graph = self.reading.graph
        fold = np.full(graph.n_nodes, -1, np.int32)
        for number, one in enumerate(validation_folds(graph, split, c.trainer.folds, c.validation, c.seeds[0])):
            fold[one.validation & split.train] = number
        labels = np.where(split.train, graph.labels, -1)
        known = graph.relabelled(labels, graph.areas)
        brain = Brain(graph=known, fold=fold, train=split.train, series=self.reading.series)
        files = make_tables(self.makers, brain, run / FITTED, lambda name: Bars(run, f"{name} "))
        return [f"{FITTED}/{name}" for name in files]

    def _read(self, run: RunFolder) -> list[str]:
        prepared = self._prepare(run)
        graph, split, names = prepared.graph, prepared.split, prepared.names
        for warning in prepared.warnings:
            run.warn(warning)
        for mesh in graph.meshes:
            m = summary(mesh)
            run.say(
                f"  hemisphere {mesh.hemisphere}: {m['vertices']} vertices, {m['edges']} edges, Euler number "
                f"{m['euler_number']}, {m['edges_not_in_two_faces']} edges not in two faces"
            )
        run.say(f"  {split.name}; {len(graph.areas)} areas; features: {', '.join(names) or 'none'}")
        save_graph(graph, run / "tables" / "graph")
        write_json(run / "tables" / "leakage.json", prepared.leakage)
        write_json(run / "tables" / "left_out.json", list(prepared.left_out))
        return ["tables/graph.safetensors", "tables/graph.json", "tables/leakage.json", "tables/left_out.json"]

    def _parts(self, run: RunFolder) -> tuple[MeshGraph, Split, CoordinateFrame]:
        graph = load_graph(run / "tables" / "graph")
        split = self.config.split.build().apply(graph)
        return graph, split, self.config.inputs.build().frame(graph, split.train)

    def _models(self, run: RunFolder, align: Alignment) -> tuple[ModelInputs, CoordinateFrame]:
        """What every model of the run sees, and the frame of its coordinates."""
        c = self.config
        graph, split, frame = self._parts(run)
        folds = [
            fold for seed in c.seeds for fold in validation_folds(graph, split, c.trainer.folds, c.validation, seed)
        ]
        models = single_brain_inputs(graph, split, frame, c.inputs, self._prepare(run).names, align, folds)
        return (models.with_edges(self._connections(graph, split)) if c.connect else models), frame

    def _connections(self, graph: MeshGraph, split: Split) -> NDArray[np.int32]:
        """Edges between nodes of one part whose runs are alike, for the network alone."""
        assert self.config.connect is not None
        if self._extra is None:
            part = np.where(split.train, 0, np.where(split.asked, 1, -1))
            with at("connect"):
                maker = self.config.connect.build()
                self._extra = maker.edges(graph, self.reading.series, part, split.edges)
        return self._extra

    def _alignment(self, run: RunFolder) -> Alignment:
        return from_plain(Alignment, read_json(run / ALIGNMENT)["align"], ALIGNMENT)

    def _baselines(self, run: RunFolder) -> list[str]:
        c, found = self.config, Baselines()
        graph, split, frame = self._parts(run)
        found.fit_recipes(self._models(run, "mirror")[0], c.seeds, "mirrored coordinates")
        guess = found.votes.get("features_smoothed/0")
        align = self._choose_alignment(run, graph, split, frame, None if guess is None else guess.argmax(1))
        write_json(run / ALIGNMENT, {"align": align})
        # Folds are what seeds differ in here; the first seed's are enough for models that take a minute.
        found.fit_same_inputs(SameInputs(self._models(run, align)[0], range(c.trainer.folds), c.seeds[0]))
        return [*found.save(run), ALIGNMENT]

    def _choose_alignment(
        self,
        run: RunFolder,
        graph: MeshGraph,
        split: Split,
        frame: CoordinateFrame,
        guess: NDArray[np.integer] | None,
    ) -> Alignment:
        """The better way to align hemispheres, "mirror" or "rigid", judged by carrying labels there and back.

        A features-only model (the smoothed-features baseline, which knows no position) names the areas of the test
        part; 5 nearest neighbours carry those names back to the training part through each alignment, and their
        macro-F1 against the known labels there decides. Test labels take no part.

        Args:
            guess: [V] areas that the baseline names; None where there are no features.
        """
        wanted = self.config.inputs.align
        if wanted != "auto":
            return wanted
        moving = [h for h, place in graph.slices().items() if not split.train[place].any()]
        if not self.config.inputs.coordinates or not moving or guess is None:
            return "mirror"
        known = split.train & (graph.labels >= 0)
        scores: dict[Alignment, float] = {}
        for choice in ("mirror", "rigid"):
            points = frame.coordinates_mm(graph, choice, split.train)
            back = KNeighborsClassifier(5).fit(points[split.test], guess[split.test]).predict(points[known])
            scores[choice] = macro_f1(graph.labels[known], back, len(graph.areas))
        best = max(scores, key=lambda choice: scores[choice])
        listed = ", ".join(f"{choice} {value:.3f}" for choice, value in scores.items())
        run.say(f"  coordinates aligned by: {best} (there-and-back macro-F1 on training nodes: {listed})")
        return best

    @cached_property
    def networks(self) -> dict[str, Network]:
        """Every network that is trained, by name."""
        c = self.config
        main = Network(config=c.model, sees="everything", seeds=c.seeds)
        return {MAIN: main} | (controls_of(main, c.control_seeds) if c.controls else {})

    def _seen(self, run: RunFolder) -> Callable[[Network], Seen]:
        """What a network sees."""
        align, graph, names = self._alignment(run), self._parts(run)[0], self._prepare(run).names
        models, frame = self._models(run, align)
        # A slab has no homologue in its own hemisphere: what lies nearest there is another area.
        whole = isinstance(self.config.split, HemisphereSplit.Config)
        places = PlacePrior.of(models) if self.config.prior and whole else None

        def seen(network: Network) -> Seen:
            return Seen(
                models=network.inputs(models.with_folds(len(network.seeds) * self.config.trainer.folds)),
                config=self.config.inputs, names=names, areas=graph.areas, frame=frame, align=align,
                computed=computed_features(graph, names), places=places,
            )  # fmt: skip

        return seen

    def _train(self, run: RunFolder) -> list[str]:
        return train_networks(run, self.networks, self._seen(run), self.config.trainer)

    def _evaluate(self, run: RunFolder) -> list[str]:
        c, seen, everything = self.config, self._seen(run), [slice(None)]
        graph, split, _ = self._parts(run)
        left_out = _left_out(graph, split)
        methods = trained_methods(run, self.networks, seen, everything, c.trainer) | stored_methods(run, everything)
        part = Part([Judge(graph=graph, left_out=left_out, by=f"labels of {self.reading.atlas}")], [split.test], [0])
        each = [score(graph, split.test, one, left_out) for (one,) in methods[MAIN].maps]
        mean = np.mean([one for (one,) in methods[MAIN].maps], axis=0)
        together = score(graph, split.test, mean, left_out)
        own = np.mean([one.per_area_f1 for one in each], axis=0)  # NaN: not in the test part, for every seed
        scores = replace(
            block(part, methods),
            per_area_f1=dict(zip(graph.areas.names, map(float, own))),
            baselines_per_area_f1={
                name: part.per_area_f1(method.maps[0]) for name, method in methods.items() if method.kind == "baseline"
            },
            confusion=Confusion(areas=tuple(graph.areas.names), rows_true_columns_predicted=together.confusion),
        )
        names, known, align = self._prepare(run).names, validated_labels(run), self._alignment(run)
        folds = methods[MAIN].folds or ()
        metrics = Metrics(
            task=f"{graph.brain} {self.reading.atlas}: {split.name}",
            protocol=split.protocol,
            classes=len(graph.areas),
            seeds=tuple(c.seeds),
            nodes=NodeCounts(train=len(known), test=part.nodes, left_out=left_out.plain()),
            features=tuple(names),
            computed_features=tuple(computed_features(graph, names)),
            transductive_features=tuple(name for name in names if name in TRANSDUCTIVE),
            left_out_features=tuple(read_json(run / "tables" / "left_out.json")),
            rim=any(name.startswith(RIM_PREFIX) for name in names),
            coordinates=c.inputs.coordinates,
            alignment=align if c.inputs.coordinates else None,
            model=to_plain(c.model)["_"],
            validation=Validation(**mean_scores([striped_scores(known, votes) for votes in folds])),
            not_run={} if "registered_prior" in methods else {"registered_prior": NO_REGISTRATION},
            leakage=read_json(run / "tables" / "leakage.json"),
            strict=scores,
            per_seed=tuple(Measures(**one.plain()) for one in each),
            seeds_together=Measures(**together.plain()),
        )
        area_map = AreaMap(graph=graph, probabilities=mean)
        written = write_area_map(run / "predictions", area_map)
        write_csv(run / "predictions" / "nodes.csv", area_map)
        write_arrays(run / "tables" / "probabilities.safetensors", {"probabilities": area_map.probabilities})
        write_json(run / SCORES, metrics.to_json())
        files = [str(path.relative_to(run.path)) for path in written]
        return [*files, "predictions/nodes.csv", "tables/probabilities.safetensors", SCORES]

    def _export(self, run: RunFolder) -> list[str]:
        graph = load_graph(run / "tables" / "graph")
        probabilities = read_arrays(run / "tables" / "probabilities.safetensors")["probabilities"]
        area_map = AreaMap(graph=graph, probabilities=probabilities)
        write_graphml(run / "export" / "graph.graphml", area_map)
        return ["export/graph.graphml", run_report(run, area_map, page_html(area_map, title=graph.brain))]

    def summary(self, run: RunFolder) -> str:
        return summary_text(read_metrics(run / "metrics.json"), run.path)

"""Area mapping on one brain: read, baselines, train, evaluate, export."""

import csv
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier
from tqdm import tqdm

from meshgnn.config import Config as BaseConfig
from meshgnn.config import to_plain
from meshgnn.data.derived import RIM_PREFIX, computed_features
from meshgnn.data.inputs import TRANSDUCTIVE, Alignment, CoordinateFrame, NodeInputs
from meshgnn.data.split import BlockSplit, Folds, HemisphereSplit, Split, validation_folds
from meshgnn.encoder import TableMaker
from meshgnn.errors import InputError
from meshgnn.experiment.preparation import Prepared, prepare
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import SCORES, Stage
from meshgnn.experiment.summary import summary_text, write_history
from meshgnn.experiment.training import train_ensemble
from meshgnn.export.area_map import AreaMap
from meshgnn.export.gifti import write_area_map
from meshgnn.export.page import page_html
from meshgnn.export.report import write_report
from meshgnn.export.tables import write_csv, write_graphml
from meshgnn.graph import MeshGraph
from meshgnn.mesh.operators import one_ring_average
from meshgnn.mesh.topology import summary
from meshgnn.nn import GraphSAGE, NetworkConfig
from meshgnn.source.socket import BrainSource
from meshgnn.store import (
    file_hash,
    load_graph,
    read_arrays,
    read_json,
    save_graph,
    write_arrays,
    write_json,
)
from meshgnn.train.baselines import ROUNDS, SEEDED, BaselineInputs, baselines
from meshgnn.train.ensemble import Ensemble
from meshgnn.train.fit import TrainerConfig
from meshgnn.train.metrics import macro_f1, mean_scores, score
from meshgnn.train.task import TrainingTask


@dataclass(frozen=True, kw_only=True)
class NoTables(BaseConfig):
    """No features beside those the source brings."""

    def build(self) -> None:
        return None


class AreaMapping:
    """Node classification on one brain, judged beside its baselines."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            source: yields the brain.
            geometry: a maker of further features (`TableMaker`), or NoTables.
            features: which features, at which scales, with coordinates or without.
            split: HemisphereSplit or BlockSplit.
            model: GraphSAGE, GCN or MLP.
            trainer: how it is trained.
            seeds: one ensemble each; test scores are means over them.
            validation: how the training part is cut into validation blocks.
        """

        source: Any
        geometry: Any = field(default_factory=NoTables)
        features: NodeInputs.Config = field(default_factory=NodeInputs.Config)
        split: HemisphereSplit.Config | BlockSplit.Config = field(default_factory=HemisphereSplit.Config)
        model: NetworkConfig = field(default_factory=GraphSAGE.Config)
        trainer: TrainerConfig = field(default_factory=TrainerConfig)
        seeds: tuple[int, ...] = (0, 1, 2)
        validation: Folds = field(default_factory=Folds)

        def __post_init__(self) -> None:
            known = bool(self.seeds) and len(set(self.seeds)) == len(self.seeds)
            if not known or min(self.seeds) < 0 or max(self.seeds) >= 2**31:
                raise InputError("seeds must be one or more different numbers from 0 to 2147483647")

        def build(self) -> "AreaMapping":
            return AreaMapping(self)

    def __init__(self, config: Config) -> None:
        self.config = config
        self.source: BrainSource = config.source.build()
        self.maker: TableMaker | None = config.geometry.build()
        self.reading = self.source.read()

    # -- the experiment socket ------------------------------------------------------------------------------------

    def inputs(self) -> dict[str, str]:
        return {str(path): file_hash(path) for path in self.reading.files}

    def seeds(self) -> list[int]:
        return list(self.config.seeds)

    def stages(self) -> list[Stage]:
        c = self.config
        data = to_plain([c.source, c.geometry, c.features, c.split])
        training = to_plain([c.model, c.trainer, list(c.seeds), c.validation])
        training[1].pop("workers")  # members do not depend on it
        return [
            Stage(name="read", run=self._read, depends=data),
            Stage(name="baselines", run=self._baselines, depends=list(c.seeds)),
            Stage(name="train", run=self._train, depends=training),
            Stage(name="evaluate", run=self._evaluate),
            Stage(name="export", run=self._export),
        ]

    # -- stages ---------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Everything that can be wrong with the brain or the settings; raises InputError."""
        graph, split = self._prepared.graph, self._prepared.split
        c = self.config
        folds = validation_folds(graph, split, c.trainer.folds, c.validation, c.seeds[0])
        labelled = graph.labels >= 0
        if not all((fold.train & labelled).any() and (fold.validation & labelled).any() for fold in folds):
            raise InputError(
                f"{graph.brain}: the training part is too small for {c.trainer.folds} validation folds with buffers; "
                "lower trainer.folds or validation.buffer_mm"
            )

    @cached_property
    def _prepared(self) -> Prepared:
        c = self.config
        return prepare(self.reading, self.maker, c.split.build().apply, c.features)

    def _read(self, run: RunFolder) -> list[str]:
        graph, split, names = self._prepared.graph, self._prepared.split, self._prepared.names
        for warning in self._prepared.warnings:
            run.warn(warning)
        for mesh in graph.meshes:
            m = summary(mesh)
            run.say(
                f"  hemisphere {mesh.hemisphere}: {m['vertices']} vertices, {m['edges']} edges, Euler number "
                f"{m['euler_number']}, {m['edges_not_in_two_faces']} edges not in two faces"
            )
        run.say(f"  {split.name}; {len(graph.areas)} areas; features: {', '.join(names) or 'none'}")
        save_graph(graph, run / "tables" / "graph")
        write_json(run / "tables" / "leakage.json", self._prepared.leakage)
        write_json(run / "tables" / "left_out.json", list(self._prepared.left_out))
        return ["tables/graph.safetensors", "tables/graph.json", "tables/leakage.json", "tables/left_out.json"]

    def _parts(self, run: RunFolder) -> tuple[MeshGraph, Split, CoordinateFrame]:
        graph = load_graph(run / "tables" / "graph")
        split = self.config.split.build().apply(graph)
        return graph, split, self.config.features.build().frame(graph, split.train)

    def _baselines(self, run: RunFolder) -> list[str]:
        graph, split, frame = self._parts(run)
        maker = self.config.features.build()
        raw = maker.raw(graph, split.edges, self._prepared.names)
        smoothed = None
        if raw.names:
            scales = one_ring_average(raw.values, graph.cortex, split.edges, ROUNDS)
            smoothed = np.concatenate([raw.values, *scales], axis=1)
        inputs = BaselineInputs(
            coordinates_mm=frame.coordinates_mm(
                graph, "mirror" if graph.space == frame.space else "rigid", split.train
            ),
            features=raw.values if raw.names else None,
            smoothed=smoothed,
            labels=graph.labels,
            train=split.train & (graph.labels >= 0),
            n_classes=len(graph.areas),
        )
        found: dict[str, Any] = {}
        kept: dict[str, NDArray[Any]] = {}
        recipes = baselines(inputs)
        for name in tqdm(recipes, desc="baselines", disable=None, leave=False):
            seeds = self.config.seeds if name in SEEDED else self.config.seeds[:1]
            scores = []
            for seed in seeds:
                probabilities = recipes[name](seed)
                scores.append(score(graph, split.test, probabilities))
            kept[name] = probabilities
            found[name] = mean_scores([s.plain() for s in scores]) | {"per_area_f1": list(scores[0].per_area_f1)}
        write_arrays(run / "tables" / "baselines.safetensors", kept)
        write_json(run / "tables" / "baselines.json", found)
        return ["tables/baselines.safetensors", "tables/baselines.json"]

    def _choose_alignment(self, run: RunFolder, graph: MeshGraph, split: Split, frame: CoordinateFrame) -> Alignment:
        """mirror or rigid: the one that carries labels there and back better.

        A features-only model (the smoothed-features baseline, which knows no position) names the areas of the test
        part; 5 nearest neighbours carry those names back to the training part through each alignment, and their
        macro-F1 against the known labels there decides. Test labels take no part.
        """
        wanted = self.config.features.align
        if wanted != "auto":
            return wanted
        moving = [h for h, place in graph.slices().items() if not split.train[place].any()]
        kept = read_arrays(run / "tables" / "baselines.safetensors")
        if not self.config.features.coordinates or not moving or "features_smoothed" not in kept:
            return "mirror"
        guess = kept["features_smoothed"].argmax(1)
        known = split.train & (graph.labels >= 0)
        scores: dict[Alignment, float] = {}
        for choice in ("mirror", "rigid"):
            points = frame.coordinates_mm(graph, choice, split.train)
            back = KNeighborsClassifier(5).fit(points[split.test], guess[split.test]).predict(points[known])
            scores[choice] = macro_f1(graph.labels[known], back, len(graph.areas))
        best = max(scores, key=lambda choice: scores[choice])
        told = ", ".join(f"{choice} {value:.3f}" for choice, value in scores.items())
        run.say(f"  coordinates aligned by: {best} (there-and-back macro-F1 on training nodes: {told})")
        return best

    def _train(self, run: RunFolder) -> list[str]:
        c = self.config
        graph, split, frame = self._parts(run)
        maker = c.features.build()
        names = self._prepared.names
        features = maker.features(graph, split.edges, maker.raw(graph, split.edges, names))
        align = self._choose_alignment(run, graph, split, frame)
        coordinates = np.zeros((graph.n_nodes, 0), np.float32)
        if c.features.coordinates:
            coordinates = frame.scaled(frame.coordinates_mm(graph, align, split.train))
        labelled = split.train & (graph.labels >= 0)
        folds = [
            fold for seed in c.seeds for fold in validation_folds(graph, split, c.trainer.folds, c.validation, seed)
        ]
        task = TrainingTask(
            features=features,
            coordinates=coordinates,
            unit_mm=frame.unit_mm,
            edges=split.edges,
            labels=np.where(labelled, graph.labels, -1),
            n_classes=len(graph.areas),
            train=np.stack([fold.train & labelled for fold in folds]),
            validation=np.stack([fold.validation & labelled for fold in folds]),
        ).restricted_to(split.train)  # no edge leaves it, so members need not see the rest
        trained = train_ensemble(
            run, task, place="", network=c.model, trainer=c.trainer, seeds=c.seeds, inputs=c.features, names=names,
            areas=graph.areas, frame=frame, align=align, computed=computed_features(graph, names),
        )  # fmt: skip
        out_of_fold: dict[str, NDArray[Any]] = {}
        for seed, probabilities in trained.out_of_fold.items():
            spread = np.full((graph.n_nodes, len(graph.areas)), 1 / len(graph.areas), np.float32)
            spread[split.train] = probabilities
            out_of_fold[str(seed)] = spread
        outputs = trained.ensemble.save(run.path)
        write_arrays(run / "tables" / "out_of_fold.safetensors", out_of_fold)
        write_history(run / "metrics.csv", trained.history)
        return [*outputs, "tables/out_of_fold.safetensors", "metrics.csv"]

    def _evaluate(self, run: RunFolder) -> list[str]:
        c = self.config
        graph, split, _ = self._parts(run)
        ensemble = Ensemble.load(run.path)
        by_seed = ensemble.predict(graph, edges=split.edges, fixed=split.train)
        out_of_fold = read_arrays(run / "tables" / "out_of_fold.safetensors")
        labelled = split.train & (graph.labels >= 0)
        tested = [score(graph, split.test, by_seed[seed]) for seed in c.seeds]
        validated = [score(graph, labelled, out_of_fold[str(seed)]) for seed in c.seeds]
        mean = np.mean([by_seed[seed] for seed in c.seeds], axis=0)
        together = score(graph, split.test, mean)
        judged = read_json(run / "tables" / "baselines.json")
        per_area = np.mean([s.per_area_f1 for s in tested], axis=0)  # NaN: not in the test part, for every seed
        names = self._prepared.names
        metrics = {
            "task": f"{graph.brain} {self.reading.atlas}: {split.name}",
            "protocol": split.protocol,
            "classes": len(graph.areas),
            "seeds": list(c.seeds),
            "nodes": {"train": int(labelled.sum()), "test": tested[0].nodes},
            "features": list(names),
            "computed_features": list(computed_features(graph, names)),
            "transductive_features": [name for name in names if name in TRANSDUCTIVE],
            "left_out_features": read_json(run / "tables" / "left_out.json"),
            "rim": any(name.startswith(RIM_PREFIX) for name in names),
            "coordinates": c.features.coordinates,
            "alignment": ensemble.align if c.features.coordinates else None,
            "model": to_plain(c.model)["_"],
            "test": mean_scores([s.plain() for s in tested]),
            "validation": mean_scores([s.plain() for s in validated]),
            "per_seed": [s.plain() for s in tested],
            "seeds_together": together.plain(),
            "baselines": {n: {k: v for k, v in b.items() if k != "per_area_f1"} for n, b in judged.items()},
            "per_area_f1": dict(zip(graph.areas.names, map(float, per_area))),
            "baselines_per_area_f1": {n: dict(zip(graph.areas.names, b["per_area_f1"])) for n, b in judged.items()},
            "confusion": {"areas": list(graph.areas.names), "rows_true_columns_predicted": together.confusion},
            "leakage": read_json(run / "tables" / "leakage.json"),
        }
        area_map = AreaMap(graph=graph, probabilities=mean)
        written = write_area_map(run / "predictions", area_map)
        write_csv(run / "predictions" / "nodes.csv", area_map)
        write_arrays(run / "tables" / "probabilities.safetensors", {"probabilities": area_map.probabilities})
        write_json(run / SCORES, metrics)
        files = [str(path.relative_to(run.path)) for path in written]
        return [*files, "predictions/nodes.csv", "tables/probabilities.safetensors", SCORES]

    def _export(self, run: RunFolder) -> list[str]:
        graph = load_graph(run / "tables" / "graph")
        probabilities = read_arrays(run / "tables" / "probabilities.safetensors")["probabilities"]
        area_map = AreaMap(graph=graph, probabilities=probabilities)
        write_graphml(run / "export" / "graph.graphml", area_map)
        with (run / "metrics.csv").open(newline="") as handle:
            history = list(csv.DictReader(handle))
        write_report(
            run / "report.html", read_json(run / SCORES), history, read_json(run / "config.json"),
            read_json(run / "provenance.json"), area_map, page_html(area_map, title=graph.brain),
        )  # fmt: skip
        return ["export/graph.graphml", "report.html"]

    def summary(self, run: RunFolder) -> str:
        return summary_text(read_json(run / "metrics.json"), run.path)

"""Maps a new stack of sections with a trained run: mesh, features, areas. Nothing is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import Config as BaseConfig
from meshgnn.config import to_plain
from meshgnn.data.split import inner_edges
from meshgnn.errors import InputError
from meshgnn.experiment.feature_tables import stage_names
from meshgnn.experiment.progress import Bars
from meshgnn.experiment.protocol_scores import Judge
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import SCORES, Experiment, Stage
from meshgnn.experiment.section_brain import (
    check_stack,
    export_brain,
    judge_of,
    keep_truth,
    load_brain,
    make_features,
    make_mesh,
    measures,
)
from meshgnn.experiment.trained_run import BASELINES, read_trained_run
from meshgnn.experiment.trust import trust_of
from meshgnn.export.area_map import AreaMap
from meshgnn.export.gifti import write_area_map
from meshgnn.export.tables import write_csv
from meshgnn.export.trust import FILE as TRUST
from meshgnn.export.trust import Trust, load_trust, save_trust
from meshgnn.override import override
from meshgnn.results import BaselineScores, MappedNodes, Measures, SectionPredictionMetrics
from meshgnn.sockets import FeatureMaker, MeshMaker
from meshgnn.source.annotations import FOLDER as ANNOTATIONS
from meshgnn.source.annotations import read_annotations
from meshgnn.source.cohort import brain_name, stack_hashes, truth_hashes
from meshgnn.source.images import image_hash
from meshgnn.source.same_images import shared_images
from meshgnn.source.sections import read_stack
from meshgnn.store import load_graph, read_arrays, read_json, write_arrays, write_json
from meshgnn.train.ensemble import Ensemble
from meshgnn.train.intervals import paired_interval
from meshgnn.train.metrics import score
from meshgnn.train.stored_baselines import SEES, StoredBaselines

SHARED = "tables/shared_images.json"  # numbers of sections that the run was trained on


class PredictSections(Experiment):
    """A trained run on a stack folder. Annotations or truth of that stack judge the map, they never enter it."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            run: folder of a finished run of `SectionMapping` (virtual_brain, virtual_brain:sections).
            stack: folder of the sections to map.
            mesh_settings: KEY=VALUE of the mesh maker that differ from the run's, as `--set` takes them.
            mesh, features: configs of mesh maker and makers of features; none: as in the run (which must have been
                started from the command line).
        """

        moved: ClassVar[dict[str, str]] = {"encoder": "features", "encoder.*": "features.0"}

        run: Path = Path()
        stack: Path = Path()
        mesh_settings: tuple[str, ...] = ()
        mesh: Any = None
        features: tuple[Any, ...] = ()

        def build(self) -> "PredictSections":
            return PredictSections(self)

    def __init__(self, config: Config) -> None:
        if config.run == Path():
            raise InputError("no trained run given; add --set run=RUN")
        if config.stack == Path():
            raise InputError("no sections given; add --set stack=STACK")
        self.config = config
        self.trained = read_trained_run(config.run, config.mesh, config.features)
        self.mesh = override(self.trained.mesh, config.mesh_settings)
        self.maker: MeshMaker = self.mesh.build()  # type: ignore[attr-defined]
        self.makers: list[FeatureMaker] = [one.build() for one in self.trained.features]  # type: ignore[attr-defined]
        self.ensemble = Ensemble.load(config.run)
        self.brain = brain_name(config.stack)
        self.stack_files = stack_hashes(config.stack)
        self.truth_files = truth_hashes(config.stack)

    # -- the experiment socket ------------------------------------------------------------------------------------

    def input_files(self) -> dict[str, str]:
        files = {str(self.config.run / name): digest for name, digest in self.trained.files.items()}
        own = self.stack_files | self.truth_files
        return files | {str(self.config.stack / name): digest for name, digest in own.items()}

    def seeds(self) -> list[int]:
        return list(self.ensemble.weights)

    def check(self) -> None:
        stack = read_stack(self.config.stack, space=self.brain, mirrored="turn")
        makers = {f"features.{k}": maker for k, maker in enumerate(self.makers)}
        check_stack(self.maker, makers, self.config.stack, str(self.config.stack), stack.coarsest_um, mesh="")
        if (self.config.stack / ANNOTATIONS).is_dir():
            read_annotations(self.config.stack).check()

    def stages(self) -> list[Stage]:
        mesh = [to_plain(self.mesh), list(self.ensemble.areas.names), self.stack_files]
        features = [to_plain(self.trained.features), self.trained.files]
        return [
            Stage(name="images", run=self._images, depends=[self.stack_files, self.trained.trained_on], after=()),
            Stage(name="mesh", run=self._mesh, depends=mesh, after=()),
            Stage(name="truth", run=self._truth, depends=self.truth_files, after=("mesh",)),
            Stage(name="features", run=self._features, depends=features, after=("mesh",)),
            Stage(name="predict", run=self._predict, depends=self.trained.files, after=("images", "features", "truth")),
            Stage(name="export", run=self._export, after=("predict",)),
        ]

    # -- from sections to a map -----------------------------------------------------------------------------------

    def _folder(self, run: RunFolder) -> Path:
        return run / "brains" / self.brain

    def _named(self, run: RunFolder, files: list[str]) -> list[str]:
        return [str((self._folder(run) / name).relative_to(run.path)) for name in files]

    def _mesh(self, run: RunFolder) -> list[str]:
        if strange := self._strange_areas():
            run.warn(strange)
        folder = self._folder(run)
        files = make_mesh(
            self.maker, self.brain, self.config.stack, folder, self.ensemble.areas, Bars(run, f"{self.brain} ")
        )  # fmt: skip
        graph = load_graph(folder / "graph")
        run.say(f"  {self.brain}: {graph.n_nodes} nodes, {graph.cortex.mean():.0%} in cortex")
        return self._named(run, files)

    def _truth(self, run: RunFolder) -> list[str]:
        return self._named(run, keep_truth(self.maker, self.config.stack, self._folder(run)))

    def _features(self, run: RunFolder) -> list[str]:
        brain = load_brain(self.maker, self.config.stack, self._folder(run))
        fitted = {
            f"features.{k}": (maker, self.config.run / stage)
            for k, (maker, stage) in enumerate(zip(self.makers, stage_names("features", len(self.makers))))
        }
        files = make_features(brain, fitted, self._folder(run), Bars(run, f"{self.brain} "), run.say)
        return self._named(run, files)

    def _predict(self, run: RunFolder) -> list[str]:
        graph = load_graph(self._folder(run) / "features")
        edges = inner_edges(graph)
        features, coordinates = self.ensemble.arrays(graph, edges, "similarity")
        by_seed = self.ensemble.predict_arrays(features, coordinates, edges)
        baselines: dict[str, NDArray[np.float32]] = {}
        trust = Trust()
        if BASELINES in self.trained.files:
            kept = StoredBaselines.load(self.config.run / BASELINES)
            baselines = kept.votes(features, coordinates, edges)
            if why := kept.no_unmapped():
                run.say(f"  {why}")
            # Maps of runs from before, and of those that see no places, are left as they are.
            adapt = self.trained.adapt and kept.adapts and self.ensemble.inputs.coordinates
            if adapt:
                prior = kept.log_prior(coordinates)
                by_seed = {seed: kept.adapted(own, features, prior, edges) for seed, own in by_seed.items()}
            trust = trust_of(kept, features, coordinates, edges, _mean(by_seed) if adapt else None)
        votes = _mean(by_seed)
        judge = judge_of(self._folder(run), graph)
        area_map = trust.of(AreaMap(graph=judge.graph if judge else graph, probabilities=votes))
        written = write_area_map(run / "predictions", area_map)
        write_csv(run / "predictions" / f"{self.brain}.csv", area_map)
        write_arrays(run / "tables" / "probabilities.safetensors", {self.brain: votes})
        write_arrays(run / "tables" / "baselines.safetensors", baselines)
        save_trust(run / "tables" / TRUST, {self.brain: trust})
        write_json(run / SCORES, self._metrics(run, judge, area_map, baselines).to_json())
        files = [str(path.relative_to(run.path)) for path in written]
        return [
            *files,
            f"predictions/{self.brain}.csv",
            "tables/probabilities.safetensors",
            "tables/baselines.safetensors",
            f"tables/{TRUST}",
            SCORES,
        ]

    def _export(self, run: RunFolder) -> list[str]:
        brain = load_brain(self.maker, self.config.stack, self._folder(run))
        graph = load_graph(self._folder(run) / "features")
        judge = judge_of(self._folder(run), graph)
        graph = judge.graph if judge else graph
        votes = read_arrays(run / "tables" / "probabilities.safetensors")[self.brain]
        out = run / "export" / self.brain
        area_map = load_trust(run / "tables" / TRUST, self.brain).of(AreaMap(graph=graph, probabilities=votes))
        written = export_brain(area_map, brain, out, Bars(run, f"{self.brain} "))
        return [str(path.relative_to(run.path)) for path in written]

    # -- what is told ---------------------------------------------------------------------------------------------

    def _images(self, run: RunFolder) -> list[str]:
        """Sections of this stack that the run was trained on: the same file, or the same image stored anew."""
        stack, known = read_stack(self.config.stack, mirrored="turn"), {}
        for name, folder in self.trained.stacks.items():
            try:
                known[name] = read_stack(folder, mirrored="turn")
            except InputError:
                run.warn(f"{folder}, which the run was trained on, is not there any more: of its images only unchanged "
                         "files are recognised")  # fmt: skip
        pairs = shared_images(known, {self.brain: stack}, Bars(run, f"{self.brain} "))
        seen = {int(copy.rsplit("/", 1)[1]) for _, copy in pairs}
        seen |= {section.index for section in stack if image_hash(section.path) in self.trained.trained_on}
        write_json(run / SHARED, sorted(seen))
        if seen:
            listed = ", ".join(map(str, sorted(seen)[:5])) + (", ..." if len(seen) > 5 else "")
            run.warn(
                f"{len(seen)} sections of {self.config.stack} ({listed}) were part of the training of "
                f"{self.config.run}: this is no new brain, and scores say nothing"
            )
        return [SHARED]

    def _strange_areas(self) -> str:
        """What to say of annotated areas that the model does not know; "" if there are none."""
        if not (self.config.stack / ANNOTATIONS).is_dir():
            return ""
        own = read_annotations(self.config.stack).areas.names
        unknown = sorted(set(own) - set(self.ensemble.areas.names))
        listed = f"{len(unknown)} of {len(own)} annotated areas are not the model's and judge nothing: "
        return listed + ", ".join(unknown[:5]) if unknown else ""

    def _metrics(
        self, run: RunFolder, judge: Judge | None, area_map: AreaMap, baselines: Mapping[str, NDArray[np.float32]]
    ) -> SectionPredictionMetrics:
        """Args: baselines: what the run's own baselines say of this brain."""
        graph = area_map.graph
        inside = graph.cortex & (graph.labels >= 0) & (judge is not None)
        shared = len(read_json(run / SHARED))
        found = SectionPredictionMetrics(
            task=f"{self.brain}: prediction of {self.config.run}",
            protocol="none: images of the training" if shared else "strict",
            classes=len(graph.areas),
            seeds=tuple(self.seeds()),
            alignment="similarity" if self.ensemble.inputs.coordinates else None,
            nodes=MappedNodes(mapped=int(graph.cortex.sum()), judged=int(inside.sum())),
            judged_by=judge.by if judge else None,
            leakage={"shared_patches": shared},
            reconstruction=measures(self.maker, self._folder(run)),
            not_run=None if baselines else {"baselines": "the run was made by a version that kept none of them"},
        )
        if judge is None or not inside.any():
            return found
        left_out = judge.left_out

        def measured(votes: NDArray[np.floating]) -> dict[str, Any]:
            return score(graph, inside, votes, left_out).plain()

        return replace(
            found,
            test=Measures(**measured(area_map.probabilities)),
            left_out=left_out.plain() if left_out else {},
            baselines={
                name: BaselineScores(**measured(votes), sees=SEES[name], fits=1, seeds=1)
                for name, votes in baselines.items()
            },
            ours_minus={
                name: paired_interval([graph], [inside], [[area_map.probabilities]], [[votes]])
                for name, votes in baselines.items()
            },
        )

    def summary(self, run: RunFolder) -> str:
        metrics = SectionPredictionMetrics.from_json(read_json(run / "metrics.json"), str(run / "metrics.json"))
        lines = [
            f"{self.brain}: {metrics.nodes.mapped} nodes in cortex mapped to {metrics.classes} areas",
            f"label files in {run / 'predictions'}; page and sections in {run / 'export' / self.brain}",
        ]
        if metrics.test is not None:
            lines.append(
                f"against {metrics.judged_by} of the stack, which the map did not see: macro-F1 "
                f"{metrics.test.macro_f1:.3f} on {metrics.nodes.judged} nodes"
            )
            for name, one in (metrics.baselines or {}).items():
                gap = (metrics.ours_minus or {})[name]
                lines.append(
                    f"  {name:16s}{one.macro_f1:.3f}  ({one.sees}); the map minus this {gap.difference:+.3f} "
                    f"[{gap.low:+.3f}, {gap.high:+.3f}]"
                )
        if metrics.leakage["shared_patches"]:
            lines.append("warning: images of this stack were part of the training; the score says nothing")
        return "\n".join(lines)


def _mean(by_seed: Mapping[int, NDArray[np.floating]]) -> NDArray[np.float32]:
    """Mean of maps [V, K]."""
    return np.asarray(np.mean(list(by_seed.values()), axis=0, dtype=np.float64), np.float32)

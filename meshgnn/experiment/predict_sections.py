"""Maps a new stack of sections with a trained run: mesh, features, areas. Nothing is trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from meshgnn.config import Config as BaseConfig
from meshgnn.config import override, to_plain
from meshgnn.data.split import inner_edges
from meshgnn.encoder import MeshMaker, SectionFeatures
from meshgnn.errors import InputError
from meshgnn.experiment.progress import Bars
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import SCORES, Stage
from meshgnn.experiment.section_brain import (
    export_brain,
    judge_of,
    load_brain,
    make_features,
    make_mesh,
)
from meshgnn.experiment.section_scores import Judge
from meshgnn.experiment.trained_run import read_trained_run
from meshgnn.export.area_map import AreaMap
from meshgnn.export.gifti import write_area_map
from meshgnn.export.tables import write_csv
from meshgnn.source.annotations import FOLDER as ANNOTATIONS
from meshgnn.source.annotations import read_annotations
from meshgnn.source.cohort import brain_name, stack_hashes
from meshgnn.source.same_images import shared_images
from meshgnn.source.sections import read_stack
from meshgnn.store import file_hash, load_graph, read_arrays, read_json, write_arrays, write_json
from meshgnn.train.ensemble import Ensemble
from meshgnn.train.metrics import score

SHARED = "tables/shared_images.json"  # numbers of sections that the run was trained on


class PredictSections:
    """A trained run on a stack folder. Annotations or truth of that stack judge the map, they never enter it."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            run: folder of a finished run of `SectionMapping` (virtual_brain, virtual_brain:sections).
            stack: folder of the sections to map.
            mesh_settings: KEY=VALUE of the mesh maker that differ from the run's, as `--set` takes them.
            mesh, encoder: configs of mesh maker and features; None: as in the run (which must have been started from
                the command line).
        """

        run: Path = Path()
        stack: Path = Path()
        mesh_settings: tuple[str, ...] = ()
        mesh: Any = None
        encoder: Any = None

        def build(self) -> "PredictSections":
            return PredictSections(self)

    def __init__(self, config: Config) -> None:
        if config.run == Path():
            raise InputError("no trained run given; add --set run=RUN")
        if config.stack == Path():
            raise InputError("no sections given; add --set stack=STACK")
        self.config = config
        self.trained = read_trained_run(config.run, config.mesh, config.encoder)
        self.mesh = override(self.trained.mesh, config.mesh_settings)
        self.maker: MeshMaker = self.mesh.build()  # type: ignore[attr-defined]
        self.encoder: SectionFeatures = self.trained.encoder.build()  # type: ignore[attr-defined]
        self.ensemble = Ensemble.load(config.run)
        self.brain = brain_name(config.stack)
        self.stack_files = stack_hashes(config.stack)

    # -- the experiment socket ------------------------------------------------------------------------------------

    def inputs(self) -> dict[str, str]:
        files = {str(self.config.run / name): digest for name, digest in self.trained.files.items()}
        return files | {str(self.config.stack / name): digest for name, digest in self.stack_files.items()}

    def seeds(self) -> list[int]:
        return list(self.ensemble.weights)

    def check(self) -> None:
        read_stack(self.config.stack, space=self.brain, mirrored="turn").usable()
        if (self.config.stack / ANNOTATIONS).is_dir():
            read_annotations(self.config.stack).check()

    def stages(self) -> list[Stage]:
        mesh = [to_plain(self.mesh), list(self.ensemble.areas.names), self.stack_files]
        features = [to_plain(self.trained.encoder), self.trained.files]
        return [
            Stage(name="images", run=self._images, depends=[self.stack_files, self.trained.trained_on], after=()),
            Stage(name="mesh", run=self._mesh, depends=mesh, after=()),
            Stage(name="features", run=self._features, depends=features, after=("mesh",)),
            Stage(name="predict", run=self._predict, depends=self.trained.files, after=("images", "features")),
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

    def _features(self, run: RunFolder) -> list[str]:
        brain = load_brain(self.maker, self.config.stack, self._folder(run))
        fitted = {"encoder": (self.encoder, self.config.run / "encoder")}
        files = make_features(brain, fitted, self._folder(run), Bars(run, f"{self.brain} "), run.say)
        return self._named(run, files)

    def _predict(self, run: RunFolder) -> list[str]:
        graph = load_graph(self._folder(run) / "features")
        by_seed = self.ensemble.predict(graph, edges=inner_edges(graph), align="similarity")
        votes = np.asarray(np.mean(list(by_seed.values()), axis=0, dtype=np.float64), np.float32)
        judge = judge_of(self._folder(run), graph)
        area_map = AreaMap(graph=judge.graph if judge else graph, probabilities=votes)
        written = write_area_map(run / "predictions", area_map)
        write_csv(run / "predictions" / f"{self.brain}.csv", area_map)
        write_arrays(run / "tables" / "probabilities.safetensors", {self.brain: votes})
        write_json(run / SCORES, self._metrics(run, judge, area_map))
        files = [str(path.relative_to(run.path)) for path in written]
        return [*files, f"predictions/{self.brain}.csv", "tables/probabilities.safetensors", SCORES]

    def _export(self, run: RunFolder) -> list[str]:
        brain = load_brain(self.maker, self.config.stack, self._folder(run))
        graph = load_graph(self._folder(run) / "features")
        judge = judge_of(self._folder(run), graph)
        graph = judge.graph if judge else graph
        votes = read_arrays(run / "tables" / "probabilities.safetensors")[self.brain]
        out = run / "export" / self.brain
        written = export_brain(AreaMap(graph=graph, probabilities=votes), brain, out, Bars(run, f"{self.brain} "))
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
        seen |= {section.index for section in stack if file_hash(section.path) in self.trained.trained_on}
        write_json(run / SHARED, sorted(seen))
        if seen:
            told = ", ".join(map(str, sorted(seen)[:5])) + (", ..." if len(seen) > 5 else "")
            run.warn(
                f"{len(seen)} sections of {self.config.stack} ({told}) were part of the training of "
                f"{self.config.run}: this is no new brain, and scores say nothing"
            )
        return [SHARED]

    def _strange_areas(self) -> str:
        """What to say of annotated areas that the model does not know; "" if there are none."""
        if not (self.config.stack / ANNOTATIONS).is_dir():
            return ""
        own = read_annotations(self.config.stack).areas.names
        unknown = sorted(set(own) - set(self.ensemble.areas.names))
        told = f"{len(unknown)} of {len(own)} annotated areas are not the model's and judge nothing: "
        return told + ", ".join(unknown[:5]) if unknown else ""

    def _metrics(self, run: RunFolder, judge: Judge | None, area_map: AreaMap) -> Mapping[str, Any]:
        graph = area_map.graph
        inside = graph.cortex & (graph.labels >= 0) & (judge is not None)
        metrics: dict[str, Any] = {
            "task": f"{self.brain}: prediction of {self.config.run}",
            "protocol": "strict",
            "classes": len(graph.areas),
            "seeds": self.seeds(),
            "alignment": "similarity" if self.ensemble.inputs.coordinates else None,
            "nodes": {"mapped": int(graph.cortex.sum()), "judged": int(inside.sum())},
            "judged_by": judge.by if judge else None,
            "leakage": {"shared_patches": len(read_json(run / SHARED))},
            "reconstruction": self.maker.measures(self._folder(run) / "mesh"),
        }
        if metrics["leakage"]["shared_patches"]:
            metrics["protocol"] = "none: images of the training"
        if judge is not None and inside.any():
            metrics["test"] = score(graph, inside, area_map.probabilities, judge.left_out).plain()
            metrics["left_out"] = judge.left_out.plain() if judge.left_out else {}
        return metrics

    def summary(self, run: RunFolder) -> str:
        metrics = read_json(run / "metrics.json")
        lines = [
            f"{self.brain}: {metrics['nodes']['mapped']} nodes in cortex mapped to {metrics['classes']} areas",
            f"label files in {run / 'predictions'}; page and sections in {run / 'export' / self.brain}",
        ]
        if "test" in metrics:
            lines.append(
                f"against {metrics['judged_by']} of the stack, which the map did not see: macro-F1 "
                f"{metrics['test']['macro_f1']:.3f} on {metrics['nodes']['judged']} nodes"
            )
        if metrics["leakage"]["shared_patches"]:
            lines.append("warning: images of this stack were part of the training; the score says nothing")
        return "\n".join(lines)

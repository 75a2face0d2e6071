"""Which parts of the cortex the volume networks of a finished run of traits look at.

V nodes, K areas, S subjects.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from features.explain.areas import by_area, map_record
from features.explain.attribution import Method, Methods, attributions
from features.explain.cortex import MeshConfig, Places, TemplateCortex, grid_of, mesh_of, on_nodes, places_of
from features.explain.finished import FinishedRun, held_out
from features.explain.report import told, write_areas, write_explanation_report, write_maps
from features.fusion.multi_input_net import MultiInputNet
from features.subject_data.runs import SubjectRuns
from features.subject_data.volumes import SubjectVolumes
from features.traits.items import TraitItems
from meshgnn.config import Config as BaseConfig
from meshgnn.config import to_plain
from meshgnn.errors import InputError, SettingError
from meshgnn.experiment.progress import Bars
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import SCORES, Experiment, Stage
from meshgnn.experiment.training import MAIN
from meshgnn.progress import Progress
from meshgnn.results import AttributionMap, ExplanationMetrics
from meshgnn.source.socket import Reading
from meshgnn.store import file_hash, read_arrays, read_json, write_arrays, write_json

AREAS = "areas.csv"


class TraitExplanation(Experiment):
    """Attributions of a run's networks on the subjects that they were not trained on, on the mesh and by area.

    Every member of an ensemble is explained, and their attributions averaged, as their predictions are. The same is
    done with networks of random weights: a map that looks the same with them shows the images and the method, not what
    was learnt (Adebayo et al. 2018, arXiv:1810.03292); it is reported as failed. What the same means is measured: two
    ensembles of random weights have maps that are alike, since they see the same images; a trained one's must be less.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            run: folder of a finished run of traits.
            network: which of its networks: main, or the network on one input alone (T1w_alone).
            targets: all of the run if none are named.
            inputs: the network's inputs that hold volumes, all if none are named.
            methods: of attribution.
            mesh: where maps are shown and what areas there are: TemplateCortex, or SurfaceFolder for an atlas of one's
                own, in MNI152 or fsaverage space.
            space: that the volumes of a folder lie in; those of virtual subjects are known.
            subjects: held-out ones of every division, at most; 0 takes all.
            batch: subjects at a time.
            alike: a map fails if its rank correlation with that of random weights is this share, or more, of what two
                maps of random weights have with each other (or of 0.25, where these are hardly alike).
        """

        run: Path = Path()
        network: str = MAIN
        targets: tuple[str, ...] = ()
        inputs: tuple[str, ...] = ()
        methods: Methods = field(default_factory=Methods)
        mesh: MeshConfig = field(default_factory=TemplateCortex.Config)
        space: str = "MNI152"
        subjects: int = 16
        batch: int = 8
        alike: float = 0.9

        def __post_init__(self) -> None:
            if self.subjects < 0 or self.batch < 1 or not 0 < self.alike <= 1:
                raise SettingError(
                    "<subjects> must not be negative, <batch> be at least 1, <alike> above 0 and at most 1"
                )

        def build(self) -> "TraitExplanation":
            return TraitExplanation(self)

    def __init__(self, config: Config) -> None:
        self.config = config
        self.source = FinishedRun.read(config.run)

    # -- what there is --------------------------------------------------------------------------------------------

    @cached_property
    def targets(self) -> tuple[str, ...]:
        there = [target.name for target in self.source.people.targets]
        return self._chosen("targets", self.config.targets, there)

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        c, networks = self.config, self.source.networks
        if c.network not in networks:
            raise SettingError(f"<network>: the run has no {c.network!r}; it has {', '.join(networks)}")
        there = [name for name in self.source.volumes if name in networks[c.network]]
        if not there:
            raise InputError(f"{c.run}: the network {c.network!r} has no input with volumes")
        return self._chosen("inputs", c.inputs, there)

    def _chosen(self, key: str, asked: tuple[str, ...], there: list[str]) -> tuple[str, ...]:
        if wrong := [name for name in asked if name not in there]:
            raise SettingError(f"<{key}>: there is no {wrong[0]!r}; there are {', '.join(there)}")
        return asked or tuple(there)

    @cached_property
    def _mesh(self) -> Reading:
        return mesh_of(self.config.mesh)

    @cached_property
    def _places(self) -> Places:
        return places_of(self.source, self._mesh, self.config.space)

    # -- the experiment socket ------------------------------------------------------------------------------------

    def input_files(self) -> dict[str, str]:
        found = {str(path): file_hash(path) for path in self._mesh.files}
        return found | self.source.files(self.config.network)

    def check(self) -> None:
        """Settings, mesh and space; raises InputError."""
        _ = self.targets, self.inputs, self._places

    def stages(self) -> list[Stage]:
        c, found = self.config, []
        depends = to_plain([c.network, self.inputs, c.mesh, c.space, c.subjects, self.source.config])
        for target in self.targets:
            for method in c.methods.names:
                run: Callable[[RunFolder], list[str]] = partial(self._attribute, target, method)
                settings = [depends, target, method, to_plain(c.methods) | {"names": []}]
                found.append(Stage(name=_stage(target, method), run=run, after=(), depends=settings, files=self.files))
        names = tuple(stage.name for stage in found)
        return [
            *found,
            Stage(name="areas", run=self._areas, after=names, depends=[c.alike]),
            Stage(name="export", run=self._export, after=("areas",)),
        ]

    def summary(self, run: RunFolder) -> str:
        path = run / "metrics.json"
        return told(ExplanationMetrics.from_json(read_json(path), str(path)), run.path)

    # -- stages ---------------------------------------------------------------------------------------------------

    def _attribute(self, target: str, method: Method, run: RunFolder) -> list[str]:
        source, kept = self.source, dict[str, NDArray[Any]]()
        for name in self.inputs:
            rows: dict[str, list[NDArray[np.float32]]] = {}
            for number in range(len(source.parts)):
                items = source.items(number).only(source.networks[self.config.network])
                subjects = held_out(source, number, name, items, self.config.subjects)
                if not len(subjects):
                    continue
                reference = self._reference(items, name, number)
                ensembles = (
                    ("trained", source.members),
                    ("random", source.fresh),
                    ("other", partial(source.fresh, draw=1)),
                )
                for kind, make in ensembles:
                    bar = Bars(run, f"{name}, division {number + 1}, {kind} weights: ")
                    found = self._maps(make(self.config.network, number), items, subjects, name, target, method,
                                       reference, bar)  # fmt: skip
                    for key, values in found.items():
                        rows.setdefault(f"{name}/{kind}/{key}", []).append(values)
            if not rows:
                raise InputError(f"no held-out subject has the input {name!r}")
            kept |= {key: np.concatenate(parts) for key, parts in rows.items()}
        path = _table(target, method)
        write_arrays(run / path, kept)
        return [path]

    def _reference(self, items: TraitItems, name: str, number: int) -> torch.Tensor:
        """[C, X, Y, Z] or [C, X, Y, Z, T]: the mean of the training subjects' volumes (of runs, of their first
        windows), or zeros."""
        data, there = items.data[name], items.present[:, items.names.index(name)]
        total = np.zeros(data.shape)
        if self.config.methods.reference == "mean":
            rows = np.flatnonzero(self.source.parts[number].train & there)
            for start in range(0, len(rows), self.config.batch):
                total += data.read(rows[start : start + self.config.batch]).sum(0, dtype=np.float64) / len(rows)
        return torch.from_numpy(total.astype(np.float32))

    def _maps(
        self, networks: list[MultiInputNet], items: TraitItems, subjects: NDArray[np.int64], name: str, target: str,
        method: Method, reference: torch.Tensor, progress: Progress,
    ) -> dict[str, NDArray[np.float32]]:  # fmt: skip
        """[S, V] signed attributions and magnitudes at the nodes; channels and frames are summed, windows averaged."""
        data, batch = items.data[name], self.config.batch
        assert isinstance(data, SubjectVolumes | SubjectRuns)
        grid = grid_of(data)
        column = [one.name for one in self.source.people.targets].index(target)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        signed, sizes, done = [], [], 0
        codes = items.passes(subjects)
        for start in range(0, len(codes), batch):
            these = codes[start : start + batch]
            given, present = items.read_pass(these)
            given = {key: value.to(device) for key, value in given.items()}
            total = torch.zeros(len(these), *data.shape, dtype=torch.float64)
            for network in networks:
                total += attributions(
                    network.to(device), column, name, given, present, reference, method, self.config.methods,
                    grid.spacing_mm,
                ).cpu()  # fmt: skip
                done += len(these)
                progress(method, done, len(codes) * len(networks))
            mean = (total / len(networks)).numpy()
            for number, one in zip(items.owners(these).tolist(), mean):
                points = self._places(number)
                each = np.moveaxis(one.reshape(*one.shape[:4], -1), -1, 0).reshape(-1, *one.shape[1:4])
                signed.append(on_nodes(each.sum(0), grid.affine, points))
                sizes.append(on_nodes(np.abs(each).sum(0), grid.affine, points))
        return {
            "signed": items.averaged(np.stack(signed), codes, subjects),
            "magnitude": items.averaged(np.stack(sizes), codes, subjects),
        }

    def _areas(self, run: RunFolder) -> list[str]:
        c, source, graph = self.config, self.source, self._mesh.graph
        planted = source.virtual.planted.areas if source.virtual else {}
        maps: list[AttributionMap] = []
        for target in self.targets:
            known = None
            if source.virtual and isinstance(c.mesh, TemplateCortex.Config):
                known = planted.get(target, ())
            for name in self.inputs:
                for method in c.methods.names:
                    stored = read_arrays(run / _table(target, method))
                    parts = {key: value for key, value in stored.items() if key.startswith(f"{name}/")}
                    own = {key.removeprefix(f"{name}/"): value for key, value in parts.items()}
                    maps.append(
                        map_record(
                            target, name, method, own, by_area(graph), known, c.alike, source.tells(target, c.network)
                        )
                    )
        for one in maps:
            label = f"{one.target}, {one.input}, {one.method}"
            if not one.passed:
                run.warn(f"{label}: like the map of random weights (rank correlation {one.random_r:.2f}, "
                         f"of these with each other {one.random_among:.2f}): it shows the "
                         "images and the method, not what was learnt")  # fmt: skip
            if not one.tells:
                run.warn(f"{label}: the network does not predict {one.target} better than chance; the map says nothing")
        metrics = ExplanationMetrics(
            task=f"attributions of {c.run}, network {c.network}", run=str(c.run), network=c.network, alike=c.alike,
            maps=tuple(maps),
        )  # fmt: skip
        write_areas(run / AREAS, maps)
        write_json(run / SCORES, metrics.to_json())
        return [AREAS, SCORES]

    def _export(self, run: RunFolder) -> list[str]:
        metrics = ExplanationMetrics.from_json(read_json(run / SCORES), str(run / SCORES))
        stored = {
            (target, method): read_arrays(run / _table(target, method))
            for target in self.targets
            for method in self.config.methods.names
        }
        files = write_maps(run / "maps", self._mesh.graph, self.inputs, stored)
        config, provenance = (read_json(run / name) for name in ("config.json", "provenance.json"))
        write_explanation_report(run / "report.html", metrics, config, provenance)
        return [*(str(path.relative_to(run.path)) for path in files), "report.html"]


def _stage(target: str, method: str) -> str:
    return f"{method}-{target}"


def _table(target: str, method: str) -> str:
    return f"tables/{_stage(target, method)}.safetensors"

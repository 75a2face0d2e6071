"""What holds the maps of unseen brains back: a finished run, with its embeddings and with what they should show.

The same folds, annotations, baselines and networks are given, in place of the run's features (`run`),

    NAME    one of the run's tables of features alone
    profiles_by_mesh   depth profiles between the surfaces of the mesh, not between the ends that sections show
    stain   what a picture without noise, damage and obliqueness would show at every node: stain at 32 depths, from the
            generator's own drawing of the cortex, local variation of layers and blended borders included
    cells   density and size of the cells at these depths apart, which no scan at this resolution shows
    A+B     tables side by side

and each table is judged with the graph network, the same network without neighbours and the closed form. Below them
stand bounds that are told the truth of the judged brain itself, with the exponent that is best there: its own class
means, those of each of its hemispheres, and a discriminant that is fitted on every other 6 mm slab of the brain and
judged on the rest. Macro-F1 over brains never seen, with intervals over brains: the network minus each row of the same
features, and each row minus the same row on the features that were named first.

    python benchmarks/ceilings.py RUN [--only run,NAME,stain,cells,A+B] [--no-networks] [--json FILE]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402

from benchmarks._pairs import keep, show  # noqa: E402
from benchmarks.adaptation import ROW, adapted  # noqa: E402
from features.profiles import DepthProfiles  # noqa: E402
from meshgnn.confusion import macro_f1  # noqa: E402
from meshgnn.data.model_inputs import ModelInputs, edges_among  # noqa: E402
from meshgnn.errors import InputError  # noqa: E402
from meshgnn.experiment import section_scores  # noqa: E402
from meshgnn.experiment.cli import resolve  # noqa: E402
from meshgnn.experiment.protocol_scores import Part  # noqa: E402
from meshgnn.experiment.run_folder import RunFolder, read_config  # noqa: E402
from meshgnn.experiment.section_mapping import SectionMapping  # noqa: E402
from meshgnn.experiment.training import MAIN, Network, Seen, controls_of, train_ensembles  # noqa: E402
from meshgnn.graph import FeatureTable, MeshGraph  # noqa: E402
from meshgnn.source.cohort import Member, VirtualCohort  # noqa: E402
from meshgnn.source.virtual.brain import Brain  # noqa: E402
from meshgnn.source.virtual.cut import Canvas, Slice, draw  # noqa: E402
from meshgnn.source.virtual.laminae import Cortex  # noqa: E402
from meshgnn.source.virtual.render import SIZE_UM2  # noqa: E402
from meshgnn.train.adaptation import FIELD_ROUNDS, fitted_discriminant, normalised  # noqa: E402
from meshgnn.train.cohort import Cohort, cohort_inputs  # noqa: E402
from meshgnn.train.propagate import annotations_in_cortex  # noqa: E402
from meshgnn.train.same_inputs import WEIGHTS, SameInputs  # noqa: E402
from meshgnn.train.smooth_field import SmoothField  # noqa: E402
from meshgnn.train.stored_baselines import StoredBaselines  # noqa: E402
from reconstruct.truth import true_labels  # noqa: E402

DEPTHS, SLAB_MM, ROUNDS = 32, 6.0, 4
OWN, STAIN, CELLS, BY_MESH = "run", "stain", "cells", "profiles_by_mesh"
HELD = 0.2  # pseudo-nodes that hold an area's own mean at that of the training brains, as in the adaptation


def drawn_profiles(cortex: Cortex, width_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cell density and size [V, DEPTHS] under every node, drawn as sections are: one node a column of pixels."""
    faces, count = cortex.hemisphere.faces, len(cortex.hemisphere.white_mm)
    face = np.zeros(count, np.int32)
    face[faces.ravel()] = np.repeat(np.arange(len(faces), dtype=np.int32), 3)
    slot = (faces[face] == np.arange(count)[:, None]).argmax(1)
    left, right = np.arange(count) - 0.3, np.arange(count) + 0.3
    top, bottom = np.full(count, -0.3), np.full(count, DEPTHS - 0.7)
    corners = [[(left, top), (right, top), (right, bottom)], [(left, top), (right, bottom), (left, bottom)]]
    corners_px = np.array([[np.stack(corner, axis=1) for corner in one] for one in corners])  # [2, 3, V, 2]
    depth = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    part = Slice(
        corners_mm=np.zeros((0, 3, 2)), face=np.tile(face, 2),
        weights=np.tile(np.repeat(np.eye(3)[slot][:, None], 3, axis=1), (2, 1, 1)),
        depth=np.repeat(depth, count, axis=0),
        pial_mm=np.zeros((0, 2, 2)), white_mm=np.zeros((0, 2, 2)),
    )  # fmt: skip
    canvas = Canvas.blank((DEPTHS, count))
    draw(canvas, part, corners_px.transpose(0, 2, 1, 3).reshape(-1, 3, 2), cortex, width_mm)
    return canvas.density.T.astype(np.float64), canvas.size_um2.T.astype(np.float64)


def oracle_table(kind: str, graph: MeshGraph, brain: Brain, stack: Path) -> FeatureTable:
    """What `kind` says of every node of a reconstruction that has a counterpart in the truth."""
    counterpart = true_labels(graph, stack).node
    sides = {cortex.hemisphere.name: cortex for cortex in brain.hemispheres}
    values, known = np.zeros((graph.n_nodes, DEPTHS * (1 if kind == STAIN else 2)), np.float32), counterpart >= 0
    for mesh, place in zip(graph.meshes, graph.slices().values()):
        density, size = drawn_profiles(sides[mesh.hemisphere], brain.width_mm)
        both = (
            density * (size / SIZE_UM2) ** 0.6
            if kind == STAIN
            else np.concatenate([np.log(np.maximum(density, 1e-3)), np.log(np.maximum(size, 1.0))], axis=1)
        )
        here = known[place]
        values[place][here] = both[counterpart[place][here]]
    names = tuple(f"{kind}_{k:02d}" for k in range(values.shape[1]))
    return FeatureTable(name=kind, values=values, mask=known & graph.cortex, columns=names, units=("",) * len(names))


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A finished run: its experiment, brains, judged parts and folder."""

    experiment: SectionMapping
    run: RunFolder
    cohort: Cohort
    strict: Part

    @staticmethod
    def read(folder: Path) -> "Task":
        stored = read_config(folder)
        config = resolve(stored["experiment"], stored["overrides"])
        if not isinstance(config, SectionMapping.Config) or not isinstance(config.cohort, VirtualCohort.Config):
            raise InputError(f"{folder}: not a run on virtual brains, whose truth is needed")
        experiment, run = config.build(), RunFolder(folder)
        cohort = experiment._cohort(run)
        given = [annotations_in_cortex(graph) >= 0 for graph in cohort.graphs]
        strict, _ = section_scores.parts(experiment.brains.judges(run, cohort), given, cohort.unseen)
        if not strict:
            raise InputError(f"{folder}: no brain that was never trained on has a truth")
        return Task(experiment=experiment, run=run, cohort=cohort, strict=strict)

    def seen(self, kind: str) -> Seen:
        """What models see with the features of `kind`."""
        network, c = self.experiment.networks[MAIN], self.experiment.config
        if kind == OWN:
            return self.experiment._seen(self.cohort, network)
        graphs = []
        for member, graph in zip(self.experiment.members, self.cohort.graphs):
            tables = {name: self.table(name, member, graph) for name in kind.split("+")}
            graphs.append(replace(graph, tables=tables))
        names = tuple(column for table in graphs[0].tables.values() for column in table.columns)
        cohort = replace(self.cohort, graphs=tuple(graphs))
        models, frame = cohort_inputs(cohort, c.inputs, names, c.trainer.folds, c.seeds, c.buffer_mm)
        return Seen(
            models=models, config=c.inputs, names=names, areas=cohort.graphs[0].areas, frame=frame, align="similarity"
        )

    def table(self, kind: str, member: Member, graph: MeshGraph) -> FeatureTable:
        """One table of a brain's features."""
        c, brains = self.experiment.config, self.experiment.brains
        if kind in graph.tables:
            return graph.tables[kind]
        if kind == BY_MESH:
            sections = brains.brain(self.run, member).section_stack()
            return replace(DepthProfiles.Config(ends="mesh").build().make(graph, sections), name=BY_MESH)
        if kind not in (STAIN, CELLS):
            raise InputError(f"--only: {kind!r} is none of {', '.join((OWN, *graph.tables, BY_MESH, STAIN, CELLS))}")
        assert isinstance(c.cohort, VirtualCohort.Config)
        brain = replace(c.cohort.brain, seed=int(member.depends["seed"])).build()
        return oracle_table(kind, graph, brain, brains.stack_folder(self.run, member))

    def judged(self) -> list[tuple[int, slice, np.ndarray, np.ndarray]]:
        """Number, rows, true labels and judged nodes of every brain never seen."""
        places = self.cohort.slices()
        return [
            (row, places[row], judge.graph.labels, nodes)
            for row, judge, nodes in zip(self.strict.rows, self.strict.judges, self.strict.judged)
        ]


Found = dict[str, list[list[np.ndarray]]]


def model_maps(task: Task, seen: Seen, networks: bool) -> Found:
    """Maps by the closed form and, by choice, the network and its controls, adapted to every brain."""
    config, models = task.experiment.config, seen.models
    same = SameInputs(models, range(config.trainer.folds), config.seeds[0])
    fits = dict(same.rows())
    fitted = {name: fits[name]() for name in ("position_prior", "lda", "prior_lda", ROW)}
    kept = StoredBaselines.of(same, fitted)
    places = task.cohort.slices()
    maps: dict[str, list[list[np.ndarray]]] = {
        name: [[one.probabilities[place] for place in places]] for name, one in fitted.items()
    }
    if networks:
        main = replace(task.experiment.networks[MAIN], seeds=config.seeds)
        wanted: dict[str, Network] = {MAIN: main, **controls_of(main, 0)}
        with tempfile.TemporaryDirectory() as folder:
            shown = {name: (one, replace(seen, models=one.inputs(models))) for name, one in wanted.items()}
            trained = train_ensembles(RunFolder(Path(folder)), shown, config.trainer)
        for name, (_, own) in shown.items():
            by_seed = trained[name].ensemble.predict_arrays(
                own.models.features, own.models.coordinates, own.models.edges
            )
            maps[name] = [[adapted(kept, models, place, by_seed[seed]) for place in places] for seed in config.seeds]
    return maps


def over_brains(task: Task, ours: list[list[np.ndarray]], theirs: list[list[np.ndarray]]) -> str:
    """The difference of two rows with its interval, in words."""
    gap = task.strict.against(ours, {"theirs": theirs})["theirs"]
    return f"{gap.difference:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}] over {gap.replicates} {gap.over}"


def model_rows(task: Task, kind: str, maps: Found, first: tuple[str, Found] | None) -> list[dict[str, Any]]:
    """Scores of these maps; `first`: those on the features that were named first, with their name."""
    rows: list[dict[str, Any]] = []
    for name, own in maps.items():
        row = {"name": f"{kind}: {name}", "macro_f1": round(task.strict.mean(own)["macro_f1"], 4)}
        if MAIN in maps and name != MAIN:
            row["network minus this"] = over_brains(task, maps[MAIN], own)
        if first is not None and name in first[1]:
            row[f"this minus {first[0]}"] = over_brains(task, own, first[1][name])
        rows.append(row)
    return rows


def bound_rows(task: Task, kind: str, models: ModelInputs, same: SameInputs) -> list[dict[str, Any]]:
    """Bounds that are told the truth of the brain they are judged on; see the head of this file."""
    prior = StoredBaselines.of(same, {"position_prior": dict(same.rows())["position_prior"]()})
    adaptation = same._fitted(models.known)
    bounds: dict[str, Callable[..., np.ndarray]] = {
        "the brain's own class means": lambda *a: own_means(adaptation, *a, sides=False),
        "those of each hemisphere": lambda *a: own_means(adaptation, *a, sides=True),
        f"fitted on every other {SLAB_MM:g} mm of the brain": own_slabs,
    }
    rows = []
    for name, bound in bounds.items():
        scores: dict[float, list[float]] = {}
        for number, place, labels, nodes in task.judged():
            graph = task.cohort.graphs[number]
            start = prior.log_prior(models.coordinates[place])
            inside = np.asarray(models.features[place].any(1)) & graph.cortex
            edges = models.edges[:, (models.edges[0] >= place.start) & (models.edges[0] < place.stop)] - place.start
            likelihood = bound(models.features[place], np.where(nodes, labels, -1), inside, edges, graph)
            for weight in WEIGHTS:
                found = normalised(start + weight * likelihood)
                scores.setdefault(weight, []).append(macro_f1(labels[nodes], found[nodes].argmax(1), models.n_classes))
        best = max(scores, key=lambda weight: np.mean(scores[weight]))
        own = round(float(np.mean(scores[best])), 4)
        rows.append({"name": f"{kind}: {name}", "macro_f1": own, "exponent": best})
    return rows


def own_means(
    adaptation: Any, features: np.ndarray, labels: np.ndarray, inside: np.ndarray, edges: np.ndarray,
    graph: MeshGraph, *, sides: bool,
) -> np.ndarray:  # fmt: skip
    """Log likelihood [V, K] with means of the judged brain, of each of its hemispheres by choice, and its field."""
    gaussians, n_classes = adaptation.within, len(graph.areas)
    found = np.zeros((len(features), n_classes), np.float32)
    here = features[inside] @ gaussians.whitening
    share = np.zeros((len(here), len(gaussians.classes)), np.float32)
    rows, columns = np.nonzero(labels[inside][:, None] == gaussians.classes)
    share[rows, columns] = 1
    side = np.concatenate([np.full(mesh.n_vertices, k) for k, mesh in enumerate(graph.meshes)])[inside]
    field = SmoothField(len(here), edges_among(edges, inside), FIELD_ROUNDS)
    held = HELD * len(here) / n_classes
    groups = [side == k for k in np.unique(side)] if sides else [np.ones(len(here), bool)]
    even, middle = here, np.zeros_like(here)
    for _ in range(ROUNDS):
        means = [
            (share[one].T @ even[one] + held * gaussians.means) / (share[one].sum(0) + held)[:, None] for one in groups
        ]
        for one, own in zip(groups, means):
            middle[one] = share[one] @ own
        even = here - field(here * share.sum(1, keepdims=True) - middle)
    likelihood = np.zeros((len(here), n_classes), np.float32)
    for one, own in zip(groups, means):
        likelihood[one] = gaussians.likelihood(even[one], own, n_classes)
    found[inside] = likelihood
    return found


def own_slabs(
    features: np.ndarray, labels: np.ndarray, inside: np.ndarray, edges: np.ndarray, graph: MeshGraph
) -> np.ndarray:
    """Log likelihood [V, K] of discriminants fitted on every other coronal slab of the brain, for the slabs between."""
    n_classes = len(graph.areas)
    found = np.zeros((len(features), n_classes), np.float32)
    slab = np.floor(graph.vertices_mm[:, 1] / SLAB_MM).astype(int) % 2
    for half in (0, 1):
        known = inside & (labels >= 0) & (slab != half)
        model = fitted_discriminant(features[known], labels[known])
        asked = inside & (slab == half)
        own = np.full((int(asked.sum()), n_classes), np.log(1e-6), np.float32)
        own[:, model.classes_] = np.maximum(model.predict_log_proba(features[asked]), np.log(1e-6))
        found[asked] = own
    return found


def measured(folder: Path, kinds: Sequence[str], networks: bool) -> list[dict[str, Any]]:
    task, rows = Task.read(folder), list[dict[str, Any]]()
    first: tuple[str, Found] | None = None
    for kind in kinds:
        begin = time.perf_counter()
        seen = task.seen(kind)
        same = SameInputs(seen.models, range(task.experiment.config.trainer.folds), task.experiment.config.seeds[0])
        maps = model_maps(task, seen, networks)
        own = [*model_rows(task, kind, maps, first), *bound_rows(task, kind, seen.models, same)]
        first = first or (kind, maps)
        for one in own:
            show(one)
        rows += [*own, {"name": f"{kind}: time", "seconds": round(time.perf_counter() - begin)}]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run of virtual_brain")
    parser.add_argument("--only", default=f"{OWN},{STAIN},{CELLS}", help="which features, by name")
    parser.add_argument("--no-networks", action="store_true", help="the closed form and the bounds only")
    parser.add_argument("--json", type=Path, help="write the rows here")
    args = parser.parse_args()
    kinds = [kind for kind in args.only.split(",") if kind]
    try:
        rows = measured(args.run, kinds, not args.no_networks)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    keep(rows, args.json)


if __name__ == "__main__":
    main()

"""The brains of a run on sections: their stages from sections to features, and what is read back of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshgnn.data.split import section_folds
from meshgnn.encoder import MeshMaker, SectionBrain, SectionFeatures, Tell
from meshgnn.errors import InputError, LeakError
from meshgnn.experiment.progress import Bars
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.section_scores import Judge
from meshgnn.graph import Areas, MeshGraph
from meshgnn.source.annotations import annotated_labels, read_annotations
from meshgnn.source.cohort import CohortSource, Member, StackFolders
from meshgnn.source.same_images import shared_images
from meshgnn.source.sections import SectionStack, read_stack
from meshgnn.store import load_graph, read_arrays, read_json, save_graph, write_arrays, write_json
from meshgnn.train.cohort import Cohort
from meshgnn.train.metrics import LeftOut
from meshgnn.train.propagate import drawn


def hidden_sections(graph: MeshGraph, every: int) -> tuple[int, ...]:
    """Annotated sections to hide from training: about every n-th, never the first or last, nor two in a row.

    Both annotated neighbours of a hidden section stay, as those of a real gap do; the gap is then twice as wide. A
    section that carries an area which would be left on fewer than two sections is not hidden.
    """
    assert graph.locations is not None
    labels, section = drawn(graph), graph.locations.section
    numbers = np.unique(section[labels >= 0])
    left = {int(n): set(np.unique(labels[(section == n) & (labels >= 0)]).tolist()) for n in numbers}
    found = []
    for number in map(int, numbers[every // 2 : -1 : every]):
        if number == numbers[0]:
            continue
        others = [areas for n, areas in left.items() if n != number]
        if all(sum(area in areas for areas in others) >= 2 for area in left[number]):
            found.append(number)
            del left[number]
    return tuple(found)


class SectionBrains:
    """Every brain has a folder `brains/NAME` in the run, and every stage of every brain is a stage of the run."""

    def __init__(
        self,
        cohort: CohortSource,
        maker: MeshMaker,
        encoders: dict[str, SectionFeatures],
        *,
        folds: int,
        hide: int,
    ) -> None:
        """encoders: by the folder that each is kept in; folds, hide: see `SectionMapping.Config`."""
        self.cohort, self.maker, self.encoders = cohort, maker, encoders
        self.fold_count, self.hide = folds, hide
        self.members = cohort.members()

    def check_images(self, folders: Sequence[Path], tell: Tell | None = None) -> int:
        """How many section images stand in a training and in an unseen stack, by their pixels; LeakError if any."""
        stacks: list[dict[str, SectionStack]] = [{}, {}]
        for member, folder in zip(self.members, folders):
            stacks[member.unseen][member.name] = read_stack(folder, mirrored="turn")
        shared = shared_images(stacks[False], stacks[True], tell)
        if shared:
            one, other = shared[0]
            raise LeakError(
                f"{len(shared)} section images stand in a training and in an unseen stack ({one} shows the same as "
                f"{other}); leave one of them out"
            )
        return len(shared)

    # -- from sections to features --------------------------------------------------------------------------------

    def folder(self, run: RunFolder, member: Member) -> Path:
        return run / "brains" / member.name

    def stack_folder(self, run: RunFolder, member: Member) -> Path:
        if isinstance(self.cohort, StackFolders):
            return self.cohort.folders[member.name]
        return self.folder(run, member) / "sections"

    def draw(self, member: Member, run: RunFolder) -> list[str]:
        folder = self.folder(run, member)
        folder.mkdir(parents=True, exist_ok=True)
        _, written = self.cohort.provide(member, folder, Bars(run, f"{member.name} "))
        return [f"brains/{member.name}/{name}" for name in written]

    def mesh(self, member: Member, run: RunFolder) -> list[str]:
        stack_folder, out = self.stack_folder(run, member), self.folder(run, member) / "mesh"
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
        folder = self.folder(run, member)
        truth = self.maker.truth(stack_folder, out)
        files = ["graph.safetensors", "graph.json", "drawn.json"]
        if truth is not None and not len(graph.areas):
            graph = graph.relabelled(np.full(graph.n_nodes, -1), truth.areas)
        if truth is not None:
            number = {name: k for k, name in enumerate(graph.areas.names)}
            table = np.array([*(number.get(name, -1) for name in truth.areas.names), -1], np.int32)
            missed = np.zeros(len(graph.areas))
            np.add.at(missed, table[:-1][table[:-1] >= 0], truth.missed[table[:-1] >= 0])
            write_arrays(
                folder / "truth.safetensors",
                {"labels": table[truth.labels], "unmatched": truth.unmatched, "missed": missed},
            )
            files.append("truth.safetensors")
        elif not member.unseen and self.hide:
            assert graph.locations is not None
            hidden = hidden_sections(graph, self.hide)
            labels = np.where(np.isin(graph.locations.section, hidden), graph.labels, -1)
            write_arrays(folder / "hidden.safetensors", {"labels": labels.astype(np.int32)})
            files.append("hidden.safetensors")
            graph = graph.relabelled(np.where(labels >= 0, -1, graph.labels), graph.areas)
            numbers = tuple(k for k in numbers if k not in hidden)
            told = ", ".join(map(str, hidden)) or "none: too few"
            run.say(f"  {member.name}: annotated sections hidden from training, to judge by: {told}")
        write_json(folder / "drawn.json", list(numbers))
        save_graph(graph, folder / "graph")
        share = float((graph.labels >= 0).mean())
        run.say(f"  {member.name}: {graph.n_nodes} nodes, {share:.0%} on annotated sections")
        return [f"brains/{member.name}/{name}" for name in [*files, *(f"mesh/{name}" for name in written)]]

    def brain(self, run: RunFolder, member: Member) -> SectionBrain:
        folder = self.folder(run, member)
        _, stack = self.maker.load(self.stack_folder(run, member), folder / "mesh")
        graph = load_graph(folder / "graph")
        return SectionBrain(
            graph=graph, stack=stack, drawn=tuple(read_json(folder / "drawn.json")), fold=self.folds(graph, member)
        )

    def folds(self, graph: MeshGraph, member: Member) -> NDArray[np.int32]:
        """[V] the one fold plan of the run; -1 in a brain that nothing is trained on."""
        if member.unseen:
            return np.full(graph.n_nodes, -1, np.int32)
        assert graph.locations is not None
        training = [m.name for m in self.members if not m.unseen]
        drawn_on = np.unique(graph.locations.section[drawn(graph) >= 0])
        return section_folds(graph, drawn_on.tolist(), self.fold_count, training.index(member.name))

    def fit(self, name: str, run: RunFolder) -> list[str]:
        folder = run / name
        folder.mkdir(exist_ok=True)
        brains = [self.brain(run, member) for member in self.members if not member.unseen]
        return [f"{name}/{file}" for file in self.encoders[name].fit(brains, folder, Bars(run))]

    def features(self, member: Member, run: RunFolder) -> list[str]:
        brain = self.brain(run, member)
        graph = brain.graph
        for name, encoder in self.encoders.items():
            table = encoder.make(brain, run / name, Bars(run, f"{member.name} {name} "))
            seen = table.mask & graph.cortex
            if not seen.any():
                raise InputError(f"{member.name}: no node got features from {name}; are its sections readable?")
            graph = graph.with_table(table)
            run.say(f"  {member.name} {name}: {seen.sum() / graph.cortex.sum():.0%} of cortex nodes have features")
        place = self.folder(run, member) / "features"
        save_graph(graph, place)
        return [f"brains/{member.name}/features.safetensors", f"brains/{member.name}/features.json"]

    def judges(self, run: RunFolder, cohort: Cohort) -> list[Judge | None]:
        """What each brain is judged by: the truth, a mapper's labels of an unseen brain, or hidden sections."""
        found: list[Judge | None] = []
        for member, graph in zip(self.members, cohort.graphs):
            folder = self.folder(run, member)
            if (folder / "truth.safetensors").is_file():
                truth = read_arrays(folder / "truth.safetensors")
                left_out = LeftOut(unmatched=truth["unmatched"], missed=truth["missed"])
                judge = Judge(graph=graph.relabelled(truth["labels"], graph.areas), left_out=left_out, by="the truth")
                found.append(judge)
            elif member.unseen:
                judge = Judge(graph=graph, left_out=None, by="a mapper's annotations")
                found.append(judge if (graph.labels >= 0).any() else None)
            elif (folder / "hidden.safetensors").is_file():
                labels = read_arrays(folder / "hidden.safetensors")["labels"]
                judge = Judge(
                    graph=graph.relabelled(labels, graph.areas), left_out=None, by="hidden annotated sections"
                )
                found.append(judge if (labels >= 0).any() else None)
            else:
                found.append(None)
        return found

    def shown(self, run: RunFolder, cohort: Cohort) -> list[MeshGraph]:
        """Every brain with the labels that its files show: the truth, or all that a mapper drew, hidden or not."""
        found = []
        for graph, judge in zip(cohort.graphs, self.judges(run, cohort)):
            if judge is not None and judge.by == "hidden annotated sections":
                labels = np.where(judge.graph.labels >= 0, judge.graph.labels, graph.labels)
                found.append(graph.relabelled(labels, graph.areas))
            else:
                found.append(judge.graph if judge is not None else graph)
        return found

    def load(self, run: RunFolder) -> Cohort:
        """All brains with their features."""
        graphs = tuple(load_graph(self.folder(run, member) / "features") for member in self.members)
        areas = next(graph.areas for graph, m in zip(graphs, self.members) if not m.unseen)
        graphs = tuple(graph if len(graph.areas) else graph.relabelled(graph.labels, areas) for graph in graphs)
        folds = tuple(self.folds(graph, member) for graph, member in zip(graphs, self.members))
        return Cohort(graphs=graphs, unseen=tuple(member.unseen for member in self.members), folds=folds)

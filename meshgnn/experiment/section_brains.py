"""The brains of a run on sections: their stages from sections to features, and readers of the results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import at
from meshgnn.data.split import section_folds
from meshgnn.errors import InputError, LeakError
from meshgnn.experiment.feature_tables import PlacedMaker
from meshgnn.experiment.progress import Bars
from meshgnn.experiment.protocol_scores import Judge
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.section_brain import (
    check_stack,
    judge_of,
    keep_truth,
    load_brain,
    make_features,
    make_mesh,
    measures,
    section_contours,
)
from meshgnn.experiment.section_scores import HIDDEN
from meshgnn.graph import MeshGraph
from meshgnn.progress import Progress, silent
from meshgnn.sockets import Brain, MeshMaker
from meshgnn.source.annotations import FOLDER as ANNOTATIONS
from meshgnn.source.cohort import CohortSource, Member, StackFolders
from meshgnn.source.same_images import shared_images
from meshgnn.source.sections import SectionStack, read_stack
from meshgnn.store import load_graph, read_json, save_graph, write_arrays, write_json
from meshgnn.train.cohort import Cohort
from meshgnn.train.propagate import annotations_in_cortex


def hidden_sections(graph: MeshGraph, every: int) -> tuple[int, ...]:
    """Annotated sections to hide from training: about every n-th, never the first or last, nor two in a row.

    Both annotated neighbours of a hidden section stay, as those of a real gap do; the gap is then twice as wide. A
    section that carries an area which would be left on fewer than two sections is not hidden.
    """
    assert graph.locations is not None
    labels, section = annotations_in_cortex(graph), graph.locations.section
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


def hide_sections(folder: Path, every: int) -> tuple[int, ...]:
    """Take the labels of `hidden_sections` out of a brain's graph; they are stored separately, to judge by."""
    graph = load_graph(folder / "graph")
    assert graph.locations is not None
    hidden = hidden_sections(graph, every)
    labels = np.where(np.isin(graph.locations.section, hidden), graph.labels, -1).astype(np.int32)
    write_arrays(folder / "hidden.safetensors", {"labels": labels})
    save_graph(graph.relabelled(np.where(labels >= 0, -1, graph.labels), graph.areas), folder / "graph")
    numbers = [number for number in read_json(folder / "drawn.json") if number not in hidden]
    write_json(folder / "drawn.json", numbers)
    return hidden


class SectionBrains:
    """Every brain has a folder `brains/NAME` in the run, and every stage of every brain is a stage of the run."""

    def __init__(
        self,
        cohort: CohortSource,
        maker: MeshMaker,
        makers: dict[str, PlacedMaker],
        *,
        folds: int,
        hide: int,
    ) -> None:
        """makers: by the folder that each is kept in; folds, hide: see `SectionMapping.Config`."""
        self.cohort, self.maker, self.makers = cohort, maker, makers
        self.fold_count, self.hide = folds, hide
        self.members = cohort.members()
        self._shared: list[tuple[str, str]] | None = None

    def check_images(self, folders: Sequence[Path], progress: Progress = silent) -> int:
        """Count the images (by their pixels) that a training and an unseen stack share; LeakError if there are any."""
        if self._shared is None:  # a user's stacks are compared before the first stage, and not again
            stacks: list[dict[str, SectionStack]] = [{}, {}]
            for member, folder in zip(self.members, folders):
                stacks[member.unseen][member.name] = read_stack(folder, mirrored="turn")
            self._shared = shared_images(stacks[False], stacks[True], progress)
        if self._shared:
            one, other = self._shared[0]
            raise LeakError(
                f"{len(self._shared)} section images stand in a training and in an unseen stack ({one} shows the same "
                f"as {other}); leave one of them out"
            )
        return len(self._shared)

    def check(self) -> None:
        """Whatever mesh maker and encoders can tell of the sections is told before the first stage.

        Raises:
            InputError: see `check_stack`.
        """
        folders = self.cohort.folders.values() if isinstance(self.cohort, StackFolders) else [None]
        for folder, (name, pixel_um) in zip(folders, self.cohort.coarsest_um().items(), strict=True):
            makers = {one.key: one.maker for one in self.makers.values()}
            check_stack(self.maker, makers, folder, name, pixel_um)

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
        stack, folder = self.stack_folder(run, member), self.folder(run, member)
        if not member.unseen and not (stack / ANNOTATIONS).is_dir():
            raise InputError(f"{stack}: no annotations here; a brain to train on needs them")
        files = make_mesh(self.maker, member.name, stack, folder, None, Bars(run, f"{member.name} "))
        if not member.unseen and self.hide and self.maker.true_areas(stack) is None:
            hidden = hide_sections(folder, self.hide)
            files.append("hidden.safetensors")
            listed = ", ".join(map(str, hidden)) or "none: too few"
            run.say(f"  {member.name}: annotated sections hidden from training, to judge by: {listed}")
        graph = load_graph(folder / "graph")
        share = float((graph.labels >= 0).mean())
        run.say(f"  {member.name}: {graph.n_nodes} nodes, {share:.0%} on annotated sections")
        return [f"brains/{member.name}/{name}" for name in files]

    def truth(self, member: Member, run: RunFolder) -> list[str]:
        files = keep_truth(self.maker, self.stack_folder(run, member), self.folder(run, member))
        return [f"brains/{member.name}/{name}" for name in files]

    def measures(self, run: RunFolder) -> dict[str, dict[str, Any]]:
        """Of every brain's meshes, by name."""
        return {member.name: measures(self.maker, self.folder(run, member)) for member in self.members}

    def brain(self, run: RunFolder, member: Member) -> Brain:
        folder = self.folder(run, member)
        fold = self.folds(load_graph(folder / "graph"), member)
        return load_brain(self.maker, self.stack_folder(run, member), folder, fold)

    def folds(self, graph: MeshGraph, member: Member) -> NDArray[np.int32]:
        """[V] the one fold plan of the run; -1 in a brain that nothing is trained on."""
        if member.unseen:
            return np.full(graph.n_nodes, -1, np.int32)
        assert graph.locations is not None
        training = [m.name for m in self.members if not m.unseen]
        annotated = np.unique(graph.locations.section[annotations_in_cortex(graph) >= 0])
        return section_folds(graph, annotated.tolist(), self.fold_count, training.index(member.name))

    def fit(self, name: str, run: RunFolder) -> list[str]:
        folder = run / name
        folder.mkdir(exist_ok=True)
        brains = [self.brain(run, member) for member in self.members if not member.unseen]
        placed = self.makers[name]
        with at(placed.key):
            for brain in brains:
                placed.maker.inputs(brain)
            return [f"{name}/{file}" for file in placed.maker.fit(brains, folder, Bars(run))]

    def features(self, member: Member, run: RunFolder) -> list[str]:
        makers = {one.key: (one.maker, run / name) for name, one in self.makers.items()}
        bars = Bars(run, f"{member.name} ")
        files = make_features(self.brain(run, member), makers, self.folder(run, member), bars, run.say)
        return [f"brains/{member.name}/{name}" for name in files]

    def judges(self, run: RunFolder, cohort: Cohort) -> list[Judge | None]:
        """What each brain is judged by: the truth, a mapper's labels of an unseen brain, or hidden sections."""
        return [
            judge_of(self.folder(run, member), graph, trained_on=not member.unseen)
            for member, graph in zip(self.members, cohort.graphs)
        ]

    def shown(self, run: RunFolder, cohort: Cohort) -> list[MeshGraph]:
        """Every brain with the labels that its files show: the truth, or all that a mapper drew, hidden or not."""
        found = []
        for graph, judge in zip(cohort.graphs, self.judges(run, cohort)):
            if judge is not None and judge.by == HIDDEN:
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

    def contours(self, run: RunFolder, cohort: Cohort) -> list[NDArray[np.float32]]:
        """Contours between annotated sections of every training brain, [V, K]; nothing (0) for unseen ones."""
        return [
            np.zeros((graph.n_nodes, len(graph.areas)), np.float32)
            if member.unseen
            else section_contours(self.brain(run, member), self.stack_folder(run, member))
            for member, graph in zip(self.members, cohort.graphs)
        ]

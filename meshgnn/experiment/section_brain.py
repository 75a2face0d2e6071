"""One brain made from sections, and the folder that a run keeps for it.

mesh/                   what the mesh maker keeps
graph.*                 the brain, labelled by a mapper's annotations
features.*              the same with feature tables
drawn.json              numbers of the annotated sections
truth.safetensors       where the truth is known: `labels` [V], `unmatched` [V], `missed` [K] (`meshgnn.sockets.Truth`)
judged.json             what is measured of the meshes against the truth; {} where there is none
hidden.safetensors      `labels` [V] of annotated sections that are kept from training, to judge by
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import at
from meshgnn.experiment.feature_tables import made_table
from meshgnn.experiment.protocol_scores import Judge
from meshgnn.experiment.section_scores import HIDDEN
from meshgnn.export.area_map import AreaMap
from meshgnn.export.command import export
from meshgnn.export.on_sections import write_on_sections
from meshgnn.graph import Areas, MeshGraph
from meshgnn.progress import Progress
from meshgnn.sockets import Brain, FeatureMaker, MeshMaker, SectionFeatureMaker
from meshgnn.source.annotations import FOLDER as ANNOTATIONS
from meshgnn.source.annotations import annotated_labels, annotation_points, read_annotations
from meshgnn.source.sections import AXES
from meshgnn.store import load_graph, read_arrays, read_json, save_graph, write_arrays, write_json
from meshgnn.train.contours import contour_interpolation
from meshgnn.train.metrics import LeftOut


def renumbered(labels: NDArray[np.integer], own: Areas, areas: Areas) -> NDArray[np.int32]:
    """Labels of the classes `own` as those of `areas`, by name; -1 for a class that is not among them."""
    number = {name: k for k, name in enumerate(areas.names)}
    table = np.array([*(number.get(name, -1) for name in own.names), -1], np.int32)
    return table[labels]


def check_stack(
    maker: MeshMaker,
    makers: Mapping[str, FeatureMaker],
    folder: Path | None,
    name: str,
    pixel_um: float,
    *,
    mesh: str = "mesh",
) -> None:
    """Ask the maker of meshes, and those of features that read sections, before any work begins.

    Args:
        makers: of features, by the key that each is set under.
        folder: of the stack; None where it is still to be drawn.
        name: of the stack, for messages.
        pixel_um: width of its coarsest pixels.
        mesh: key that the mesh maker's settings stand under.

    Raises:
        InputError: what one of them cannot work with: too few sections, pixels too coarse for its patches, ...
    """
    for key, one in makers.items():
        if isinstance(one, SectionFeatureMaker):
            with at(key):
                one.check(name, pixel_um)
    if folder is not None:
        with at(mesh):
            maker.check(folder)


def make_mesh(
    maker: MeshMaker, name: str, stack: Path, folder: Path, areas: Areas | None, progress: Progress
) -> list[str]:
    """Reconstruct the stack; keep mesh and annotations.

    Args:
        areas: the classes; None: those of the stack's annotations, or else of its truth.

    Returns:
        The files that the brain consists of, relative to `folder`.

    Raises:
        InputError: the stack holds no brain in order, or annotations that do not fit its images.
    """
    written = maker.make(name, stack, folder / "mesh", progress)
    graph, sections = maker.load(stack, folder / "mesh")
    assert graph.locations is not None
    annotations = read_annotations(stack) if (stack / ANNOTATIONS).is_dir() else None
    if areas is None:
        areas = annotations.areas if annotations else maker.true_areas(stack) or Areas(names=())
    labels = np.full(graph.n_nodes, -1, np.int32)
    annotated: tuple[int, ...] = ()
    if annotations is not None:
        found = annotated_labels(graph.locations, annotations, sections)
        labels = np.where(graph.cortex, renumbered(found, annotations.areas, areas), -1)
        annotated = annotations.sections
    save_graph(graph.relabelled(labels, areas), folder / "graph")
    write_json(folder / "drawn.json", list(annotated))
    return ["graph.safetensors", "graph.json", "drawn.json", *(f"mesh/{file}" for file in written)]


def keep_truth(maker: MeshMaker, stack: Path, folder: Path) -> list[str]:
    """Keep what the truth says of a brain's nodes and meshes, and nothing where there is none.

    Returns:
        The files written, relative to `folder`.

    Raises:
        InputError: a truth that does not fit the brain.
    """
    path, areas = folder / "truth.safetensors", load_graph(folder / "graph").areas
    write_json(folder / "judged.json", maker.judged(stack, folder / "mesh"))
    truth = maker.truth(stack, folder / "mesh")
    if truth is None:
        path.unlink(missing_ok=True)  # of a truth that lay there before
        return ["judged.json"]
    own = renumbered(np.arange(len(truth.areas)), truth.areas, areas)
    missed = np.zeros(len(areas))
    np.add.at(missed, own[own >= 0], truth.missed[own >= 0])
    labels = renumbered(truth.labels, truth.areas, areas)
    write_arrays(path, {"labels": labels, "unmatched": truth.unmatched, "missed": missed})
    return ["judged.json", path.name]


def measures(maker: MeshMaker, folder: Path) -> dict[str, Any]:
    """The block `reconstruction` of a brain: what is measured of its meshes alone, and against the truth."""
    return {**maker.measures(folder / "mesh"), **read_json(folder / "judged.json")}


def load_brain(maker: MeshMaker, stack: Path, folder: Path, fold: NDArray[np.int32] | None = None) -> Brain:
    """The brain that `make_mesh` stored, in the form that makers of features take.

    Args:
        fold: [V] the run's fold plan; in no fold if absent.
    """
    _, sections = maker.load(stack, folder / "mesh")
    graph = load_graph(folder / "graph")
    return Brain(
        graph=graph,
        sections=sections,
        annotated=tuple(read_json(folder / "drawn.json")),
        fold=np.full(graph.n_nodes, -1, np.int32) if fold is None else fold,
    )


def make_features(
    brain: Brain,
    makers: Mapping[str, tuple[FeatureMaker, Path]],
    folder: Path,
    progress: Progress,
    say: Callable[[str], None],
) -> list[str]:
    """Compute and keep feature tables; returns the files, relative to `folder`.

    Args:
        makers: key of the setting -> maker of features, and the folder that it was fitted in.

    Raises:
        InputError: no node in cortex got features.
    """
    graph = brain.graph
    for key, (maker, fitted) in makers.items():

        def report(
            step: str, done: int, total: int, _: Mapping[str, float] | None = None, name: str = maker.name
        ) -> None:
            progress(f"{name} {step}", done, total)

        with at(key):
            table = made_table(maker, brain, fitted, report)
        seen = table.mask & graph.cortex
        graph = graph.with_table(table)
        say(f"  {graph.brain} {maker.name}: {seen.sum() / graph.cortex.sum():.0%} of cortex nodes have features")
    save_graph(graph, folder / "features")
    return ["features.safetensors", "features.json"]


def judge_of(folder: Path, graph: MeshGraph, *, trained_on: bool = False) -> Judge | None:
    """What judges a map: the truth, else a mapper's annotations; hidden sections where training saw the rest."""
    if (folder / "truth.safetensors").is_file():
        truth = read_arrays(folder / "truth.safetensors")
        left_out = LeftOut(unmatched=truth["unmatched"], missed=truth["missed"])
        return Judge(graph=graph.relabelled(truth["labels"], graph.areas), left_out=left_out, by="the truth")
    labels, by = graph.labels, "a mapper's annotations"
    if trained_on:
        path = folder / "hidden.safetensors"
        labels = read_arrays(path)["labels"] if path.is_file() else np.full(graph.n_nodes, -1)
        by = HIDDEN
    if not (labels >= 0).any():
        return None
    return Judge(graph=graph.relabelled(labels, graph.areas), left_out=None, by=by)


def export_brain(area_map: AreaMap, brain: Brain, out: Path, progress: Progress) -> list[Path]:
    """GraphML, the page with the sections, and the map on the sections, into `out`; returns the files."""
    stack = brain.section_stack()
    written = export(area_map, out, ("graphml", "html"), stack=stack, annotated=brain.annotated)
    return written + write_on_sections(out / "sections", area_map, stack, progress=progress)


def section_contours(brain: Brain, stack: Path) -> NDArray[np.float32]:
    """[V, K] contours between the annotated sections that the brain shows; `stack` is the folder of its annotations."""
    graph, sections = brain.graph, brain.section_stack()
    points, classes, numbers = annotation_points(read_annotations(stack), sections)
    shown = np.isin(numbers, brain.annotated)
    return contour_interpolation(
        graph.vertices_mm, points[shown], classes[shown], numbers[shown], AXES[sections.plane][2], len(graph.areas)
    )

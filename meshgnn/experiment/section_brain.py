"""One brain made from sections, in the folder of its own that a run keeps for it.

mesh/                   what the mesh maker keeps
graph.*                 the brain, labelled by a mapper's annotations
features.*              the same with feature tables
drawn.json              numbers of the annotated sections
truth.safetensors       `labels` [V], where the truth is known
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshgnn.encoder import MeshMaker, SectionBrain, SectionFeatures, Tell
from meshgnn.errors import InputError
from meshgnn.export.area_map import AreaMap
from meshgnn.export.command import export
from meshgnn.export.on_sections import write_on_sections
from meshgnn.graph import Areas, MeshGraph
from meshgnn.source.annotations import FOLDER as ANNOTATIONS
from meshgnn.source.annotations import annotated_labels, read_annotations
from meshgnn.store import load_graph, read_arrays, read_json, save_graph, write_arrays, write_json


def renumbered(labels: NDArray[np.integer], own: Areas, areas: Areas) -> NDArray[np.int32]:
    """Labels of the classes `own` as those of `areas`, by name; -1 for a class that is not among them."""
    number = {name: k for k, name in enumerate(areas.names)}
    table = np.array([*(number.get(name, -1) for name in own.names), -1], np.int32)
    return table[labels]


def make_mesh(maker: MeshMaker, name: str, stack: Path, folder: Path, areas: Areas, tell: Tell) -> list[str]:
    """Reconstruct the stack; keep mesh, annotations and truth in the classes `areas`.

    Returns:
        The files that the brain consists of, relative to `folder`.

    Raises:
        InputError: the stack holds no brain in order, or annotations that do not fit its images.
    """
    written = maker.make(name, stack, folder / "mesh", tell)
    graph, sections = maker.load(stack, folder / "mesh")
    assert graph.locations is not None
    labels = np.full(graph.n_nodes, -1, np.int32)
    drawn: tuple[int, ...] = ()
    if (stack / ANNOTATIONS).is_dir():
        annotations = read_annotations(stack)
        found = annotated_labels(graph.locations, annotations, sections)
        labels = np.where(graph.cortex, renumbered(found, annotations.areas, areas), -1)
        drawn = annotations.sections
    save_graph(graph.relabelled(labels, areas), folder / "graph")
    write_json(folder / "drawn.json", list(drawn))
    files = ["graph.safetensors", "graph.json", "drawn.json"]
    truth = maker.truth(stack, folder / "mesh")
    if truth is not None:
        write_arrays(folder / "truth.safetensors", {"labels": renumbered(truth.labels, truth.areas, areas)})
        files.append("truth.safetensors")
    return [*files, *(f"mesh/{file}" for file in written)]


def load_brain(maker: MeshMaker, stack: Path, folder: Path) -> SectionBrain:
    """What `make_mesh` kept, as whatever computes features sees it."""
    _, sections = maker.load(stack, folder / "mesh")
    return SectionBrain(
        graph=load_graph(folder / "graph"), stack=sections, drawn=tuple(read_json(folder / "drawn.json"))
    )


def make_features(
    brain: SectionBrain,
    encoders: Mapping[str, tuple[SectionFeatures, Path]],
    folder: Path,
    tell: Tell,
    say: Callable[[str], None],
) -> list[str]:
    """Compute and keep feature tables; returns the files, relative to `folder`.

    Args:
        encoders: name -> encoder, and the folder that it was fitted in.

    Raises:
        InputError: no node in cortex got features.
    """
    graph = brain.graph
    for name, (encoder, fitted) in encoders.items():
        table = encoder.make(brain, fitted, lambda step, done, all_, name=name: tell(f"{name} {step}", done, all_))  # type: ignore[misc]
        seen = table.mask & graph.cortex
        if not seen.any():
            raise InputError(f"{graph.brain}: no node got features from {name}; are its sections readable?")
        graph = graph.with_table(table)
        say(f"  {graph.brain} {name}: {seen.sum() / graph.cortex.sum():.0%} of cortex nodes have features")
    save_graph(graph, folder / "features")
    return ["features.safetensors", "features.json"]


def judged_by(folder: Path, graph: MeshGraph) -> tuple[MeshGraph, str | None]:
    """The brain labelled with what judges its map, and what that is: the truth, else a mapper's annotations."""
    path = folder / "truth.safetensors"
    if path.is_file():
        graph = graph.relabelled(read_arrays(path)["labels"], graph.areas)
        return graph, "truth" if (graph.labels >= 0).any() else None
    return graph, "annotations" if (graph.labels >= 0).any() else None


def export_brain(area_map: AreaMap, brain: SectionBrain, out: Path, tell: Tell) -> list[Path]:
    """GraphML, the page with the sections, and the map on the sections, into `out`; returns the files."""
    written = export(area_map, out, ("graphml", "html"), stack=brain.stack, annotated=brain.drawn)
    return written + write_on_sections(out / "sections", area_map, brain.stack, tell=partial(tell, "sections"))

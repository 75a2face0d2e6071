"""Area maps that a run stored, read back.

One brain:      tables/graph.{json,safetensors} and tables/probabilities.safetensors (array `probabilities`)
Several brains: tables/probabilities.safetensors (one array per brain) and, per brain, in brains/NAME: features.* or
                graph.* (the brain), and as far as they exist truth.safetensors (`labels`) or hidden.safetensors
                (`labels` kept from training), drawn.json (annotated sections), sections/ (the stack) and
                mesh/sections.json (where the alignment put the sections)

A brain without annotations knows no areas: it has those of the others, which are the same for all brains of a run.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from meshgnn.errors import InputError
from meshgnn.export.area_map import AreaMap
from meshgnn.export.trust import FILE as TRUST
from meshgnn.export.trust import load_trust
from meshgnn.graph import MeshGraph
from meshgnn.source.aligned import FILE, aligned_folder, check_same_sections, read_aligned
from meshgnn.source.annotations import FOLDER, read_annotations
from meshgnn.source.sections import TABLE, SectionStack, read_stack
from meshgnn.store import load_graph, read_arrays, read_json

REMEDY = "finish the run with --resume, or name the folder of one brain"


@dataclass(frozen=True, kw_only=True)
class StoredMap:
    """One brain's map of a run.

    Args:
        area_map: with the truth as labels where the run knows it.
        stack: folder of its sections, if they lie in the run.
        aligned: folder with the alignment of its sections, if the run has it.
        annotated: numbers of its annotated sections.
    """

    area_map: AreaMap
    stack: Path | None = None
    aligned: Path | None = None
    annotated: tuple[int, ...] = ()


def read_area_maps(run: Path) -> dict[str, StoredMap]:
    """Every area map of a run by the brain's name.

    Args:
        run: a run folder, or a folder that holds graph.* and probabilities.safetensors themselves.

    Raises:
        InputError: no such folder, no map in it, or files that are damaged or do not fit together.
    """
    run = Path(run)
    if not run.is_dir():
        raise InputError(f"{run}: no such folder; name a run folder")
    for folder in (run / "tables", run):
        chances = folder / "probabilities.safetensors"
        if chances.is_file() and (folder / "graph.json").is_file():
            stored = read_arrays(chances)
            if "probabilities" not in stored:
                raise InputError(f"{chances}: holds no array `probabilities`; {REMEDY}")
            graph = load_graph(folder / "graph")
            return {graph.brain: StoredMap(area_map=AreaMap(graph=graph, probabilities=stored["probabilities"]))}
    chances = run / "tables" / "probabilities.safetensors"
    if not chances.is_file() or not (run / "brains").is_dir():
        raise InputError(f"{run}: holds no area map (tables/graph.* and tables/probabilities.safetensors); {REMEDY}")
    stored = read_arrays(chances)
    folders = {folder.name: folder for folder in sorted((run / "brains").iterdir()) if folder.name in stored}
    graphs = {}
    for name, folder in folders.items():
        kinds = [kind for kind in ("features", "graph") if (folder / f"{kind}.json").is_file()]
        if kinds:
            graphs[name] = load_graph(folder / kinds[0])
    areas = next((graph.areas for graph in graphs.values() if len(graph.areas)), None)
    found = {}
    for name, graph in graphs.items():
        folder, stack = folders[name], folders[name] / "sections"
        if areas is not None and not len(graph.areas):
            graph = graph.relabelled(np.full(graph.n_nodes, -1), areas)
        if (folder / "truth.safetensors").is_file():
            graph = graph.relabelled(read_arrays(folder / "truth.safetensors")["labels"], graph.areas)
        elif (folder / "hidden.safetensors").is_file():
            kept = read_arrays(folder / "hidden.safetensors")["labels"]
            graph = graph.relabelled(np.where(kept >= 0, kept, graph.labels), graph.areas)
        found[name] = StoredMap(
            area_map=load_trust(run / "tables" / TRUST, name).of(AreaMap(graph=graph, probabilities=stored[name])),
            stack=stack if (stack / TABLE).is_file() else None,
            aligned=folder / "mesh" if (folder / "mesh" / FILE).is_file() else None,
            annotated=_numbers(folder / "drawn.json"),
        )
    if not found:
        raise InputError(f"{run}: none of its brains has a map yet; {REMEDY}")
    return found


def read_sections(stored: StoredMap, folder: Path | None) -> tuple[SectionStack | None, tuple[int, ...]]:
    """The sections of a brain, aligned if the run aligned them, and the numbers of its annotated ones.

    Args:
        folder: where they lie; None for where the run has or had them. No stack if they are not there any more.

    Raises:
        InputError: the sections in `folder` are not those of this brain.
    """
    graph = stored.area_map.graph
    place = folder or stored.stack
    if stored.aligned is not None:
        if place is None and not aligned_folder(stored.aligned).is_dir():
            return None, ()
        stack = read_aligned(stored.aligned, place)
        if folder is not None:
            check_same_sections(stored.aligned, stack)
    elif place is None:
        return None, ()
    else:
        stack = read_stack(place, space=graph.space, mirrored="turn")
        check_holds(stack, graph)
    if stored.annotated or stack.folder is None or not (stack.folder / FOLDER).is_dir():
        return stack, stored.annotated
    return stack, read_annotations(stack.folder).sections


def check_holds(stack: SectionStack, graph: MeshGraph) -> None:
    """The sections may be those of a brain: they hold the nodes that lie on them, or most of a mesh not located yet.

    Raises:
        InputError: they do not.
    """
    refusal = f"{stack.folder}: these are not the sections of {graph.brain}"
    places = graph.locations
    if places is not None and places.observed.any():
        for index in np.unique(places.section[places.observed]).tolist():
            section = next((one for one in stack if one.index == index), None)
            if section is None:
                raise InputError(f"{refusal}: nodes lie on section {index}, which is not there; name its own stack")
            here = places.observed & (places.section == index)
            furthest = places.row_px[here].max(), places.column_px[here].max()
            if any(at > size for at, size in zip(furthest, section.shape)):
                raise InputError(
                    f"{refusal}: a node lies at row {furthest[0]:.0f}, column {furthest[1]:.0f} of section {index}, "
                    f"which has {section.shape[0]} x {section.shape[1]} px; name its own stack"
                )
        return
    points = graph.vertices_mm.astype(np.float64)
    nearest = stack.nearest(points @ stack.sections[0].normal)
    inside = np.zeros(len(points), bool)
    for k, section in enumerate(stack):
        row, column, away = section.mm_to_pixel(points[nearest == k])
        near = np.abs(away) <= (stack.spacing_mm if len(stack) > 1 else np.inf)
        held = (row > -1) & (row < section.shape[0]) & (column > -1) & (column < section.shape[1])
        inside[nearest == k] = near & held
    if inside.mean() < 0.5:
        raise InputError(f"{refusal}: only {inside.mean():.0%} of the mesh lies within them; name its own stack")


def _numbers(path: Path) -> tuple[int, ...]:
    if not path.is_file():
        return ()
    try:
        return tuple(int(number) for number in read_json(path))
    except (TypeError, ValueError):
        raise InputError(f"{path}: is not a list of section numbers: {json.dumps(read_json(path))[:60]}") from None

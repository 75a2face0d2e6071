"""What is known of a stack, out of the journal's records and the folder of its mesh: the `Situation` that engines see.

Outlines become `Annotations` backed by GeoJSON files in a snapshot folder, one file per section, which is written only
if it changed. What was drawn or imported and what was accepted from a prediction are kept apart.

A border whose two areas are said labels the nodes beside it: those of the section that lie within `BESIDE_MM` of the
stroke (or one and a half edges of the mesh, if that is more) and hang together on the mesh with the nearest one, so
that the other bank of a sulcus is left alone.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csgraph

from meshgnn.errors import InputError
from meshgnn.graph import MeshGraph
from meshgnn.mapping.record import Record
from meshgnn.mapping.socket import Situation
from meshgnn.mesh.operators import adjacency
from meshgnn.sockets import Brain, MeshMaker
from meshgnn.source.annotations import Annotations
from meshgnn.source.area_table import AreaTable
from meshgnn.source.sections import Section, SectionStack, read_stack
from meshgnn.store import load_graph, write_text

BESIDE_MM = 3.0
IN_RUN = ("features", "graph")  # what a run keeps of a brain beside its mesh, the richer one first


def newest(records: Iterable[Record]) -> list[Record]:
    """The newest version of everything that was said and not taken away, in the order in which it was first said."""
    last: dict[str, Record] = {}
    for record in records:
        if record.id not in last or record.version >= last[record.id].version:
            last[record.id] = record
    return [record for record in last.values() if not record.deleted]


def open_brain(stack: Path, mesh: Path | None, maker: MeshMaker | None) -> tuple[SectionStack, Brain | None]:
    """The sections and, with a mesh, the brain on them.

    Args:
        stack: stack folder.
        mesh: what `python -m reconstruct` wrote for it, or a run's folder `brains/NAME`, whose tables of features come
            along; None without a mesh.
        maker: reads meshes.

    Returns:
        The stack, aligned where there is a mesh, and the brain without labels.

    Raises:
        InputError: no stack or mesh there, or a mesh of other sections.
    """
    if mesh is None:
        return read_stack(stack, minimum=1), None
    if maker is None:
        raise InputError(f"{mesh}: nothing here reads meshes; name a mesh maker in the config")
    mesh = Path(mesh)
    if not mesh.is_dir():
        raise InputError(f"{mesh}: no such folder; give the folder of a reconstruction, or brains/NAME of a run")
    in_run = next((mesh / name for name in IN_RUN if (mesh / f"{name}.json").is_file()), None)
    graph, sections = maker.load(stack, mesh / "mesh" if in_run else mesh)
    if in_run:
        kept = load_graph(in_run)
        if kept.n_nodes != graph.n_nodes:
            raise InputError(f"{in_run}.json: {kept.n_nodes} nodes, but the mesh beside it has {graph.n_nodes}")
        graph = kept
    if graph.locations is None:
        raise InputError(f"{mesh}: its nodes lie on no sections; give a mesh that was made from this stack")
    return sections, Brain(graph=graph.relabelled(np.full(graph.n_nodes, -1), graph.areas), sections=sections)


def situation(
    records: Sequence[Record],
    stack: Path,
    mesh: Path | None,
    areas: AreaTable,
    snapshot: Path,
    *,
    maker: MeshMaker | None = None,
    rejected: Sequence[tuple[int, int]] = (),
) -> Situation:
    """`situation_of` the brain in `mesh`. Raises InputError as `open_brain` and `situation_of` do."""
    sections, brain = open_brain(stack, mesh, maker)
    everything = sections if mesh is None else read_stack(stack, minimum=1)
    return situation_of(records, sections, brain, areas, snapshot, every=everything, rejected=rejected)


def situation_of(
    records: Sequence[Record],
    stack: SectionStack,
    brain: Brain | None,
    areas: AreaTable,
    snapshot: Path,
    *,
    every: SectionStack | None = None,
    rejected: Sequence[tuple[int, int]] = (),
) -> Situation:
    """What is known when a filling is asked for.

    Args:
        records: the journal's, of any version.
        stack, brain: see `open_brain`.
        areas: those that may be drawn.
        snapshot: folder for the GeoJSON files that the annotations are read from.
        every: all sections of the stack; those that an alignment left out may be drawn on too. `stack` if absent.
        rejected: (section, class) of predictions that a mapper rejected.

    Raises:
        InputError: a section that the stack does not have, or an area that the table does not know.
    """
    known = {section.index: section for section in every or stack}
    numbers = areas.class_of_name()
    by_origin: dict[bool, dict[int, list[Record]]] = {True: defaultdict(list), False: defaultdict(list)}
    borders = []
    for record in newest(records):
        if record.section not in known:
            raise InputError(f"section {record.section} was drawn on, but the stack has none of that number")
        for name in filter(None, (record.area, record.other)):
            if name not in numbers:
                raise InputError(f"section {record.section}: the area {name!r} is not in areas.json; add it there")
        if record.kind == "area" and record.geometry:
            by_origin[record.origin == "accepted"][record.section].append(record)
        elif record.kind == "border" and record.area and record.other and record.origin != "accepted":
            borders.append(record)
    shapes = {index: section.shape for index, section in known.items()}
    accepted = _annotations(by_origin[True], shapes, areas, snapshot / "accepted")
    return Situation(
        stack=stack,
        brain=brain,
        drawn=_annotations(by_origin[False], shapes, areas, snapshot / "drawn"),
        accepted=accepted if accepted.sections else None,
        rejected=tuple(sorted({(int(section), int(area)) for section, area in rejected})),
        beside=beside_borders(brain.graph, stack, borders, numbers) if brain and borders else None,
    )


def _annotations(
    by_section: Mapping[int, Sequence[Record]],
    shapes: Mapping[int, tuple[int, int]],
    areas: AreaTable,
    folder: Path,
) -> Annotations:
    """Outlines as annotations; files of sections that are no longer drawn on go away."""
    files = {}
    for section, records in by_section.items():
        features = [
            {
                "type": "Feature",
                "geometry": dict(record.geometry),
                "properties": {"objectType": "annotation", "classification": {"name": record.area}},
            }
            for record in records
        ]
        files[section] = folder / f"{section:06d}.geojson"
        text = json.dumps({"type": "FeatureCollection", "features": features}, sort_keys=True)
        if not files[section].is_file() or files[section].read_text(encoding="utf-8") != text:
            write_text(files[section], text)
    for stale in set(folder.glob("*.geojson")) - set(files.values()):
        stale.unlink(missing_ok=True)
    return Annotations(images={}, polygons=files, shapes={index: shapes[index] for index in files}, table=areas)


def beside_borders(
    graph: MeshGraph, stack: SectionStack, borders: Sequence[Record], numbers: Mapping[str, int]
) -> NDArray[np.int32]:
    """Classes [V] of the nodes beside strokes across the cortex, -1 elsewhere; see the module.

    Args:
        borders: with both areas said; the first lies on the left as the stroke was drawn and is seen.
        numbers: class by area name.
    """
    found = np.full(graph.n_nodes, -1, np.int32)
    places, near = graph.locations, adjacency(graph.n_nodes, graph.edges)
    reach_mm = max(BESIDE_MM, 1.5 * float(np.median(edge_lengths_mm(graph))))
    known = {section.index: section for section in stack}
    for record in borders:
        line = np.asarray(record.geometry.get("coordinates", ()), np.float64)
        if places is None or record.section not in known or line.ndim != 2 or len(line) < 2 or line.shape[1] < 2:
            continue
        here = np.flatnonzero(graph.cortex & places.observed & (places.section == record.section))
        section = known[record.section]
        away_px, left = _from_line(stored_points(section, places.row_px[here], places.column_px[here]), line[:, :2])
        close = away_px * section.pixel_um / 1000 <= reach_mm
        if not close.any():
            continue
        nodes, left, away_px = here[close], left[close], away_px[close]
        _, part = csgraph.connected_components(near[nodes][:, nodes], directed=False)
        one = part == part[away_px.argmin()]
        found[nodes[one]] = np.where(left[one], numbers[record.area], numbers[record.other])
    return found


def edge_lengths_mm(graph: MeshGraph) -> NDArray[np.float64]:
    """[E] of the directed edges."""
    points = graph.vertices_mm.astype(np.float64)
    return np.asarray(np.linalg.norm(points[graph.edges[0]] - points[graph.edges[1]], axis=1))


def stored_points(section: Section, row: NDArray[np.floating], column: NDArray[np.floating]) -> NDArray[np.float64]:
    """Points [n, 2] (x, y) of the image as stored for rows and columns of pixel centres of the image as read."""
    if section.mirrored:
        column = section.shape[1] - 1 - column
    return np.column_stack([column + 0.5, row + 0.5])


def _from_line(points: NDArray[np.float64], line: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Distance [n] of points to a line of segments, and whether [n] they lie on its left as seen (y runs down)."""
    start, step = line[:-1], np.diff(line, axis=0)
    length = np.maximum((step**2).sum(1), 1e-12)
    offset = points[:, None] - start
    along = ((offset * step).sum(2) / length).clip(0, 1)
    apart = offset - along[..., None] * step
    nearest = np.linalg.norm(apart, axis=2).argmin(1)
    rows = np.arange(len(points))
    cross = step[nearest, 1] * offset[rows, nearest, 0] - step[nearest, 0] * offset[rows, nearest, 1]
    return np.linalg.norm(apart[rows, nearest], axis=1), cross > 0

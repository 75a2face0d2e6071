"""The synthetic brain cut into sections without images, and a mapper who knows its areas."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from meshgnn.graph import NodeLocations
from meshgnn.mapping.record import Record
from meshgnn.mapping.ribbon import Ribbons, smooth_outlines
from meshgnn.mapping.situation import situation_of
from meshgnn.sockets import Brain
from meshgnn.source.area_table import AreaTable
from meshgnn.source.sections import AXES, Section, SectionStack, nominal_transform
from tests.synthetic import brain

PIXEL_UM, SHAPE, SPACING_MM = 400.0, (200, 360), 5.0


def stack_of(torn=(), mirrored=()) -> SectionStack:
    """Coronal sections 10, 11, ... 5 mm apart, their pixels placed in the space of the ball."""
    sections = []
    for k, y in enumerate(np.arange(-27.5, 28, SPACING_MM)):
        to_space = nominal_transform("coronal", float(y), PIXEL_UM, SHAPE)
        sections.append(
            Section(
                path=Path(f"section_{10 + k}.tif"), index=10 + k, position_mm=float(y), pixel_um=PIXEL_UM,
                thickness_um=20, shape=SHAPE, usable=10 + k not in torn, mirrored=10 + k in mirrored,
                to_space=to_space,
            )
        )  # fmt: skip
    return SectionStack(sections=tuple(sections), space="test")


def located(stack: SectionStack, subdivisions: int = 3) -> tuple[Brain, np.ndarray]:
    """The brain on its sections without labels, and the true labels [V]."""
    graph = brain(subdivisions, noise=0.3)
    along = graph.vertices_mm @ AXES["coronal"][2]
    usable = [section for section in stack if section.usable]
    place = np.abs(along[:, None] - [section.position_mm for section in usable]).argmin(1)
    row, column, above = np.zeros((3, graph.n_nodes))
    for k, section in enumerate(usable):
        here = place == k
        row[here], column[here], above[here] = section.mm_to_pixel(graph.vertices_mm[here])
    places = NodeLocations(
        section=np.array([section.index for section in usable])[place], row_px=row, column_px=column,
        normal_angle_deg=np.zeros(graph.n_nodes), obliqueness_deg=np.zeros(graph.n_nodes), residual_mm=np.abs(above),
        observed=np.abs(above) <= SPACING_MM,
    )  # fmt: skip
    kept = {name: getattr(graph, name) for name in graph.__slots__ if name != "edges"}
    whole = type(graph)(**{**kept, "locations": places})
    bare = whole.relabelled(np.full(graph.n_nodes, -1), graph.areas)
    return Brain(graph=bare, sections=stack), graph.labels


def drawings(stack, one: Brain, labels, sections, areas=None, origin="drawn", mapper="anna") -> list[Record]:
    """What a mapper draws who sees the true areas on these sections."""
    names, found = one.graph.areas.names, []
    ribbons = Ribbons(one.graph)
    shares = np.eye(len(names) + 1)[labels]
    for section in (section for section in stack if section.index in sections):
        ribbon = ribbons.of(section)
        best = ribbon.shares(shares).argmax(1)
        image = ribbon.image(np.where(best < len(names), best, -1))
        for area, polygons in smooth_outlines(image, ribbon.step, ribbon.width_mm).items():
            if areas is None or names[area] in areas:
                geometry = {"type": "MultiPolygon", "coordinates": [[r.tolist() for r in p] for p in polygons]}
                found.append(record(section.index, names[area], geometry, origin=origin, mapper=mapper))
    return found


def record(section, area, geometry, **changes) -> Record:
    given = {"id": f"{section}-{area}-{changes.get('origin', '')}-{changes.get('mapper', '')}", "version": 1,
             "kind": "area", "mapper": "anna", "time": "2026-01-01T00:00:00Z"}  # fmt: skip
    return Record(section=section, area=area, geometry=geometry, **{**given, **changes})


def situation(records, stack, one: Brain, folder, **changes):
    table = AreaTable(areas=one.graph.areas, unmapped={99: "not isocortex"})
    return situation_of(records, stack, one, table, folder / "snapshot", **changes)


def without_sections(stack: SectionStack, *numbers) -> SectionStack:
    return replace(stack, sections=tuple(section for section in stack if section.index not in numbers))

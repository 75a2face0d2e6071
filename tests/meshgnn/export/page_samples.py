"""A made-up brain with sections, profiles and hostile names, small enough for tests."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from meshgnn.export.area_map import AreaMap
from meshgnn.graph import FeatureTable, MeshGraph, NodeLocations
from meshgnn.source.sections import SectionStack, read_stack, write_tiff
from tests.synthetic import brain

HOSTILE = (
    "</script><script>document.body.dataset.broken=1</script>",
    '"><img src=x onerror=alert(1)>',
    "<!--",
    "A & B",
)


def area_map(subdivisions: int = 3, names: tuple[str, ...] = ("V1", "V2", "4", "3b")) -> AreaMap:
    graph = brain(subdivisions)
    graph = graph.relabelled(graph.labels, replace(graph.areas, names=names))
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(graph.n_nodes, len(names))) + 3 * np.eye(len(names))[graph.labels]
    p = np.exp(logits)
    return AreaMap(graph=graph, probabilities=(p / p.sum(1, keepdims=True)).astype(np.float32))


def stack(folder: Path, *, count: int = 7, pixel_um: float = 400, size: tuple[int, int] = (200, 350)) -> SectionStack:
    """Coronal sections 8 mm apart with noise on them; the last one is not usable."""
    rng = np.random.default_rng(0)
    lines = ["file,index,position_mm,pixel_um,thickness_um,usable"]
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        image = rng.integers(60, 250, size).astype(np.uint8)
        write_tiff(folder / f"s{k}.tif", image, pixel_um)
        lines.append(f"s{k}.tif,{10 + k},{8 * (k - count // 2)},{pixel_um},20,{int(k + 1 < count)}")
    (folder / "sections.csv").write_text("\n".join(lines) + "\n")
    return read_stack(folder, space="test")


def located(made: AreaMap, sections: SectionStack) -> AreaMap:
    """The map with every node put on the nearest usable section, if that is within 4 mm."""
    graph = made.graph
    usable = sections.usable()
    along = graph.vertices_mm[:, 1].astype(float)
    place = usable.nearest(along)
    away = np.abs(along - usable.positions_mm[place])
    rows, columns = np.zeros(len(along)), np.zeros(len(along))
    for k, section in enumerate(usable):
        row, column, _ = section.mm_to_pixel(graph.vertices_mm[place == k])
        rows[place == k], columns[place == k] = row, column
    seen = away <= 4
    index = np.array([section.index for section in usable])
    angle = np.degrees(np.arctan2(-graph.vertices_mm[:, 2], graph.vertices_mm[:, 0]))
    places = NodeLocations(
        section=np.where(seen, index[place], -1), row_px=rows, column_px=columns, normal_angle_deg=angle,
        obliqueness_deg=np.minimum(away * 10, 90), residual_mm=away, observed=seen,
    )  # fmt: skip
    changed = MeshGraph(
        brain=graph.brain, meshes=graph.meshes, cortex=graph.cortex, tables=graph.tables, labels=graph.labels,
        areas=graph.areas, surfaces=graph.surfaces, locations=places,
    )  # fmt: skip
    return AreaMap(graph=changed, probabilities=made.probabilities)


def profiles(made: AreaMap, depths: int = 12) -> FeatureTable:
    rng = np.random.default_rng(1)
    places = made.graph.locations
    mask = np.ones(made.graph.n_nodes, bool) if places is None else places.observed
    values = rng.normal(100, 20, (made.graph.n_nodes, depths))
    return FeatureTable(name="profiles", values=values, mask=mask, columns=tuple(f"d{k}" for k in range(depths)))


__all__ = ["HOSTILE", "area_map", "located", "profiles", "stack"]

"""CSV and GraphML of an area map."""

from pathlib import Path
from typing import Any

import igraph
import numpy as np

from meshgnn.export.area_map import UNMAPPED_LEVEL, AreaMap
from meshgnn.source.text_table import write_text_table
from meshgnn.store import written_aside


def _columns(area_map: AreaMap) -> dict[str, list[Any]]:
    """Node attributes by name, as plain Python values (what CSV, GraphML and Gephi agree on)."""
    graph = area_map.graph
    points = graph.vertices_mm.astype(float)
    names = np.array([*graph.areas.names, ""], dtype=object)
    predicted = area_map.predicted
    best = area_map.probabilities.max(1) if len(graph.areas) else np.zeros(graph.n_nodes)
    columns = {
        "hemisphere": graph.hemisphere.tolist(),
        "x_mm": points[:, 0].tolist(),
        "y_mm": points[:, 1].tolist(),
        "z_mm": points[:, 2].tolist(),
        "cortex": graph.cortex.astype(int).tolist(),
        "area": names[graph.labels].tolist(),
        "area_code": graph.labels.tolist(),
        "predicted": names[predicted].tolist(),
        "predicted_code": predicted.tolist(),
        "probability": np.round(best.astype(float), 6).tolist(),
        "uncertainty": np.round(area_map.uncertainty.astype(float), 6).tolist(),
    }
    if area_map.unmapped_p is not None:
        p = np.where(graph.cortex, area_map.unmapped_p, 1)
        columns["unmapped"] = (p <= UNMAPPED_LEVEL).astype(int).tolist()
        columns["unmapped_p"] = np.round(p.astype(float), 6).tolist()
    likely = area_map.likely
    if likely is not None:
        order = np.argsort(-area_map.probabilities, axis=1, kind="stable")
        columns["set_size"] = likely.sum(1).tolist()
        columns["set"] = [";".join(names[row[own[row]]]) for row, own in zip(order, likely)]
    return columns


def write_csv(path: Path, area_map: AreaMap) -> None:
    """One row per node; `vertex` counts within the hemisphere, as in the surface files."""
    columns = _columns(area_map)
    vertex = np.concatenate([np.arange(mesh.n_vertices) for mesh in area_map.graph.meshes]).tolist()
    write_text_table(path, [["vertex", *columns], *zip(vertex, *columns.values())])


def write_graphml(path: Path, area_map: AreaMap) -> None:
    """The mesh graph with area, predicted, probability and x, y, z at every node; for networkx, igraph and Gephi.

    Area names and codes are both kept (-1 and "" mean none); each edge stands once with its length in mm; brain, space
    and units are graph attributes.
    """
    graph = area_map.graph
    columns = _columns(area_map)
    columns |= {axis: columns[f"{axis}_mm"] for axis in "xyz"}
    once = graph.edges[:, graph.edges[0] < graph.edges[1]]
    length = np.linalg.norm(graph.vertices_mm[once[0]] - graph.vertices_mm[once[1]], axis=1)
    network = igraph.Graph(n=graph.n_nodes, edges=once.T.tolist(), directed=False)
    for name, values in columns.items():
        network.vs[name] = values
    network.es["length_mm"] = np.round(length.astype(float), 5).tolist()
    network["brain"], network["space"], network["units"], network["schema"] = (
        graph.brain,
        graph.space,
        "mm",
        "meshgnn-1",
    )
    with written_aside(path) as aside:
        network.write_graphml(str(aside))

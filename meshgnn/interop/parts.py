"""A MeshGraph laid out as graph libraries want it: values per node of the whole brain, triangles, edges, and the rest.

Values per node, by name (V nodes; L and R end to end):

    pos                 [V, 3] float32, midthickness in mm
    hemisphere          [V] int32, place in about["hemispheres"]
    cortex              [V] bool
    labels              [V] int32, place in about["areas"]["names"], -1 = none
    soft_labels         [V, K] float32, if any
    table.NAME.values   [V, C] float32, 0 outside the mask
    table.NAME.mask     [V] bool
    surface.NAME        [V, 3] float32
    locations.FIELD     [V], fields of NodeLocations
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.graph import FeatureTable, MeshGraph
from meshgnn.store import graph_of_parts, graph_parts


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """See above.

    Args:
        nodes: values per node by name.
        faces: [F, 3] int32, nodes of the whole brain.
        about: everything else, JSON-ready: brain, space, hemispheres, areas, columns and units of the tables.
    """

    nodes: Mapping[str, NDArray[Any]]
    faces: NDArray[np.int32]
    about: Mapping[str, Any]


def laid_out(graph: MeshGraph) -> Parts:
    """The parts of a brain."""
    arrays, about = graph_parts(graph)
    sizes = [mesh.n_vertices for mesh in graph.meshes]
    nodes = {"pos": graph.vertices_mm, "hemisphere": np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)}
    nodes |= {name: values for name, values in arrays.items() if not name.startswith("mesh.") and name != "colours"}
    starts = np.cumsum([0, *sizes])
    faces = np.concatenate([mesh.faces + start for mesh, start in zip(graph.meshes, starts)])
    about["areas"]["colours"] = graph.areas.colours.tolist()
    about |= {"soft_labels": graph.soft_labels is not None, "locations": graph.locations is not None}
    return Parts(nodes=nodes, faces=faces.astype(np.int32), about=json.loads(json.dumps(about, default=_plain)))


def _plain(value: Any) -> Any:
    """What JSON does not know of itself, in the identity of an encoder."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return dict(value) if isinstance(value, Mapping) else str(value)


def gathered(parts: Parts, extra: Mapping[str, NDArray[Any]], name: str) -> MeshGraph:
    """The inverse of `laid_out`.

    Args:
        parts: of a brain.
        extra: further numbers per node, [V] or [V, C]; each becomes a table of one name, its rows that are not finite
            masked.
        name: of where they come from, for errors.

    Raises:
        InputError: the parts do not make a brain.
    """
    try:
        side = np.asarray(parts.nodes["hemisphere"], np.int64)
        hemispheres = list(parts.about["hemispheres"])
        colours = np.asarray(parts.about["areas"]["colours"], np.float32).reshape(-1, 4)
        points = _single("pos", parts.nodes["pos"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{name}: does not describe a brain ({error} is missing or wrong)") from None
    faces = np.asarray(parts.faces, np.int64).reshape(-1, 3)
    if len(side) != len(points) or (np.diff(side) < 0).any() or not set(side.tolist()) == set(range(len(hemispheres))):
        raise InputError(f"{name}: nodes must lie hemisphere by hemisphere ({', '.join(map(str, hemispheres))})")
    if faces.size and (faces.min() < 0 or faces.max() >= len(side)):
        raise InputError(f"{name}: a triangle names node {faces.max()} of {len(side)}; triangles and nodes go together")
    if (side[faces] != side[faces[:, :1]]).any():
        raise InputError(f"{name}: a triangle joins two hemispheres")
    arrays = {key: _single(key, values) for key, values in parts.nodes.items() if key not in ("pos", "hemisphere")}
    arrays["colours"] = colours
    starts = np.searchsorted(side, np.arange(len(hemispheres)))
    for place, hemisphere in enumerate(hemispheres):
        arrays[f"mesh.{hemisphere}.vertices_mm"] = points[side == place]
        arrays[f"mesh.{hemisphere}.faces"] = faces[side[faces[:, 0]] == place] - starts[place]
    graph = graph_of_parts(arrays, dict(parts.about), name)
    for key, values in extra.items():
        graph = graph.with_table(as_table(key, values))
    return graph


def _single(key: str, values: Any) -> NDArray[Any]:
    """Floats in single precision, as records hold them; too large ones become infinite, which records refuse."""
    values = np.asarray(values)
    if values.dtype.kind != "f" or key.startswith("locations."):
        return values
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def as_table(name: str, values: NDArray[Any]) -> FeatureTable:
    """Numbers per node [V] or [V, C] as a feature table; rows that are not finite are masked."""
    values = _single(name, np.asarray(values, np.float64)).reshape(len(values), -1)
    count = values.shape[1]
    columns = (name,) if count == 1 else tuple(f"{name}_{k}" for k in range(count))
    known = np.isfinite(values).all(1)
    return FeatureTable(name=name, values=np.where(known[:, None], values, 0), mask=known, columns=columns)


def read_about(text: Any, name: str) -> dict[str, Any]:
    """`Parts.about` from its JSON text.

    Raises:
        InputError: there is none, or it is not JSON.
    """
    try:
        about = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        about = None
    if not isinstance(about, dict):
        raise InputError(f"{name}: holds no description of a brain under `about`; was it made from a MeshGraph?")
    return about


def edges_once(graph: MeshGraph) -> NDArray[np.int64]:
    """[2, E/2] every edge once, the smaller node first, sorted."""
    once = graph.edges[:, graph.edges[0] < graph.edges[1]].astype(np.int64)
    return once[:, np.lexsort((once[1], once[0]))]


def lengths_mm(graph: MeshGraph, edges: NDArray[np.integer]) -> NDArray[np.float64]:
    """[E] lengths of these edges on the midthickness."""
    points = graph.vertices_mm.astype(np.float64)
    return np.linalg.norm(points[edges[0]] - points[edges[1]], axis=1)


def check_edges(graph: MeshGraph, edges: NDArray[np.integer], name: str) -> None:
    """Raises InputError unless these edges [2, E], in any order and direction, are those of the triangles.

    The edges of a MeshGraph follow from its triangles; others would be lost without a word.
    """
    low, high = np.sort(np.asarray(edges, np.int64).reshape(2, -1), axis=0)
    found = np.unique(low * graph.n_nodes + high)
    wanted = edges_once(graph)
    if not np.array_equal(found, wanted[0] * graph.n_nodes + wanted[1]):
        raise InputError(
            f"{name}: its {len(found)} edges are not the {wanted.shape[1]} of its triangles, and a MeshGraph has no "
            "others; change a copy, and bring back values of nodes only"
        )

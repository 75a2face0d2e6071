"""Brains as networkx graphs: nodes 0 to V - 1 with plain Python values, which networkx's functions and writers take.

    node        hemisphere ("L", "R"), x_mm, y_mm, z_mm, cortex, area (absent where there is none)
                TABLE.COLUMN, absent where the table's mask is False; soft.AREA, absent where 0
                SURFACE.x_mm, .y_mm, .z_mm; locations.FIELD
    edge        length_mm
    graph       brain, space, units, faces ([F, 3] array of nodes), about (the rest, as a dict)

What it cannot hold: a table without columns, which is left out; two values under one name ("a.b" + "c" and "a" + "b.c":
refused). Back: numbers per node under other names (a centrality) become tables; other attributes that were added do not
come along. A million nodes take some GB here, ten times more than as PyTorch Geometric's Data.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.graph import LOCATION_COLUMNS, MeshGraph
from meshgnn.interop.parts import Parts, check_edges, edges_once, gathered, laid_out, lengths_mm

if TYPE_CHECKING:
    import networkx

_WHERE = "this networkx graph"
_AXES = ("x_mm", "y_mm", "z_mm")


def to_networkx(graph: MeshGraph) -> "networkx.Graph":
    """A brain as an undirected `networkx.Graph`; see above for its attributes.

    Raises:
        InputError: two values would have one name.
    """
    import networkx

    parts = laid_out(graph)
    about = {**parts.about, "tables": {name: meta for name, meta in parts.about["tables"].items() if meta["columns"]}}
    made = networkx.Graph(brain=graph.brain, space=graph.space, units="mm", faces=parts.faces.copy(), about=about)
    attributes: list[dict[str, Any]] = [{"hemisphere": side} for side in graph.hemisphere.tolist()]
    for name, values, known in _columns(parts):
        for node in np.flatnonzero(known).tolist() if known is not None else range(graph.n_nodes):
            attributes[node][name] = values[node]
    for held, label in zip(attributes, graph.labels.tolist()):
        if label >= 0:
            held["area"] = graph.areas.names[label]
    made.add_nodes_from(enumerate(attributes))
    edges = edges_once(graph)
    lengths = lengths_mm(graph, edges).tolist()
    made.add_edges_from((a, b, {"length_mm": mm}) for a, b, mm in zip(*edges.tolist(), lengths))
    return made


def from_networkx(network: "networkx.Graph") -> MeshGraph:
    """The brain in a graph that `to_networkx` made; numbers per node that were added become tables.

    Raises:
        InputError: it is none, or its nodes or edges were changed.
    """
    about, faces = network.graph.get("about"), network.graph.get("faces")
    if not isinstance(about, Mapping) or faces is None:
        raise InputError(f"{_WHERE} lacks `about` or `faces`; only one that was made from a MeshGraph can become one")
    if set(network.nodes) != set(range(len(network))):
        raise InputError(
            f"{_WHERE} has other nodes than 0 to {len(network) - 1}; triangles need those they were made of"
        )
    held = [network.nodes[node] for node in range(len(network))]
    nodes: dict[str, Any] = {}
    stacks: dict[str, list[NDArray[Any]]] = {}
    ours = {"hemisphere", "area"}
    try:
        places = {side: place for place, side in enumerate(about["hemispheres"])}
        nodes["hemisphere"] = np.array([places[one["hemisphere"]] for one in held])
        numbers = {area: k for k, area in enumerate(about["areas"]["names"])}
        nodes["labels"] = np.array([numbers[one["area"]] if "area" in one else -1 for one in held])
        for name, key, column, known in _layout(about):
            ours.add(name)
            if known is None:
                values = np.array([one[name] for one in held])
            else:
                values = np.array([one.get(name, 0.0) for one in held])
            if column is None:
                nodes[key] = values
                continue
            stacks.setdefault(key, []).append(values)
            if known:
                there = np.array([name in one for one in held])
                nodes[known] = nodes.get(known, True) & there
    except KeyError as error:
        raise InputError(f"{_WHERE}: a node lacks {error}, or it names what is not there") from None
    nodes |= {key: np.stack(columns, axis=1) for key, columns in stacks.items()}
    graph = gathered(Parts(nodes=nodes, faces=np.asarray(faces), about=about), _added(held, ours), _WHERE)
    check_edges(graph, np.array(list(network.edges), dtype=np.int64).reshape(-1, 2).T, _WHERE)
    return graph


def _added(held: list[dict[str, Any]], ours: set[str]) -> dict[str, NDArray[Any]]:
    """Numbers per node under names that are not ours, NaN where a node has none."""
    names = sorted({name for one in held for name in one if isinstance(name, str)} - ours)
    found = {}
    for name in names:
        values = [one.get(name, np.nan) for one in held]
        if all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in values):
            found[name] = np.array(values, np.float64)
    return found


def _columns(parts: Parts) -> Iterator[tuple[str, list[Any], NDArray[np.bool_] | None]]:
    """Attributes of the nodes: name, values and which of them are there (None: all)."""
    names = {"hemisphere", "area"}
    for name, key, column, known in _layout(parts.about):
        if name in names:
            raise InputError(f"two values of a node would be called {name!r} in networkx; rename a table or a column")
        names.add(name)
        values = parts.nodes[key] if column is None else parts.nodes[key][:, column]
        there = parts.nodes[key][:, column] > 0 if known == "" else parts.nodes[known] if known else None
        yield name, values.tolist(), there


def _layout(about: Mapping[str, Any]) -> Iterator[tuple[str, str, int | None, str | None]]:
    """Attribute name, key in `Parts.nodes`, column there, and the mask: its key, "" for values above 0, None if all."""
    for column, axis in enumerate(_AXES):
        yield axis, "pos", column, None
    yield "cortex", "cortex", None, None
    for table, meta in about["tables"].items():
        for column, name in enumerate(meta["columns"]):
            yield f"{table}.{name}", f"table.{table}.values", column, f"table.{table}.mask"
    for surface in about["surfaces"]:
        for column, axis in enumerate(_AXES):
            yield f"{surface}.{axis}", f"surface.{surface}", column, None
    if about["soft_labels"]:
        for column, area in enumerate(about["areas"]["names"]):
            yield f"soft.{area}", "soft_labels", column, ""
    if about["locations"]:
        for name in LOCATION_COLUMNS:
            yield f"locations.{name}", f"locations.{name}", None, None

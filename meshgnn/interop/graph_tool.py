"""Brains as graph-tool graphs. graph-tool is optional: `apt install python3-graph-tool`, or conda-forge.

Property maps of the nodes are those of `interop/parts.py` (vectors as `vector<double>`), with `hemisphere` as text and
the name of the `area` beside `labels`; edges have `length_mm`; the graph has `brain`, `space`, `units`, `area_names`,
`faces` (three nodes per triangle, end to end) and `about` (the rest, as JSON). `write_gt(path, to_gt(graph))` and
`from_gt(read_gt(path))` need no graph-tool; that is also the way to and from a graph-tool in another environment.

What graph-tool cannot hold: nothing of a MeshGraph is lost. It has no float32, so values are doubles there.
Back: numbers per node under other names (a block model's blocks) become tables; property maps of edges, texts, Python
objects and maps of other value types under other names do not come along.
"""

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.graph import MeshGraph
from meshgnn.interop.gt_file import GtGraph, Property, gt_bytes, one_value, parse_gt
from meshgnn.interop.parts import Parts, check_edges, edges_once, gathered, laid_out, lengths_mm, read_about

INSTALL = (
    "graph-tool is not on PyPI: `apt install python3-graph-tool` (the system's Python and numpy < 2) or "
    "`conda install -c conda-forge graph-tool`; meshgnn.interop.gt_file reads and writes its .gt files without it"
)
_KINDS = {"b": "bool", "i": "int32_t", "f": "double"}
_OURS = ("pos", "cortex", "labels", "soft_labels")
_PREFIXES = ("table.", "surface.", "locations.")


def to_gt(graph: MeshGraph, extra: Mapping[str, NDArray[Any]] | None = None) -> GtGraph:
    """A brain as the content of a `.gt` file.

    Args:
        graph: the brain.
        extra: further numbers per node by name, [V] or [V, C].
    """
    parts = laid_out(graph)
    values = {name: one for name, one in parts.nodes.items() if name != "hemisphere"} | dict(extra or {})
    vertex = {name: _property(np.asarray(one)) for name, one in values.items()}
    vertex["hemisphere"] = Property(kind="string", values=graph.hemisphere.tolist())
    vertex["area"] = Property(kind="string", values=[(*graph.areas.names, "")[k] for k in graph.labels.tolist()])
    edges = edges_once(graph)
    return GtGraph(
        n_nodes=graph.n_nodes,
        edges=edges,
        vertex=vertex,
        edge={"length_mm": Property(kind="double", values=lengths_mm(graph, edges))},
        graph={
            "brain": one_value("string", graph.brain),
            "space": one_value("string", graph.space),
            "units": one_value("string", "mm"),
            "area_names": one_value("vector<string>", list(graph.areas.names)),
            "faces": one_value("vector<int32_t>", parts.faces.reshape(-1)),
            "about": one_value("string", json.dumps(parts.about)),
        },
    )


def _property(values: NDArray[Any]) -> Property:
    kind = _KINDS[values.dtype.kind]
    return Property(kind=kind if values.ndim == 1 else f"vector<{kind}>", values=values)


def from_gt(content: GtGraph, name: str = "this graph") -> MeshGraph:
    """The brain in the content of a `.gt` file that `to_gt` or `to_graph_tool` made.

    Raises:
        InputError: it describes no brain, its edges are not those of its triangles, or values do not fit.
    """
    held = content.graph.get("about")
    about = read_about(held.values[0] if held is not None else None, name)
    faces = content.graph.get("faces")
    sides = content.vertex.get("hemisphere")
    if faces is None or faces.kind != "vector<int32_t>" or len(faces.values[0]) % 3:
        raise InputError(f"{name}: its triangles (graph property `faces`, vector<int32_t>) are missing or damaged")
    if sides is None or sides.kind != "string" or not set(sides.values) <= set(about.get("hemispheres", ())):
        raise InputError(f"{name}: vertex property `hemisphere` is missing or damaged")
    nodes: dict[str, NDArray[Any]] = {"hemisphere": np.array([about["hemispheres"].index(s) for s in sides.values])}
    extra = {}
    for key, one in content.vertex.items():
        ours = key in _OURS or key.startswith(_PREFIXES)
        numbers = isinstance(one.values, np.ndarray) and one.values.dtype.kind in "bif"
        if ours and not numbers:
            raise InputError(f"{name}: vertex property {key!r} must hold numbers, as many at every node")
        if ours:
            nodes[key] = one.values
        elif numbers and one.values.dtype.kind != "b":
            extra[key] = one.values
    graph = gathered(Parts(nodes=nodes, faces=np.asarray(faces.values[0]), about=about), extra, name)
    check_edges(graph, content.edges, name)
    return graph


def to_graph_tool(graph: MeshGraph) -> Any:
    """A brain as a `graph_tool.Graph`.

    Raises:
        InputError: graph-tool is not installed here.
    """
    library = _graph_tool()
    return library.load_graph(BytesIO(gt_bytes(to_gt(graph))), fmt="gt")


def from_graph_tool(graph: Any) -> MeshGraph:
    """The brain in a `graph_tool.Graph` that `to_graph_tool` made; numbers per node computed there become tables.

    Raises:
        InputError: it is none, or its nodes or edges were changed.
    """
    content = BytesIO()
    plain = graph.copy()
    for (scope, key), held in list(plain.properties.items()):
        if held.value_type() == "python::object":  # pickles: not written
            del plain.properties[scope, key]
    plain.save(content, fmt="gt")
    return from_gt(parse_gt(content.getvalue(), "this graph-tool graph"), "this graph-tool graph")


def _graph_tool() -> Any:
    try:
        import graph_tool
    except ImportError as error:
        raise InputError(f"graph-tool cannot be imported ({error}); {INSTALL}") from None
    return graph_tool

"""A network as GraphML, CSV tables and `.gt`, and back from `.gt`: what Gephi, igraph, networkx and graph-tool open.

Edges stand once, sorted. Their attributes are the layers' weights by the layer's name, and `LAYER_p` and the like for
what else is known of a pair; an edge has no value where its layer has no weight (NaN in `.gt`).
"""

from pathlib import Path
from typing import Any

import igraph
import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.interop.gt_file import GtGraph, Property, one_value, read_gt, write_gt
from meshgnn.networks.record import Layer, Network
from meshgnn.source.text_table import write_text_table
from meshgnn.store import written_aside

SCHEMA = "meshgnn-network-1"


def edge_columns(network: Network) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """[2, E] the edges of all layers, and their numbers by name [E]."""
    count = len(network)
    any_layer = np.zeros((count, count), bool)
    for layer in network.layers.values():
        any_layer |= np.isfinite(layer.weights)
    edges = np.stack(np.nonzero(np.triu(any_layer, 1))).astype(np.int64)
    columns = {}
    for name, layer in network.layers.items():
        columns[name] = layer.weights[edges[0], edges[1]]
        columns |= {f"{name}_{key}": values[edges[0], edges[1]] for key, values in layer.pairs.items()}
    return edges, columns


def node_columns(network: Network) -> dict[str, list[Any]]:
    """Attributes of the nodes by name, plain values."""
    columns: dict[str, list[Any]] = {"name": list(network.nodes), "domain": list(network.domains)}
    columns |= {name: list(held) for name, held in network.texts.items()}
    return columns | {name: held.tolist() for name, held in network.values.items()}


def write_network_graphml(path: Path, network: Network) -> None:
    """For networkx, igraph and Gephi. A node's number is its place, its name an attribute."""
    edges, columns = edge_columns(network)
    graph = igraph.Graph(n=len(network), edges=edges.T.tolist(), directed=False)
    for name, values in node_columns(network).items():
        graph.vs[name] = [_printable(value) for value in values]
    for name, numbers in columns.items():
        graph.es[name] = numbers.tolist()
    graph["title"], graph["schema"] = _printable(network.name), SCHEMA
    for name, layer in network.layers.items():
        graph[f"unit_{name}"], graph[f"about_{name}"] = layer.unit, layer.text
    with written_aside(path) as aside:
        graph.write_graphml(str(aside))


def _printable(value: Any) -> Any:
    """Text without characters that XML forbids."""
    if not isinstance(value, str):
        return value
    return "".join(sign if sign in "\t\n" or sign >= " " else "�" for sign in value)


def write_network_csv(folder: Path, network: Network) -> list[Path]:
    """nodes.csv and edges.csv in `folder`; cells are empty where there is no value."""
    edges, columns = edge_columns(network)
    sides = {"first": [network.nodes[k] for k in edges[0]], "second": [network.nodes[k] for k in edges[1]]}
    estimators = {
        f"{name}_estimator": [layer.estimators[a][b] for a, b in edges.T.tolist()]
        for name, layer in network.layers.items()
        if layer.estimators
    }
    tables = {
        "nodes.csv": node_columns(network),
        "edges.csv": {**sides, **{key: values.tolist() for key, values in columns.items()}, **estimators},
    }
    for name, held in tables.items():
        write_text_table(folder / name, [list(held), *([_cell(value) for value in row] for row in zip(*held.values()))])
    return [folder / name for name in tables]


def _cell(value: Any) -> Any:
    return "" if isinstance(value, float) and not np.isfinite(value) else value


def write_network_gt(path: Path, network: Network) -> None:
    """For graph-tool: weights and pairs as edge properties, values of nodes as vertex properties."""
    edges, columns = edge_columns(network)
    vertex = {"name": Property(kind="string", values=list(network.nodes))}
    vertex["domain"] = Property(kind="string", values=list(network.domains))
    vertex |= {name: Property(kind="string", values=list(held)) for name, held in network.texts.items()}
    vertex |= {name: Property(kind="double", values=held) for name, held in network.values.items()}
    about = {"title": network.name, "schema": SCHEMA}
    about |= {f"unit_{name}": layer.unit for name, layer in network.layers.items()}
    about |= {f"about_{name}": layer.text for name, layer in network.layers.items()}
    edge = {name: Property(kind="double", values=values) for name, values in columns.items()}
    edge |= {
        f"{name}_estimator": Property(kind="string", values=[layer.estimators[a][b] for a, b in edges.T.tolist()])
        for name, layer in network.layers.items()
        if layer.estimators
    }
    graph = GtGraph(
        n_nodes=len(network),
        edges=edges,
        vertex=vertex,
        edge=edge,
        graph={name: one_value("string", text) for name, text in about.items()},
    )
    write_gt(path, graph)


def read_network_gt(path: Path) -> Network:
    """The network in a file of `write_network_gt`, or in any undirected `.gt` file whose edges carry numbers.

    Node names are the vertex property `name`, else their numbers; every number per edge is a layer, but for
    `LAYER_p` and its like. Parallel edges and loops are refused.

    Raises:
        InputError: the file cannot be read, holds Python objects (pickles), is directed, or has no numbers per edge.
    """
    content = read_gt(path)
    if content.directed:
        raise InputError(f"{path}: is directed; these networks are not")
    names = content.vertex.get("name")
    nodes = tuple(names.values) if names and names.kind == "string" else tuple(map(str, range(content.n_nodes)))
    first, second = content.edges
    keys = np.minimum(first, second) * content.n_nodes + np.maximum(first, second)
    odd = int((first == second).sum()) + len(keys) - len(np.unique(keys))
    if odd:
        raise InputError(f"{path}: {odd} loops or parallel edges; every pair may stand once")
    found: dict[str, NDArray[np.float64]] = {}
    for name, held in content.edge.items():
        if held.kind in ("double", "bool", "int16_t", "int32_t", "int64_t"):
            matrix = np.full((content.n_nodes, content.n_nodes), np.nan)
            matrix[first, second] = matrix[second, first] = held.values
            found[name] = matrix
    if not found:
        raise InputError(f"{path}: no edge property holds numbers; a layer of weights is needed")
    about = {name: str(held.values[0]) for name, held in content.graph.items() if held.kind == "string"}
    owners = {name: next((one for one in found if one != name and name.startswith(f"{one}_")), "") for name in found}
    layers = {
        name: Layer(
            weights=matrix,
            unit=about.get(f"unit_{name}", ""),
            text=about.get(f"about_{name}", ""),
            pairs={key.removeprefix(f"{name}_"): found[key] for key, owner in owners.items() if owner == name},
            estimators=_estimators(content, f"{name}_estimator"),
        )
        for name, matrix in found.items()
        if not owners[name]
    }
    texts = {key: tuple(held.values) for key, held in content.vertex.items() if held.kind == "string"}
    domains = texts.pop("domain", ())
    texts.pop("name", None)
    values = {key: held.values for key, held in content.vertex.items() if held.kind in ("double", "int32_t", "int64_t")}
    return Network(
        name=about.get("title", Path(path).stem),
        nodes=nodes,
        layers=layers,
        domains=domains,
        values=values,
        texts=texts,
    )


def _estimators(content: GtGraph, name: str) -> tuple[tuple[str, ...], ...]:
    """[N][N] texts of an edge property; () without one."""
    held = content.edge.get(name)
    if held is None or held.kind != "string":
        return ()
    found = [[""] * content.n_nodes for _ in range(content.n_nodes)]
    for (a, b), text in zip(content.edges.T.tolist(), held.values):
        found[a][b] = found[b][a] = text
    return tuple(map(tuple, found))

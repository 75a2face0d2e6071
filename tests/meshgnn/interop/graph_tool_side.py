"""The other side of `test_graph_tool.py`: run by a Python that has graph-tool, which may lack everything else.

    python graph_tool_side.py FOLDER

loads every FOLDER/*.gt, writes all that graph-tool read as FOLDER/*.json, and saves the graph again as FOLDER/*.again;
before that it makes FOLDER/theirs*.gt with every type of property map that has no pickles.
"""

import json
import sys
from pathlib import Path

VALUES = {
    "bool": [1, 0, 1, 0, 1],
    "int16_t": [1, -2, 3, 32767, -32768],
    "int32_t": [1, -2, 3, 2**31 - 1, -(2**31)],
    "int64_t": [1, -(2**40), 3, 2**63 - 1, 0],
    "double": [1.5, float("nan"), float("-inf"), 1e-300, -0.1],
    "long double": [1.5, -2, 0.1, 4, 5],
    "string": ["a", "", "é\n\t\0x", "x" * 300, "y"],
}


def plain(kind, value):
    """A value as JSON has it."""
    if kind.startswith("vector<"):
        return [plain(kind[7:-1], item) for item in value]
    return str(value) if kind == "string" else float(value) if "double" in kind else int(value)


def told(graph):
    properties = {}
    for (scope, name), held in graph.properties.items():
        kind = held.value_type()
        keys = {"g": lambda: [graph], "v": graph.vertices, "e": graph.edges}[scope]()
        properties[f"{scope} {name}"] = [kind, [plain(kind, held[key]) for key in keys]]
    edges = [[int(edge.source()), int(edge.target())] for edge in graph.edges()]
    return {
        "n": graph.num_vertices(), "directed": graph.is_directed(), "edges": edges, "properties": properties,
    }  # fmt: skip


def add(graph, scope, kind, values):
    held = graph.new_property(scope, kind)
    if scope == "g":
        held[graph] = values[1]
    else:
        for value, key in zip(values, graph.vertices() if scope == "v" else graph.edges()):
            held[key] = value
    graph.properties[scope, f"{scope}: {kind}"] = held


def make(gt, folder):
    for directed in (False, True):
        graph = gt.Graph(directed=directed)
        graph.add_vertex(5)
        for edge in ((0, 1), (2, 1), (3, 0), (3, 3), (0, 1)):  # one loop, two parallel edges, one isolated node
            graph.add_edge(*edge)
        for kind, values in VALUES.items():
            for scope in "gve":
                add(graph, scope, kind, values)
                add(graph, scope, f"vector<{kind}>", [values[:k] for k in range(5)])
        graph.save(str(folder / f"theirs_{'directed' if directed else 'undirected'}.gt"))
    for count in (0, 1, 255, 256, 65535, 65536):  # where the width of a neighbour's number changes
        graph = gt.Graph(directed=False)
        graph.add_vertex(count)
        if count > 1:
            graph.add_edge(count - 1, 0)
        graph.save(str(folder / f"theirs_{count}.gt"))
    graph.gp["object"] = graph.new_gp("object", {"a": 1})
    graph.save(str(folder / "pickle.bin"), fmt="gt")


def main(folder):
    import graph_tool as gt

    make(gt, folder)
    for path in sorted(folder.glob("*.gt")):
        graph = gt.load_graph(str(path))
        path.with_suffix(".json").write_text(json.dumps(told(graph)))
        graph.save(str(path.with_suffix(".again")), fmt="gt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

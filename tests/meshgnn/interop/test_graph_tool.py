"""Our `.gt` files and graph-tool's agree. graph-tool may live in another Python, which these tests find by themselves:
the one named by GRAPH_TOOL_PYTHON, or Debian's (`apt install python3-graph-tool`, /usr/bin/python3)."""

import json
import os
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.graph import MeshGraph
from meshgnn.interop.graph_tool import from_gt, to_gt
from meshgnn.interop.gt_file import KINDS, GtGraph, Property, gt_bytes, parse_gt, read_gt, write_gt
from tests.meshgnn.interop.graph_tool_side import VALUES, plain
from tests.meshgnn.interop.samples import assert_same, full_brain
from tests.synthetic import brain

SIDE = Path(__file__).with_name("graph_tool_side.py")


@lru_cache(maxsize=1)
def graph_tool_python() -> str | None:
    """A Python that can import graph-tool."""
    for python in (os.environ.get("GRAPH_TOOL_PYTHON"), sys.executable, "/usr/bin/python3"):
        if python and shutil.which(python):
            clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
            done = subprocess.run([python, "-c", "import graph_tool"], capture_output=True, env=clean, check=False)
            if done.returncode == 0:
                return python
    return None


@pytest.fixture(scope="module")
def exchanged(tmp_path_factory):
    """A folder with files of ours and of graph-tool, each as graph-tool read it."""
    python = graph_tool_python()
    if python is None:
        pytest.skip("no Python here has graph-tool; `apt install python3-graph-tool`, or set GRAPH_TOOL_PYTHON")
    folder = tmp_path_factory.mktemp("gt")
    write_gt(folder / "ours_brain.gt", to_gt(full_brain()))
    write_gt(folder / "ours_kinds.gt", every_kind())
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run([python, str(SIDE), str(folder)], check=True, env=clean)
    return folder


def every_kind() -> GtGraph:
    edges = np.array([[0, 0, 2, 3, 3], [1, 1, 1, 0, 3]])
    scopes = {}
    for scope in ("graph", "vertex", "edge"):
        maps = {}
        for kind, values in VALUES.items():
            rows = [values[:k] for k in range(5)]
            count = slice(1, 2) if scope == "graph" else slice(0, 5)
            maps[f"{scope[0]}: {kind}"] = Property(kind=kind, values=values[count])
            maps[f"{scope[0]}: vector<{kind}>"] = Property(kind=f"vector<{kind}>", values=rows[count])
        scopes[scope] = maps
    return GtGraph(n_nodes=5, edges=edges, **scopes)


def as_told(graph: GtGraph) -> dict:
    """What `graph_tool_side.told` would say of it."""
    properties = {}
    for scope, (held, _) in zip("gve", graph.scopes()):
        for name, one in held.items():
            properties[f"{scope} {name}"] = [one.kind, [plain(one.kind, value) for value in one.values]]
    return {
        "n": graph.n_nodes, "directed": graph.directed, "edges": graph.edges.T.tolist(), "properties": properties,
    }  # fmt: skip


def assert_told(found: dict, wanted: dict) -> None:
    assert json.dumps(found, sort_keys=True) == json.dumps(wanted, sort_keys=True)


def test_graph_tool_reads_our_files_in_every_type(exchanged):
    for name in ("ours_brain", "ours_kinds"):
        wanted = as_told(read_gt(exchanged / f"{name}.gt"))
        assert_told(json.loads((exchanged / f"{name}.json").read_text()), wanted)
        assert_told(as_told(read_gt(exchanged / f"{name}.again")), wanted)
    kinds = {kind for kind, _ in as_told(every_kind())["properties"].values()}
    assert kinds == set(KINDS)
    assert_same(from_gt(read_gt(exchanged / "ours_brain.again")), full_brain())


def test_we_read_graph_tools_files_in_every_type_and_width(exchanged):
    paths = sorted(exchanged.glob("theirs*.gt"))
    assert len(paths) == 8
    for path in paths:
        wanted = json.loads(path.with_suffix(".json").read_text())
        found = read_gt(path)
        assert_told(as_told(found), wanted)
        write_gt(exchanged / "copy.bin", found)
        assert_told(as_told(read_gt(exchanged / "copy.bin")), wanted)
    with pytest.raises(InputError, match="pickles"):
        read_gt(exchanged / "pickle.bin")


def test_graph_tool_graphs_in_this_python():
    graph_tool = pytest.importorskip("graph_tool", reason="this Python has no graph-tool; it ties numpy to < 2")
    graph = full_brain()
    made = graph.to_graph_tool()
    assert made.num_edges() * 2 == graph.edges.shape[1]
    made.vp["block"] = made.new_vp("int", vals=np.arange(graph.n_nodes) % 3)
    made.vp["anything"] = made.new_vp("object")
    back = MeshGraph.from_graph_tool(made)
    np.testing.assert_array_equal(back.tables["block"].values[:, 0], np.arange(graph.n_nodes) % 3)
    assert_same(back._replace(tables=graph.tables), graph)
    assert isinstance(made, graph_tool.Graph)
    made.remove_edge(next(made.edges()))
    with pytest.raises(InputError, match="edges are not"):
        MeshGraph.from_graph_tool(made)


def test_without_graph_tool_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "graph_tool", None)
    with pytest.raises(InputError, match="apt install python3-graph-tool"):
        brain(1).to_graph_tool()


def test_a_brain_in_a_gt_file_comes_back(tmp_path):
    graph = full_brain()
    scores = np.linspace(0, 1, graph.n_nodes)
    write_gt(tmp_path / "brain.gt", to_gt(graph, {"score": scores}))
    first = (tmp_path / "brain.gt").read_bytes()
    back = from_gt(read_gt(tmp_path / "brain.gt"), "brain.gt")
    np.testing.assert_allclose(back.tables["score"].values[:, 0], scores, rtol=1e-6)
    assert_same(back._replace(tables=graph.tables), graph)
    write_gt(tmp_path / "brain.gt", to_gt(graph, {"score": scores}))
    assert (tmp_path / "brain.gt").read_bytes() == first


def test_damaged_files_are_refused_in_one_line(tmp_path):
    path = tmp_path / "g.gt"
    write_gt(path, every_kind())
    whole = path.read_bytes()
    for cut in range(len(whole)):
        with pytest.raises(InputError):
            parse_gt(whole[:cut])
    start = 8 + 8 + int.from_bytes(whole[8:16], "little")
    huge = (1 << 63).to_bytes(8, "little")
    cases = {
        whole + b"x": "1 bytes follow",
        b"\x1f\x8b" + whole: "is compressed",
        b"PK" + whole: "not a .gt file",
        whole[:6] + b"\x02" + whole[7:]: "version 2",
        whole[:8] + huge + whole[16:]: "too early",  # a comment of 2^63 bytes
        whole[: start + 1] + huge + whole[start + 9 :]: "too short for 9223372036854775808 nodes",
        whole[: start + 9] + huge + whole[start + 17 :]: "too early",  # a node with 2^63 neighbours
        whole[: start + 17] + b"\x09" + whole[start + 18 :]: "names node 9 of 5",
    }
    for content, message in cases.items():
        path.write_bytes(content)
        with pytest.raises(InputError, match=message) as error:
            read_gt(path)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_gt(tmp_path / "none.gt")


def test_any_changed_byte_gives_a_graph_or_one_line():
    whole = gt_bytes(to_gt(brain(1)))
    rng = np.random.default_rng(0)
    outcomes = set()
    for at in rng.integers(6, len(whole), 400):
        try:
            from_gt(parse_gt(whole[:at] + bytes([rng.integers(256)]) + whole[at + 1 :]))
            outcomes.add("read")
        except InputError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_the_other_byte_order_is_read(tmp_path):
    name, values = b"age", np.array([1.5, np.nan, -3])
    big = (
        b"\xe2\x9b\xbe gt\x01\x01" + (0).to_bytes(8, "big") + b"\x01" + (3).to_bytes(8, "big")
        + (1).to_bytes(8, "big") + b"\x02" + (0).to_bytes(8, "big") * 2 + (1).to_bytes(8, "big")
        + b"\x01" + len(name).to_bytes(8, "big") + name + b"\x04" + values.astype(">f8").tobytes()
    )  # fmt: skip
    (tmp_path / "big.gt").write_bytes(big)
    graph = read_gt(tmp_path / "big.gt")
    assert graph.edges.tolist() == [[0], [2]]
    np.testing.assert_array_equal(graph.vertex["age"].values, values)


def test_what_a_file_cannot_hold_is_refused_when_written(tmp_path):
    edges = np.array([[1, 0], [2, 1]])
    with pytest.raises(InputError, match="sorted"):
        write_gt(tmp_path / "g.gt", GtGraph(n_nodes=3, edges=edges))
    short = {"a": Property(kind="double", values=np.zeros(2))}
    with pytest.raises(InputError, match="2 values of kind 'double' for 3 keys"):
        write_gt(tmp_path / "g.gt", GtGraph(n_nodes=3, edges=edges[:, ::-1], vertex=short))
    pickled = {"a": Property(kind="python::object", values=[1, 2, 3])}
    with pytest.raises(InputError, match="python::object"):
        write_gt(tmp_path / "g.gt", GtGraph(n_nodes=3, edges=edges[:, ::-1], vertex=pickled))
    assert not list(tmp_path.iterdir())

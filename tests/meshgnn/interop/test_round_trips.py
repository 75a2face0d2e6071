"""Brains become graphs of other libraries and come back whole."""

import subprocess
import sys
from dataclasses import replace

import networkx
import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.loader import NeighborLoader

from meshgnn.errors import InputError
from meshgnn.graph import Areas, FeatureTable, MeshGraph
from meshgnn.interop.pyg import load_data, save_data
from tests.meshgnn.interop.samples import assert_same, full_brain
from tests.synthetic import brain, sphere


def bare() -> MeshGraph:
    """The least that a MeshGraph can be."""
    return MeshGraph(brain="bare", meshes=(sphere(1, hemisphere="R"),))


def test_pyg_and_back():
    for graph in (full_brain(), brain(2), bare()):
        data = graph.to_pyg()
        data.validate(raise_on_error=True)
        assert data.num_nodes == graph.n_nodes
        assert data.is_undirected()
        assert_same(MeshGraph.from_pyg(data), graph)


def test_pyg_data_is_what_a_pyg_user_expects(tmp_path):
    graph = full_brain()
    train = np.arange(graph.n_nodes) % 2 == 0
    data = graph.to_pyg(train=train, test=~train)
    assert data.x.shape == (graph.n_nodes, len(data.x_names))
    assert data.area_names[1] == "3b & <1>"
    np.testing.assert_array_equal(data.y, graph.labels)
    np.testing.assert_array_equal(data.train_mask, train)
    assert "val_mask" not in data
    # Every tensor runs over the nodes, edges or triangles: loaders, batches and subgraphs cut them right.
    part = data.subgraph(torch.arange(10))
    assert {part[name].shape[0] for name in ("x", "y", "surfaces", "location_section", "table_mask")} == {10}
    small = next(iter(NeighborLoader(data, [4, 4], batch_size=8))) if has_sampler() else part
    assert small.soft_labels.shape[0] == small.num_nodes
    batch = Batch.from_data_list([data, data])
    assert batch.num_nodes == 2 * graph.n_nodes
    assert int(batch.face.max()) == 2 * graph.n_nodes - 1
    assert_same(MeshGraph.from_pyg(batch.get_example(0)), graph)
    # A file without pickles.
    save_data(data, tmp_path / "data")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.json", "data.safetensors"]
    back = load_data(tmp_path / "data")
    assert set(back.keys()) == set(data.keys())
    assert all(
        torch.equal(back[name], data[name]) for name in ("x", "y", "edge_index", "face", "table_mask", "surfaces")
    )
    assert_same(MeshGraph.from_pyg(back), graph)


def has_sampler() -> bool:
    import torch_geometric.typing as have

    return bool(have.WITH_PYG_LIB or have.WITH_TORCH_SPARSE)


def test_any_triangle_mesh_of_pyg_becomes_a_brain():
    mesh = sphere(1)
    data = Data(pos=torch.tensor(mesh.vertices_mm), face=torch.tensor(mesh.faces.T).long(), x=torch.randn(42, 2))
    data.y = torch.arange(42) % 3
    graph = MeshGraph.from_pyg(data, brain="faust", space="scan", hemisphere="R")
    assert graph.hemisphere[0] == "R"
    assert graph.areas.names == ("0", "1", "2")
    np.testing.assert_array_equal(graph.tables["x"].values, data.x)


def test_what_was_computed_elsewhere_comes_back_as_a_table():
    graph = full_brain()
    data = graph.to_pyg()
    data.embedding = torch.randn(graph.n_nodes, 3, requires_grad=True)
    np.testing.assert_array_equal(MeshGraph.from_pyg(data).tables["embedding"].values, data.embedding.detach())
    network = graph.to_networkx()
    near = networkx.degree_centrality(network)
    networkx.set_node_attributes(network, {node: value for node, value in near.items() if node != 3}, "centrality")
    table = MeshGraph.from_networkx(network).tables["centrality"]
    assert not table.mask[3]
    np.testing.assert_allclose(table.values[0, 0], near[0], rtol=1e-6)


def test_networkx_and_back(tmp_path):
    for graph in (full_brain(), brain(2), bare()):
        network = graph.to_networkx()
        assert networkx.number_connected_components(network) == len(graph.meshes)
        assert network.number_of_edges() * 2 == graph.edges.shape[1]
        assert_same(MeshGraph.from_networkx(network), graph)
    node = full_brain().to_networkx().nodes[40]
    assert {"x_mm", "cortex", "hemisphere", "surface.a", "locations.observed", "pial.z_mm"} <= set(node)
    assert all(type(value) in (int, float, str, bool) for value in node.values())
    plain = networkx.Graph(brain(1).to_networkx())
    plain.graph.clear()
    networkx.write_graphml(plain, tmp_path / "g.graphml")  # plain values: networkx's own writers take them


def test_a_table_without_columns_is_left_out_by_networkx_alone():
    graph = brain(1)
    empty = FeatureTable(name="empty", values=np.zeros((84, 0)), mask=np.arange(84) % 2 == 0, columns=())
    assert_same(MeshGraph.from_pyg(graph.with_table(empty).to_pyg()), graph.with_table(empty))
    assert_same(MeshGraph.from_networkx(graph.with_table(empty).to_networkx()), graph)


def test_names_that_meet_in_networkx_are_refused():
    graph = brain(1)
    for name, column in (("a.b", "c"), ("a", "b.c")):
        rows = np.zeros((graph.n_nodes, 1), np.float32)
        graph = graph.with_table(FeatureTable(name=name, values=rows, mask=rows[:, 0] == 0, columns=(column,)))
    with pytest.raises(InputError, match=r"'a\.b\.c'"):
        graph.to_networkx()
    assert_same(MeshGraph.from_pyg(graph.to_pyg()), graph)


def without(data, *names):
    made = data.clone()
    for name in names:
        del made[name]
    return made


def test_changed_graphs_are_refused_in_one_line():
    graph = full_brain()
    data, network = graph.to_pyg(), graph.to_networkx()
    fewer = data.clone()
    fewer.edge_index = fewer.edge_index[:, (fewer.edge_index != 4).all(0)]
    wide = data.clone()
    wide.x = torch.zeros(graph.n_nodes, 64)
    told = data.clone()
    told.about = "{}"
    mixed = data.clone()
    mixed.hemisphere = mixed.hemisphere.flip(0)
    cases = [
        (lambda: MeshGraph.from_pyg(fewer), "edges are not"),
        (lambda: MeshGraph.from_pyg(wide), "keep x as it is"),
        (lambda: MeshGraph.from_pyg(told), "lacks something|does not describe"),
        (lambda: MeshGraph.from_pyg(mixed), "hemisphere by hemisphere"),
        (lambda: MeshGraph.from_pyg(without(data, "face")), "no `face`"),
        (lambda: MeshGraph.from_pyg(without(data, "cortex")), "cortex"),
        (lambda: MeshGraph.from_pyg(without(data, "surfaces")), "surfaces"),
        (lambda: MeshGraph.from_pyg(data.subgraph(torch.arange(30))), "triangle|soft|nodes"),
        (lambda: MeshGraph.from_pyg(Batch.from_data_list([data, data])), "about"),
        (lambda: MeshGraph.from_networkx(network.subgraph(range(60))), "triangle|hemisphere"),
        (lambda: MeshGraph.from_networkx(networkx.path_graph(4)), "made from a MeshGraph"),
        (lambda: MeshGraph.from_networkx(networkx.relabel_nodes(network, {0: "a"})), "other nodes"),
        (lambda: graph.to_pyg(train=[True]), "train_mask"),
    ]
    for broken, message in cases:
        with pytest.raises(InputError, match=message) as error:
            broken()
        assert "\n" not in str(error.value)
    network.remove_edge(*next(iter(network.edges)))
    with pytest.raises(InputError, match="edges are not"):
        MeshGraph.from_networkx(network)


def test_files_of_data_are_checked(tmp_path):
    data = brain(1).to_pyg()
    data.model = torch.nn.Linear(1, 1)
    with pytest.raises(InputError, match="'model', a Linear"):
        save_data(data, tmp_path / "data")
    save_data(without(data, "model"), tmp_path / "data")
    tensors = tmp_path / "data.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-5])
    with pytest.raises(InputError, match="not a complete"):
        load_data(tmp_path / "data")
    (tmp_path / "data.json").write_text("[]")
    with pytest.raises(InputError, match="not the Data"):
        load_data(tmp_path / "data")


def test_a_brain_without_areas_has_no_y():
    graph = brain(1).relabelled(np.full(brain(1).n_nodes, -1), Areas(names=()))
    assert "y" not in graph.to_pyg()
    assert_same(MeshGraph.from_pyg(graph.to_pyg()), graph)


def test_records_load_none_of_the_libraries():
    code = (
        "import sys, meshgnn.graph, meshgnn.interop.pyg, meshgnn.interop.networkx, meshgnn.interop.graph_tool\n"
        "print([name for name in ('torch', 'networkx', 'torch_geometric', 'graph_tool') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_record_is_not_touched_by_what_is_done_to_data():
    graph = brain(1)
    data = graph.to_pyg()
    data.pos += 1
    data.x *= 0
    assert replace(graph.areas) is not graph.areas
    assert_same(brain(1), graph)

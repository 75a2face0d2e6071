"""Networks as records and files, centrality, tables of models, parcels."""

from xml.dom import minidom

import igraph
import networkx
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from meshgnn.errors import InputError
from meshgnn.interop.gt_file import gt_bytes, read_gt
from meshgnn.networks.areas import area_network, border_lengths, node_features
from meshgnn.networks.centrality import eigenvector_centrality
from meshgnn.networks.files import read_network_gt, write_network_csv, write_network_graphml, write_network_gt
from meshgnn.networks.models import inferred_domains, read_models
from meshgnn.networks.parcels import over_segment, parcel_network, rand_between, rand_of_tables
from meshgnn.networks.record import Layer, Network
from meshgnn.results import ModelRow, ModelTable
from meshgnn.source.text_table import read_text_table
from meshgnn.store import write_json
from tests.meshgnn.networks.samples import HOSTILE, planted
from tests.synthetic import brain


def weights(edges, count):
    found = np.full((count, count), np.nan)
    for a, b, weight in edges:
        found[a, b] = found[b, a] = weight
    return Layer(weights=found, unit="nat", pairs={"p": np.where(np.isfinite(found), 0.5, np.nan)})


def hostile():
    layer = weights([(0, 1, 0.5), (1, 2, 2.0), (3, 4, 0.25)], 5)
    return Network(
        name="<b>", nodes=HOSTILE, layers={"a": layer, "b": weights([(0, 4, 1.0)], 5)}, domains=("x", "", "x", "y", ""),
        values={"size": np.array([1, np.nan, 3, 4, 5.5])}, texts={"best_inputs": HOSTILE},
    )  # fmt: skip


def test_networks_refuse_what_does_not_fit():
    with pytest.raises(InputError, match="needs two nodes or more, and there is 1: a"):
        Network(name="x", nodes=("a",), layers={})
    with pytest.raises(InputError, match="1 names stand twice, the first is 'a'"):
        Network(name="x", nodes=("a", "a"), layers={})
    with pytest.raises(InputError, match="symmetric"):
        Layer(weights=np.array([[0, 1], [2, 0.0]]))
    with pytest.raises(InputError, match="1 infinite weights"):
        Layer(weights=np.array([[0, np.inf], [np.inf, 0.0]]))
    with pytest.raises(InputError, match="layer 'a' has 2 nodes, not 3"):
        Network(name="x", nodes=("a", "b", "c"), layers={"a": Layer(weights=np.zeros((2, 2)))})
    with pytest.raises(InputError, match="there is no layer 'c'; there are a, b"):
        hostile().layer("c")


def test_gt_files_come_back_whole(tmp_path):
    network = hostile()
    write_network_gt(tmp_path / "n.gt", network)
    back = read_network_gt(tmp_path / "n.gt")
    assert (back.nodes, back.domains, back.texts, back.name) == (
        network.nodes, network.domains, network.texts, network.name
    )  # fmt: skip
    np.testing.assert_array_equal(back.values["size"], network.values["size"])
    for name, layer in network.layers.items():
        np.testing.assert_array_equal(back.layers[name].weights, layer.weights)
        np.testing.assert_array_equal(back.layers[name].pairs["p"], layer.pairs["p"])
        assert back.layers[name].unit == "nat"
    first = (tmp_path / "n.gt").read_bytes()
    write_network_gt(tmp_path / "n.gt", back)
    assert (tmp_path / "n.gt").read_bytes() == first


def test_igraph_and_networkx_open_the_graphml(tmp_path):
    network = hostile()
    write_network_graphml(tmp_path / "n.graphml", network)
    minidom.parse(str(tmp_path / "n.graphml"))
    one = igraph.Graph.Read_GraphML(str(tmp_path / "n.graphml"))
    two = networkx.read_graphml(tmp_path / "n.graphml")
    assert tuple(one.vs["name"]) == HOSTILE
    assert [two.nodes[f"n{k}"]["name"] for k in range(5)] == list(HOSTILE)
    assert one.ecount() == two.number_of_edges() == 4
    held = {frozenset(edge.tuple): edge["a"] for edge in one.es}
    assert held[frozenset((1, 2))] == 2
    assert np.isnan(held[frozenset((0, 4))])
    assert two.edges["n1", "n2"]["a_p"] == 0.5


def test_csv_tables_hold_the_same(tmp_path):
    write_network_csv(tmp_path, hostile())
    _, nodes = read_text_table(tmp_path / "nodes.csv", ["name", "size"])
    _, edges = read_text_table(tmp_path / "edges.csv", ["first", "second", "a"])
    assert [row["size"] for _, row in nodes] == ["1.0", "", "3.0", "4.0", "5.5"]
    assert [row["a"] for _, row in edges] == ["0.5", "", "2.0", "0.25"]


def test_foreign_gt_files_are_refused_in_one_line(tmp_path):
    write_network_gt(tmp_path / "n.gt", hostile())
    content = read_gt(tmp_path / "n.gt")
    whole = gt_bytes(content)
    # A property map of Python objects is a pickle: type 14 in place of the last map's type.
    name = b"about_b"
    at = whole.rindex(len(name).to_bytes(8, "little") + name) + 8 + len(name)
    (tmp_path / "pickled.gt").write_bytes(whole[:at] + bytes([14]) + whole[at + 1 :])
    with pytest.raises(InputError, match="pickle"):
        read_network_gt(tmp_path / "pickled.gt")
    (tmp_path / "cut.gt").write_bytes(whole[:-9])
    with pytest.raises(InputError, match="not a whole"):
        read_network_gt(tmp_path / "cut.gt")


@pytest.mark.parametrize("seed", range(3))
def test_centrality_is_that_of_networkx(seed):
    layer = planted(seed, layers=1)[0].layers["layer 0"]
    found = eigenvector_centrality(layer)
    wanted = networkx.eigenvector_centrality_numpy(networkx.from_numpy_array(np.nan_to_num(layer.weights)), "weight")
    np.testing.assert_allclose(found.l2, list(wanted.values()), atol=1e-6)
    assert found.values.max() == 1
    assert found.doubtful == ""


def test_centrality_of_stars_and_complete_graphs():
    star = eigenvector_centrality(weights([(0, k, 2.0) for k in range(1, 10)], 10))
    assert star.values[0] / star.values[1] == pytest.approx(3)
    full = Layer(weights=np.ones((6, 6)))
    assert eigenvector_centrality(full).values == pytest.approx(np.ones(6))


def test_networks_in_parts_meshes_and_negative_weights_are_named():
    apart = weights([(0, 1, 1), (1, 2, 1), (3, 4, 1)], 6)
    with pytest.raises(InputError, match=r"falls into 3 parts \(3, 2, 1 nodes\)"):
        eigenvector_centrality(apart)
    found = eigenvector_centrality(apart, apart=True)
    assert found.doubtful == "3 parts, each scaled by itself"
    assert found.values.tolist() == pytest.approx([1 / np.sqrt(2), 1, 1 / np.sqrt(2), 1, 1, 0])
    with pytest.raises(InputError, match="1 negative weights"):
        eigenvector_centrality(weights([(0, 1, -1), (1, 2, 1)], 3))
    ring = weights([(k, (k + 1) % 400, 1) for k in range(400)], 400)
    assert "ill-conditioned" in eigenvector_centrality(ring).doubtful


# -- tables of models ------------------------------------------------------------------------------------------------

TABLE = """target\tinputs\tmetadata_blocks\tscore_name\tscore\tlow\tname
sex\tt1+dwi\tn/a\tbalanced_accuracy\t0.9\t0.8\ta
sex\tn/a\tblood\tbalanced_accuracy\tn/a\tn/a\tb
age\tt1\tblood+mood\tr2\t0.4\t0.3\tc
"""


def test_tables_of_models_are_read(tmp_path):
    (tmp_path / "models.tsv").write_text(TABLE)
    for path in (tmp_path, tmp_path / "models.tsv"):
        found = read_models(path)
        assert found.targets == ("sex", "age")
        assert found.unscored == 1
        assert found.best("sex").inputs == ("t1", "dwi")
        assert found.rows[2].domains == ("blood", "mood")
        assert found.rows[0].numbers == {"low": 0.8}
    assert inferred_domains(found) == {"sex": "mood", "age": ""}
    assert np.isnan(found.grid("r2")[0]).all()


def test_metrics_of_studies_are_read(tmp_path):
    row = ModelRow(
        name="m", target="sex", kind="classification", inputs=("t1",), domains=(), score_name="balanced_accuracy",
        score=0.7, low=0.6, high=0.8, scores={}, chance_of="x", chance_low=None, chance_high=None, constant=0.5,
        linear=None, minus_linear=None, minus_linear_low=None, minus_linear_high=None, subjects=9, trained=8.0,
        seconds=1.0, diagnostic=False,
    )  # fmt: skip
    write_json(tmp_path / "metrics.json", ModelTable(task="x", rows=(row,), not_trained={}).to_json())
    found = read_models(tmp_path)
    assert found.rows[0].numbers == {
        "low": 0.6, "high": 0.8, "constant": 0.5, "subjects": 9.0, "trained": 8.0, "seconds": 1.0
    }  # fmt: skip


def test_scores_that_are_no_numbers_are_counted(tmp_path):
    path = tmp_path / "models.tsv"
    path.write_text(TABLE.replace("0.9", "nan").replace("0.3\tc", "high\tc"))
    with pytest.raises(InputError, match=r"2 cells cannot be read: line 2: score is 'nan'; line 4: low is 'high'"):
        read_models(path)
    path.write_text("target\tscore\nsex\t1\n")
    with pytest.raises(InputError, match="column 'inputs' is missing"):
        read_models(path)
    path.write_text(TABLE.splitlines()[0] + "\n")
    with pytest.raises(InputError, match="holds no model"):
        read_models(path)
    write_json(tmp_path / "metrics.json", {"x": 1})
    path.unlink()
    with pytest.raises(InputError, match="holds no table of models"):
        read_models(tmp_path)
    (tmp_path / "metrics.json").unlink()
    with pytest.raises(InputError, match=r"neither models\.tsv nor metrics\.json"):
        read_models(tmp_path)


# -- areas and parcels -----------------------------------------------------------------------------------------------


def test_areas_that_touch_are_joined_and_alike_ones_are_close():
    graph = brain(3)
    series = {"bold": np.random.default_rng(0).standard_normal((graph.n_nodes, 30)) + graph.labels[:, None]}
    features = node_features(graph, series, 1)
    network = area_network([(graph, features, series)])
    assert network.nodes == graph.areas.names
    assert set(network.layers) == {"adjacency", "similarity", "connectivity"}
    border = border_lengths(graph, graph.labels, len(graph.areas))
    across = graph.labels[graph.edges[0]] != graph.labels[graph.edges[1]]
    across &= (graph.labels[graph.edges[0]] >= 0) & (graph.labels[graph.edges[1]] >= 0)
    length = np.linalg.norm(graph.vertices_mm[graph.edges[0]] - graph.vertices_mm[graph.edges[1]], axis=1)
    assert np.triu(border).sum() == pytest.approx(length[across].sum() / 4, rel=1e-5)
    assert ((network.layers["similarity"].weights > 0) | np.isnan(network.layers["similarity"].weights)).all()


def test_parcels_are_contiguous_and_cover_the_cortex():
    graph = brain(3)
    features = node_features(graph, {}, 1)
    parcel = over_segment(graph, features, 20)
    assert ((parcel >= 0) == graph.cortex).all()
    assert len(np.unique(parcel[parcel >= 0])) == 40
    mesh = igraph.Graph(n=graph.n_nodes, edges=graph.edges.T.tolist()).simplify()
    for number in range(40):
        assert mesh.induced_subgraph(np.flatnonzero(parcel == number).tolist()).is_connected()
    network, means = parcel_network(graph, parcel, features, 4)
    assert means.shape == (40, features.shape[1])
    assert (np.isfinite(network.layers["similarity"].weights).sum(1) >= 4).all()
    with pytest.raises(InputError, match="nodes in cortex of L for 9999 parcels"):
        over_segment(graph, features, 9999)
    with pytest.raises(InputError, match="there is no table 'x'; there are surface"):
        node_features(graph, {}, 1, ("x",))


def test_rand_of_tables_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 4, 200), rng.integers(0, 5, 200)
    second[:120] = first[:120]
    table = np.zeros((1, 4, 5))
    np.add.at(table[0], (first, second), 1)
    assert rand_of_tables(table)[0] == pytest.approx(adjusted_rand_score(first, second))


def test_the_better_map_has_the_interval_above_zero():
    graph = brain(3)
    rng = np.random.default_rng(0)
    good = np.where(rng.random(graph.n_nodes) < 0.9, graph.labels.clip(0), 0).astype(np.int64)
    bad = np.where(rng.random(graph.n_nodes) < 0.4, graph.labels.clip(0), 0).astype(np.int64)
    found = rand_between(graph, graph.cortex, good, bad)
    assert found.low > 0
    same = rand_between(graph, graph.cortex, good, good)
    assert (same.difference, same.low, same.high) == (0, 0, 0)

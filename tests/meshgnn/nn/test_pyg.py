"""Convolutions of PyTorch Geometric as the layer of our network."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from meshgnn.config import from_plain, to_plain
from meshgnn.errors import InputError
from meshgnn.nn import Adjacency, NetworkConfig, PyGConv, Trunk
from meshgnn.nn.pyg import PyGLayer, checked, convolutions
from meshgnn.override import override
from meshgnn.testing import assert_gnn
from meshgnn.train.checkpoint import load_tree
from meshgnn.train.fit import TrainerConfig, ensemble_jobs, fit_members, member_name, train_member
from meshgnn.train.node_labels import NodeLabels
from tests.meshgnn.train.test_training import same_weights, small_task
from tests.synthetic import brain

ROOT = Path(__file__).resolve().parents[3]
PROVEN = ("GATConv", "GATv2Conv", "GINConv", "ChebConv", "SAGEConv", "TransformerConv", "GCNConv")
BY_MATRIX = ("SAGEConv", "GCNConv", "GINConv", "GraphConv")  # those that take torch.sparse CSR


@pytest.mark.parametrize("layer", PROVEN)
def test_every_proven_layer_keeps_the_laws(layer):
    assert_gnn(PyGConv.Config(layer=layer, hidden=16).build)
    assert isinstance(PyGConv.Config(layer=layer, hidden=4).build(3), Trunk)


@pytest.mark.parametrize(
    ("layer", "arguments"),
    [
        ("GATConv", '{"heads": 4, "concat": false}'),
        ("GATv2Conv", '{"heads": 4, "out_channels": 4, "dropout": 0.2}'),
        ("TransformerConv", '{"heads": 2, "concat": false, "beta": true}'),
        ("SAGEConv", '{"aggr": "max"}'),
        ("SAGEConv", '{"aggr": ["mean", "std"]}'),
        ("ChebConv", '{"K": 5}'),
        ("GINConv", '{"train_eps": true}'),
        ("SSGConv", '{"alpha": 0.1}'),
        ("EdgeConv", "{}"),
        ("ResGatedGraphConv", "{}"),
    ],
)
def test_arguments_reach_the_layer_and_the_laws_still_hold(layer, arguments):
    assert_gnn(PyGConv.Config(layer=layer, arguments=arguments, hidden=16).build)


def test_a_layer_gives_what_it_gives_in_pyg_in_either_form_of_the_graph():
    graph = brain(2)
    adjacency, edge_index = Adjacency(graph.n_nodes, graph.edges), graph.to_pyg().edge_index
    x = torch.randn(graph.n_nodes, 8)
    for layer in (*PROVEN, "GraphConv"):
        csr = checked(layer, "{}", 8, 1)
        assert csr == (layer in BY_MATRIX), layer
        made = PyGLayer(8, layer, csr=csr).eval()
        gradients = []
        for run in (lambda made=made: made(x, adjacency), lambda made=made: made.conv(x, edge_index)):
            made.zero_grad()
            found = run()
            found.square().sum().backward()
            gradients.append([found.detach(), *(value.grad.clone() for value in made.parameters())])
        for ours, theirs in zip(*gradients):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
    moved = adjacency.to("cpu")
    assert torch.equal(moved.edge_index, adjacency.edge_index)
    assert torch.equal(moved.csr.to_dense(), adjacency.csr.to_dense())


def test_a_layer_is_one_setting_and_comes_back_from_json():
    from experiments.surface import surface

    config = override(
        surface(), ["model=PyGConv", "model.layer=GATConv", 'model.arguments={"heads": 8, "concat": false}']
    )
    assert config.model == PyGConv.Config(layer="GATConv", arguments='{"heads": 8, "concat": false}')
    assert from_plain(NetworkConfig, to_plain(config.model)) == config.model


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["model.layer=GATv3Conv"], r"model\.layer: 'GATv3Conv' is not .* GATConv, GATv2Conv, GCNConv"),
        (["model.layer=os.system"], r"model\.layer"),
        (["model.layer=MessagePassing"], r"model\.layer"),
        (["model.layer=HypergraphConv"], r"model\.layer"),
        (["model.layer=GCNConv", 'model.arguments={"cached": true}'], "keep the first graph"),
        (["model.layer=GATConv", 'model.arguments={"heads": 4}'], r"\(5, 256\) for \(5, 64\).*\"concat\": false"),
        (["model.layer=GATConv", 'model.arguments={"heads": 1000000}'], "numbers up to 1024"),
        (["model.layer=GATConv", 'model.arguments={"nose": 1}'], r"model\.arguments: GATConv .*nose"),
        (["model.layer=GATConv", "model.arguments=[1]"], r"model\.arguments must be a JSON object"),
        (["model.layer=GATConv", "model.arguments={"], r"model\.arguments must be a JSON object"),
        (["model.layer=GATConv", "model.arguments=" + "[" * 1500], r"model\.arguments must be a JSON object"),
        (["model.layer=SSGConv"], "needs alpha"),
        (["model.layer=RGCNConv", 'model.arguments={"num_relations": 2}'], r"model\.arguments: RGCNConv"),
        (["model.hidden=4096", "model.layers=16", "model.layer=ChebConv"], "too large"),
    ],
)
def test_wrong_settings_are_one_line(settings, told):
    from experiments.surface import surface

    with pytest.raises(InputError, match=told) as error:
        override(surface(), ["model=PyGConv", *settings])
    assert "\n" not in str(error.value)


def test_nothing_is_drawn_from_the_common_randomness_when_a_layer_is_tried():
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    PyGConv.Config(layer="GENConv", hidden=11)
    assert torch.equal(torch.rand(3), wanted)


def test_what_may_stand_there_is_a_layer_of_the_library():
    import torch_geometric.nn as library

    assert set(PROVEN) < set(convolutions())
    assert all(getattr(library, name) is kind for name, kind in convolutions().items())
    assert not {"MessagePassing", "HypergraphConv", "PPFConv", "HGTConv", "NNConv"} & set(convolutions())


@pytest.fixture
def one_thread():
    """As in a worker."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("layer", PROVEN)
def test_every_proven_layer_learns(layer, tmp_path):
    trainer = TrainerConfig(folds=2, epochs=25, validate_every=5, workers=1)
    network = PyGConv.Config(layer=layer, hidden=16)
    train_member(
        small_task(), network, trainer, member=0, seed=0, fold=0, folder=tmp_path, key="k", report=lambda news: None
    )
    history = load_tree(tmp_path / "member.safetensors")["history"]
    assert max(row["validation_macro_f1"] for row in history) > 0.5  # chance is 0.25


# One on edges, one by matrix.
@pytest.mark.slow
@pytest.mark.parametrize("layer", ["GATv2Conv", "GCNConv"])
def test_the_same_weights_come_of_one_process_and_of_two(layer, tmp_path):
    small_task().save(tmp_path / "task.safetensors")
    trainer = TrainerConfig(folds=2, epochs=6, validate_every=3, workers=1)
    network = PyGConv.Config(layer=layer, hidden=8)
    for count in (1, 2):
        jobs = ensemble_jobs(
            NodeLabels, tmp_path / "task.safetensors", network, trainer, (0,), tmp_path / str(count), "k"
        )
        fit_members(jobs, count, lambda news: None)
    for fold in range(2):
        one, two = (load_tree(tmp_path / n / member_name(0, fold) / "member.safetensors") for n in "12")
        assert same_weights(one, two)


def test_the_library_is_imported_when_a_layer_is_wanted():
    code = (
        "import sys, meshgnn.nn; from experiments.surface import surface; from meshgnn.override import override\n"
        "override(surface(), ['model=PyGConv']); override(surface(), ['model=GCN'])\n"
        "print('torch_geometric' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("writable", [True, False])
def test_no_file_is_left_behind_and_none_is_needed(writable, tmp_path):
    """The library writes the source of each layer into the folder for temporary files."""
    code = (
        "import os, sys, tempfile\n"
        "def none(): raise FileNotFoundError\n"
        "if sys.argv[1] == 'False': tempfile._get_default_tempdir = none\n"
        "import torch; from meshgnn.nn import PyGConv; from meshgnn.testing import assert_gnn\n"
        "assert_gnn(PyGConv.Config(layer='SAGEConv', hidden=8).build)\n"
        "from meshgnn.nn.pyg import PyGLayer; from meshgnn.nn import Adjacency; import numpy as np\n"
        "torch.manual_seed(0); layer = PyGLayer(4, 'GATv2Conv')\n"
        "print(layer(torch.ones(2, 4), Adjacency(2, np.array([[0, 1], [1, 0]]))).sum().item())"
    )
    place = tmp_path if writable else tmp_path / "none"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(place), "HOME": str(tmp_path / "none")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(writable)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    torch.manual_seed(0)
    layer = PyGLayer(4, "GATv2Conv")
    wanted = layer(torch.ones(2, 4), Adjacency(2, np.array([[0, 1], [1, 0]]))).sum().item()
    assert float(done.stdout) == pytest.approx(wanted)
    assert not list(tmp_path.rglob("*torch_geometric*"))

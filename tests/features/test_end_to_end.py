"""Encoder and network trained together: exact against no cache, resumed exactly, honest about what validates."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from features.encoders.section_cnn import SectionCNN
from features.end_to_end.brain import JointBrain, Patches
from features.end_to_end.mesh_inputs import MeshInputs
from features.end_to_end.module import network_loss
from features.end_to_end.row_cache import RowCache
from features.end_to_end.settings import JointConfig
from features.end_to_end.training import load_member, member_map, train_member
from features.model_files import new_encoder
from features.node_data.section_patches import SectionPatches
from features.objectives.contrastive import SupervisedContrastive
from features.samplers.balanced import BalancedBatches
from meshgnn.data.inputs import NodeInputs
from meshgnn.data.split import inner_edges
from meshgnn.errors import InputError, SettingError
from meshgnn.graph import Areas, FeatureTable
from meshgnn.nn import MLP, CoordinateEncoder, GraphSAGE, NodeModel
from meshgnn.train.augment import Augment
from meshgnn.train.loss import log_frequency
from tests.features.test_contrastive_features import brain

PATCHES = SectionPatches.Config(size_px=16)
QUIET = Augment.Config(noise=0, drop=0)
TINY = JointConfig(
    network=GraphSAGE.Config(hidden=8, layers=2, dropout=0.0, propagation=2), rounds=(1, 3), epochs=2, before=1,
    after=1, epoch_steps=3, buffer_mm=0.0, threads=1, encode=32, augment=QUIET,
    sampler=BalancedBatches.Config(classes=3, patches=3, rare="skip"),
)  # fmt: skip


def encoder(seed: int = 0, size: int = 16):
    torch.manual_seed(seed)
    config = SectionCNN.Config(widths=(8, 16), out_channels=6, depth_bands=2)
    return new_encoder(config, replace(PATCHES, size_px=size), (size, size))


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory):
    return brain(tmp_path_factory.mktemp("joint") / "a")


class Broken:
    """Items of which some are not finite."""

    def __init__(self, data, broken=()) -> None:
        self.data, self.broken = data, np.asarray(broken, int)
        self.observed, self.groups, self.shape = data.observed, data.groups, data.shape
        self.key = data.key

    def read(self, rows):
        items = self.data.read(rows).copy()
        items[np.isin(rows, self.broken)] = np.nan
        return items


def parts(mine, config=TINY):
    """Brain, network, encoder in double precision."""
    joined = JointBrain(mine, PATCHES.build(mine), 0, config, 6)
    torch.manual_seed(1)
    network = NodeModel(config.network, CoordinateEncoder.Config(), 6 * (len(config.rounds) + 1), 0, 3).double()
    joined.cache = RowCache(mine.graph.n_nodes, 6, torch.float64)
    counts = log_frequency(joined.labels[joined.train], 3).double()
    return joined, network, encoder().double(), counts


def gradients(loss, *modules: nn.Module):
    return torch.autograd.grad(loss, [one for module in modules for one in module.parameters()], allow_unused=True)


def test_inputs_are_those_of_the_networks_of_a_run(mine):
    rng = np.random.default_rng(0)
    known = np.ones(mine.graph.n_nodes, bool)
    known[rng.choice(len(known), len(known) // 3, replace=False)] = False
    values = rng.normal(size=(len(known), 4)).astype(np.float32)
    table = FeatureTable(name="t", values=values, mask=known, columns=("a", "b", "c", "d"))
    graph = mine.graph.with_table(table)
    config = NodeInputs.Config(rounds=(1, 3, 6), scaling="zscore", rim=False)
    edges, maker = inner_edges(graph), config.build()
    theirs = maker.features(graph, edges, maker.raw(graph, edges, table.columns))
    ours = MeshInputs(graph, known, (1, 3, 6))(torch.from_numpy(np.where(known[:, None], values, 99)).double())
    np.testing.assert_allclose(ours.numpy(), theirs, atol=2e-4)


def test_nodes_without_neighbours_keep_their_own_embedding_and_gaps_among_them_the_mean(mine):
    rng, graph = np.random.default_rng(1), mine.graph
    alone, taken = np.zeros(graph.n_nodes, bool), np.zeros(graph.n_nodes, bool)
    for node in range(graph.n_nodes):  # no two of them are neighbours
        if not taken[node]:
            alone[node] = True
            taken[graph.edges[1, graph.edges[0] == node]] = True
    graph = graph._replace(cortex=alone)
    known = alone & (rng.random(graph.n_nodes) < 0.7)
    assert not inner_edges(graph).size
    assert (alone & ~known).any()
    values = rng.normal(size=(graph.n_nodes, 2)).astype(np.float32)
    table = FeatureTable(name="t", values=values, mask=known, columns=("a", "b"))
    graph = graph.with_table(table)
    maker = NodeInputs.Config(rounds=(1, 3), scaling="zscore", rim=False).build()
    edges = inner_edges(graph)
    theirs = maker.features(graph, edges, maker.raw(graph, edges, ("a", "b")))
    ours = MeshInputs(graph, known, (1, 3))(torch.from_numpy(values).double())
    np.testing.assert_allclose(ours.numpy(), theirs, atol=2e-4)
    whole = replace(mine, graph=mine.graph._replace(cortex=alone), fold=np.where(np.arange(len(alone)) % 3, 1, 0))
    joined, network, cnn, counts = parts(whole)
    fresh = cnn(torch.from_numpy(joined.patches.read(joined.patches.nodes)).double())
    rows = joined.cache.with_fresh(torch.from_numpy(joined.patches.nodes), fresh)
    found = gradients(network_loss(network, joined, rows, TINY, counts), cnn)
    assert all(bool(torch.isfinite(one).all()) for one in found)


def test_all_nodes_in_the_batch_give_the_loss_and_gradients_of_no_cache(mine):
    joined, network, cnn, counts = parts(mine)
    nodes = joined.patches.nodes
    items = torch.from_numpy(joined.patches.read(nodes)).double()
    plain = torch.zeros(mine.graph.n_nodes, 6, dtype=torch.float64)
    plain[torch.from_numpy(nodes)] = cnn(items)  # the whole brain, nothing kept
    inputs = MeshInputs(mine.graph, joined.patches.observed, TINY.rounds)(plain)
    logits = network(inputs, inputs[:, :0], joined.adjacency)[joined.train]
    whole = TINY.loss(logits, joined.labels[joined.train], counts)
    wanted = gradients(whole, cnn, network)
    joined.cache.rows = torch.randn_like(joined.cache.rows)  # whatever was kept plays no part
    rows = joined.cache.with_fresh(torch.from_numpy(nodes), cnn(items), torch.ones(len(nodes), 1).double())
    loss = network_loss(network, joined, rows, TINY, counts)
    assert abs(float((loss - whole).detach())) <= 1e-5
    found = gradients(loss, cnn, network)
    assert all(float((a - b).abs().max()) <= 1e-5 for a, b in zip(found, wanted))
    assert max(float(one.abs().max()) for one in wanted[:5]) > 1e-4  # the encoder is reached at all


def test_a_batch_gives_the_whole_gradient_restricted_to_its_rows(mine):
    """With an encoder that does not move, cached rows are fresh ones: the gradient at the batch's embeddings is that
    of the whole at these rows, and the encoder's is what flows on from there."""
    joined, network, cnn, counts = parts(mine)
    every = joined.patches.nodes
    embedded = cnn(torch.from_numpy(joined.patches.read(every)).double())
    rows = torch.zeros(mine.graph.n_nodes, 6, dtype=torch.float64).index_copy(0, torch.from_numpy(every), embedded)
    rows.retain_grad()
    network_loss(network, joined, rows, TINY, counts).backward()
    whole = rows.grad.clone()
    joined.cache.refresh(torch.from_numpy(every), embedded, 0, plain=True)
    unlabelled = np.flatnonzero(joined.patches.observed & (mine.graph.labels < 0))
    for nodes in (every[5:17], unlabelled[:9]):
        cnn.zero_grad()
        where, items = torch.from_numpy(nodes), torch.from_numpy(joined.patches.read(nodes)).double()
        fresh = cnn(items)
        fresh.retain_grad()
        network_loss(network, joined, joined.cache.with_fresh(where, fresh), TINY, counts).backward()
        assert float((fresh.grad - whole[where]).abs().max()) <= 1e-5
        assert float(fresh.grad.abs().max()) > 1e-6  # nodes without a label are reached through the mesh alone
        wanted = gradients((cnn(items) * whole[where]).sum(), cnn)
        found = [one.grad for one in cnn.parameters()]
        assert all(float((a - b).abs().max()) <= 1e-5 for a, b in zip(found, wanted))


def test_without_edges_nothing_but_its_own_label_reaches_a_patch(mine):
    config = replace(TINY, network=MLP.Config(hidden=8, dropout=0.0), rounds=())
    joined, network, cnn, counts = parts(mine, config)
    joined.cache.rows = torch.randn_like(joined.cache.rows)
    without = joined.patches.nodes[mine.graph.labels[joined.patches.nodes] < 0]
    fresh = cnn(torch.from_numpy(joined.patches.read(without)).double()).detach().requires_grad_()
    rows = joined.cache.with_fresh(torch.from_numpy(without), fresh)
    # What is left is the mean and deviation of the whole brain, which all rows share.
    (alone,) = torch.autograd.grad(network_loss(network, joined, rows, config, counts), fresh)
    averaged, other, _, _ = parts(mine)
    averaged.cache.rows = joined.cache.rows
    rows = averaged.cache.with_fresh(torch.from_numpy(without), fresh)
    (through,) = torch.autograd.grad(network_loss(other, averaged, rows, TINY, counts), fresh)
    assert float(alone.norm()) < 0.5 * float(through.norm())


def test_the_gain_multiplies_gradients_and_no_values():
    cache, fresh = RowCache(5, 2), torch.randn(2, 2, requires_grad=True)
    rows = cache.with_fresh(torch.tensor([1, 3]), fresh, torch.tensor([[2.0], [3.0]]))
    torch.testing.assert_close(rows[[1, 3]], fresh.detach())
    rows.sum().backward()
    torch.testing.assert_close(fresh.grad, torch.tensor([[2.0, 2.0], [3.0, 3.0]]))


def test_age_and_staleness_of_kept_rows():
    cache, nodes = RowCache(4, 2), torch.arange(4)
    first = torch.tensor([[0.0, 0], [2, 0], [0, 2], [2, 2]])
    assert cache.refresh(nodes, first, 3, plain=True) == {}
    assert cache.refresh(nodes[:2], first[:2], 5, plain=False)["age"] == 2
    told = cache.refresh(nodes, first + torch.tensor([1.0, 0]), 9, plain=True)
    assert told["age"] == pytest.approx((4 + 4 + 6 + 6) / 4)
    assert told["staleness"] == told["plain_staleness"] == pytest.approx(1 / 2**0.5)


def fit(mine, out: Path, config=TINY, fold=0, start=None, data=None, **more):
    data = PATCHES.build(mine) if data is None else data
    return train_member(config, start or encoder(), [mine], [data], fold, out, **more)


def test_training_goes_on_exactly_where_it_was_killed(mine, tmp_path: Path):
    whole = fit(mine, tmp_path / "whole")
    assert (tmp_path / "whole" / "metrics.csv").read_text().count("\n") == 5

    for at in (3, 6, 9):

        def stop(_, done, total, figures=None, at=at) -> None:
            if done == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit(mine, tmp_path / f"cut{at}", replace(TINY, checkpoint_steps=2), progress=stop)
        assert not (tmp_path / f"cut{at}" / "encoder.json").exists()
        told = []
        again = fit(mine, tmp_path / f"cut{at}", progress=lambda _, done, total, row=None, t=told: t.append(done))
        assert told[-1] == 12
        assert len(told) < 5
        for name in ("encoder.safetensors", "network.safetensors", "metrics.csv"):
            assert (tmp_path / f"cut{at}" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        assert again.areas == whole.areas


def test_a_finished_pair_is_read_back_and_maps_a_brain(mine, tmp_path: Path):
    made = fit(mine, tmp_path)
    told = []
    assert fit(mine, tmp_path, progress=lambda *row: told.append(row)).areas == made.areas
    assert not told
    read = load_member(tmp_path)
    ours, theirs = (member_map(one, mine, PATCHES.build(mine), TINY) for one in (made, read))
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(ours.sum(1), 1, atol=1e-5)
    other = mine.graph.relabelled(np.full(mine.graph.n_nodes, -1), mine.graph.areas)
    unlabelled = replace(mine, graph=other, annotated=(), fold=np.zeros(0))
    np.testing.assert_array_equal(member_map(read, unlabelled, PATCHES.build(unlabelled), TINY), ours)
    (tmp_path / "network.json").write_text(
        (tmp_path / "network.json").read_text().replace('"encoder": "', '"encoder": "0')
    )
    with pytest.raises(InputError, match="another encoder"):
        load_member(tmp_path)


def test_labels_of_the_fold_that_validates_decide_nothing_but_which_weights_are_kept(mine, tmp_path: Path):
    labels = np.where((mine.fold == 0) & (mine.graph.labels >= 0), 2 - mine.graph.labels, mine.graph.labels)
    other = replace(mine, graph=mine.graph.relabelled(labels, mine.graph.areas))
    histories = []
    for number, one in enumerate((mine, other)):
        fit(one, tmp_path / str(number))
        rows = (tmp_path / str(number) / "metrics.csv").read_text().splitlines()
        names = rows[0].split(",")
        histories.append([dict(zip(names, row.split(","))) for row in rows[1:]])
    assert [row["loss"] for row in histories[0]] == [row["loss"] for row in histories[1]]
    assert [r["validation_macro_f1"] for r in histories[0]] != [r["validation_macro_f1"] for r in histories[1]]


@pytest.mark.parametrize(
    "change",
    [
        {"weight": 0.0},
        {"objective": SupervisedContrastive.Config(projection=4)},
        {"unlabelled": 5},
        {"refresh": 2},
        {"before": 0, "after": 0},
        {"epochs": 0},
        {"rounds": (), "network": MLP.Config(hidden=8)},
    ],
)
def test_settings_change_what_is_learnt(mine, tmp_path: Path, change):
    fit(mine, tmp_path / "a")
    fit(mine, tmp_path / "b", replace(TINY, **change))
    one, other = (tmp_path / name / "network.safetensors" for name in "ab")
    assert one.read_bytes() != other.read_bytes()
    start, kept = encoder().state_dict(), load_member(tmp_path / "b").encoder.state_dict()
    if change.get("epochs") == 0:  # the network alone
        assert all(torch.equal(start[name], value) for name, value in kept.items())
    elif change.get("before") == 0:
        assert any(not torch.equal(start[name], value) for name, value in kept.items())


def test_patches_that_are_not_finite_are_left_out_and_told(mine, tmp_path: Path, capsys):
    data = PATCHES.build(mine)
    bad = np.flatnonzero(data.observed)[[3, 8, 20]]
    fit(mine, tmp_path, data=Broken(data, bad))
    assert "patches of 3 nodes cannot be read or are not finite" in capsys.readouterr().err
    held = Patches(mine, Broken(data, bad), 100.0)
    assert not held.observed[bad].any()
    assert held.left_out == 3
    with pytest.raises(InputError, match="no node in cortex has a patch"):
        fit(mine, tmp_path / "n", data=Broken(data, np.arange(mine.graph.n_nodes)))


def test_patches_that_do_not_fit_into_memory_are_read_as_they_are_needed(mine, tmp_path: Path):
    fit(mine, tmp_path / "kept")
    fit(mine, tmp_path / "read", replace(TINY, memory_mb=0.0))
    for name in ("encoder.safetensors", "network.safetensors"):
        assert (tmp_path / "kept" / name).read_bytes() == (tmp_path / "read" / name).read_bytes()


def test_a_training_that_diverges_is_told_and_leaves_no_pair(mine, tmp_path: Path):
    with pytest.raises(InputError, match=r"not finite|diverged"):
        fit(mine, tmp_path, replace(TINY, encoder_rate=1e30, clip=0.0))
    assert not (tmp_path / "encoder.json").exists()


def test_what_cannot_be_trained_is_named(mine, tmp_path: Path):
    with pytest.raises(InputError, match=r"patches of shape \(16, 16\), but the encoder takes \(32, 32\)"):
        fit(mine, tmp_path, start=encoder(size=32))
    with pytest.raises(InputError, match="fold 7 holds no labelled node"):
        fit(mine, tmp_path, fold=7)
    with pytest.raises(InputError, match="no labelled node is left to train on"):
        fit(replace(mine, fold=np.zeros(mine.graph.n_nodes)), tmp_path)
    one = np.where(mine.graph.locations.section == 2, mine.graph.labels, -1)
    alone = replace(mine, graph=mine.graph.relabelled(one, mine.graph.areas))
    with pytest.raises(InputError, match="no labelled node"):  # its one labelled section validates, or nothing does
        fit(alone, tmp_path, fold=1)
    with pytest.raises(InputError, match="no labelled node to validate on"):
        fit(alone, tmp_path, fold=0)
    same = mine.graph.relabelled(np.where(mine.graph.labels >= 0, 1, -1), mine.graph.areas)
    with pytest.raises(InputError, match="a: 1 area with labelled nodes; at least 2 are needed"):
        fit(replace(mine, graph=same), tmp_path)
    other = mine.graph.relabelled(np.full(mine.graph.n_nodes, -1), Areas(names=("x", "y")))
    with pytest.raises(InputError, match="different areas"):
        train_member(TINY, encoder(), [mine, replace(mine, graph=other)], [PATCHES.build(mine)] * 2, 0, tmp_path)
    with pytest.raises(InputError, match="no brain to train on"):
        train_member(TINY, encoder(), [], [], 0, tmp_path)
    with pytest.raises(SettingError, match="leave no step"):
        JointConfig(epochs=0, before=0, after=0)

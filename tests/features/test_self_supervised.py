"""Learning without labels: the loss, its samplers, and whole feature makers on volumes and time series."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from features.contrastive_features import ContrastiveFeatures
from features.encoders.signal_cnn import SignalCNN
from features.encoders.volume_cnn import VolumeCNN
from features.extract import ExtractConfig
from features.model_files import load_encoder
from features.node_data.vertex_series import VertexSeries
from features.node_data.volume_patches import OwnVolume, VolumePatches
from features.node_sets import NodeSet, TrainingItems, node_set
from features.objectives.contrastive import SupervisedContrastive
from features.objectives.nt_xent import NTXent
from features.objectives.rows import Rows
from features.pretrain import PretrainConfig, pretrain
from features.samplers.balanced import BalancedBatches
from features.samplers.neighbours import NeighbourBatches
from features.samplers.pool import Pool
from features.samplers.uniform import UniformBatches
from features.volume_features import VolumeFeatures
from meshgnn.errors import InputError
from meshgnn.graph import Areas
from meshgnn.progress import silent
from meshgnn.sockets import Brain
from meshgnn.source.volume import Volume
from meshgnn.testing import assert_feature_maker
from tests.synthetic import brain

RECIPE = PretrainConfig(
    encoder=SignalCNN.Config(widths=(8, 16), out_channels=8), data=VertexSeries.Config(series="rest"),
    objective=NTXent.Config(projection=8), sampler=UniformBatches.Config(size=32), epochs=4, epoch_steps=12, threads=1,
    learning_rate=5e-3,
)  # fmt: skip


def unlabelled(seed: int = 1) -> Brain:
    """A brain without any label: every node hums at a frequency that changes slowly over cortex."""
    graph = brain(2, seed=seed)
    graph = graph.relabelled(np.full(graph.n_nodes, -1), Areas(names=()))
    rng = np.random.default_rng(seed)
    pitch = 0.2 + 0.15 * np.tanh(graph.vertices_mm[:, 1] / 15)
    phase = rng.uniform(0, 2 * np.pi, graph.n_nodes)
    series = np.sin(pitch[:, None] * np.arange(48) * 2 + phase[:, None]) + 0.1 * rng.normal(size=(graph.n_nodes, 48))
    return Brain(graph=graph, series={"rest": series.astype(np.float32)}, volumes={"T1w": volume(graph, seed)})


def volume(graph, seed: int) -> Volume:
    """Smooth noise around the brain."""
    low = graph.vertices_mm.min(0) - 12
    shape = tuple(((np.ptp(graph.vertices_mm, axis=0) + 24) / 2).astype(int))
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1) * 50 + 100
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = low
    return Volume(values=values.astype(np.float32), affine=affine, space=graph.space)


def losses(folder: Path) -> list[float]:
    rows = (folder / "metrics.csv").read_text().splitlines()
    assert rows[0] == "step,loss"
    return [float(row.split(",")[1]) for row in rows[1:]]


def test_the_loss_is_equation_1_of_chen():
    objective = NTXent.Config(temperature=0.5, projection=4).build(6, 0)
    objective.projection = torch.nn.Identity()
    views = torch.randn(2, 5, 6, generator=torch.manual_seed(0))
    z = torch.nn.functional.normalize(views.flatten(0, 1), dim=1)
    terms = []
    for i in range(10):
        partner = (i + 5) % 10
        bottom = sum(torch.exp(z[i] @ z[k] / 0.5) for k in range(10) if k != i)
        terms.append(-torch.log(torch.exp(z[i] @ z[partner] / 0.5) / bottom))
    found = objective(views.flatten(0, 1), Rows(together=torch.arange(5).repeat(2)))
    torch.testing.assert_close(found, sum(terms) / 10)


def test_an_encoder_learns_without_any_label(tmp_path: Path):
    mine = unlabelled()
    source = node_set(mine, RECIPE.data.build(mine))
    assert (source.labels == -1).all()
    encoder = pretrain(RECIPE, [source], tmp_path / "a")
    found = losses(tmp_path / "a")
    assert found[-1] < found[0] - 0.3
    assert pretrain(RECIPE, [source], tmp_path / "b").identity() == encoder.identity()
    # What it learnt without a name for it is the frequency, whatever the phase.
    with torch.no_grad():
        rows = encoder(torch.from_numpy(source.data.read(np.flatnonzero(source.use)))).numpy()
    pitch = np.tanh(mine.graph.vertices_mm[source.use, 1] / 15)
    design = np.c_[rows, np.ones(len(rows))]
    fitted = design @ np.linalg.lstsq(design, pitch, rcond=None)[0]
    assert np.corrcoef(fitted, pitch)[0, 1] > 0.8
    with pytest.raises(InputError, match="needs annotations"):
        pretrain(PretrainConfig(encoder=RECIPE.encoder, data=RECIPE.data), [source], tmp_path / "c")


def test_neighbours_are_positives_and_need_no_second_view(tmp_path: Path):
    mine = unlabelled()
    source = node_set(mine, RECIPE.data.build(mine))
    pool = TrainingItems([source], labelled=False, held_out=5, memory_mb=10).pool()
    assert len(pool.labels) == source.use.sum()
    near = NeighbourBatches.Config(pairs=20, rings=1).build(pool, seed=0)
    edges = set(zip(*pool.edges.tolist()))
    for step in range(5):
        drawn = near.draw(step)
        np.testing.assert_array_equal(drawn, near.draw(step))
        assert all(pair in edges for pair in drawn.reshape(-1, 2).tolist() for pair in [tuple(pair)])
    wide = NeighbourBatches.Config(pairs=20, rings=3).build(pool, seed=0)
    pairs = wide.draw(0).reshape(-1, 2)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert not all(tuple(pair) in edges for pair in pairs.tolist())
    recipe = replace(
        RECIPE, sampler=NeighbourBatches.Config(pairs=16), objective=NTXent.Config(projection=8, views=1), epochs=2
    )
    pretrain(recipe, [source], tmp_path / "n")
    assert losses(tmp_path / "n")[-1] < losses(tmp_path / "n")[0]
    with pytest.raises(InputError, match="nothing to compare"):
        pretrain(replace(recipe, sampler=UniformBatches.Config()), [source], tmp_path / "o")


def test_what_is_held_out_is_not_drawn():
    rng = np.random.default_rng(0)
    held = rng.random(60) < 0.3
    ring = np.stack([np.arange(60), np.roll(np.arange(60), 1)])
    pool = Pool(
        labels=rng.integers(0, 3, 60), names=tuple("abc"), groups=np.arange(60) // 6, held=held,
        edges=np.concatenate([ring, ring[::-1]], axis=1),
    )  # fmt: skip
    for config in (
        UniformBatches.Config(size=20), NeighbourBatches.Config(pairs=10), BalancedBatches.Config(patches=2)
    ):  # fmt: skip
        sampler = config.build(pool, seed=1)
        drawn = [sampler.draw(step) for step in range(30)]
        assert not held[np.concatenate(drawn)].any()
        assert all(len(one) == sampler.size for one in drawn)
        assert not np.array_equal(drawn[0], drawn[1])
    alone = Pool(labels=pool.labels, names=pool.names, groups=pool.groups)
    with pytest.raises(InputError, match="has a neighbour"):
        NeighbourBatches.Config().build(alone, seed=0)


def test_makers_of_volumes_and_series_keep_the_laws(tmp_path: Path):
    brains = [unlabelled(1), replace(unlabelled(2), train=np.arange(324) % 2 == 0)]
    brains[1] = replace(brains[1], graph=brains[1].graph._replace(brain="two"))
    short = {"epochs": 1, "epoch_steps": 3, "threads": 1, "sampler": UniformBatches.Config(size=16)}
    cubes = VolumePatches.Config(source=OwnVolume.Config(), size=4, spacing_mm=(2.0, 4.0))
    extract = ExtractConfig(batch=64, shard=128, threads=1, name="cubes")
    recipe = replace(
        VolumeFeatures.Config().pretrain, data=cubes, encoder=VolumeCNN.Config(widths=(8, 16), out_channels=6), **short
    )
    maker = VolumeFeatures.Config(pretrain=recipe, extract=extract).build()
    assert_feature_maker(maker, brains, tmp_path / "v")
    assert sorted(path.name for path in (tmp_path / "v").glob("encoder.*")) == ["encoder.json", "encoder.safetensors"]
    table = maker.make(brains[0], tmp_path / "v", silent)
    assert table.values.shape[1] == 6
    assert table.values[table.mask].std(0).min() > 0
    series = ContrastiveFeatures.Config(pretrain=replace(RECIPE, **short), extract=replace(extract, name="rest"))
    assert_feature_maker(series.build(), brains, tmp_path / "s")


def test_only_nodes_to_learn_from_are_learnt_from():
    mine = unlabelled()
    part = mine.graph.vertices_mm[:, 0] < 0
    source: NodeSet = node_set(replace(mine, train=part), RECIPE.data.build(mine))
    np.testing.assert_array_equal(source.use, part & mine.graph.cortex)
    items = TrainingItems([source], labelled=False, held_out=0, memory_mb=10)
    assert len(items) == source.use.sum()


def test_what_learns_from_labels_is_cross_fitted_whatever_the_data(tmp_path: Path):
    mine, graph = unlabelled(), brain(2)
    fold = (graph.vertices_mm[:, 2] > 0).astype(np.int32)
    mine = replace(mine, graph=graph, fold=fold)
    recipe = replace(
        RECIPE, objective=SupervisedContrastive.Config(projection=8), sampler=BalancedBatches.Config(patches=4),
        data=VertexSeries.Config(series="rest", block_mm=8), epochs=2, epoch_steps=3, held_out=0,
    )  # fmt: skip
    maker = ContrastiveFeatures.Config(pretrain=recipe, extract=ExtractConfig(name="rest", threads=1)).build()
    files = maker.fit([mine], tmp_path / "a", silent)
    assert {"fold-0/encoder.json", "fold-1/encoder.json", "space.json"} <= set(files)
    table = maker.make(mine, tmp_path / "a", silent)
    # Labels of a fold decide nothing about the encoder of that fold, and something about the other.
    other = np.where((fold == 0) & (graph.labels >= 0), 3 - graph.labels, graph.labels)
    maker.fit([replace(mine, graph=graph.relabelled(other, graph.areas))], tmp_path / "b", silent)
    kept = [load_encoder(tmp_path / one / "fold-0").identity()["weights"] for one in "ab"]
    changed = [load_encoder(tmp_path / one / "fold-1").identity()["weights"] for one in "ab"]
    assert kept[0] == kept[1]
    assert changed[0] != changed[1]
    assert table.mask.sum() == graph.n_nodes

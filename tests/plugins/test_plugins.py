"""What a user adds in one file each, used, kept and read back."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from features.contrastive_features import ContrastiveFeatures
from features.model_files import load_encoder
from meshgnn.config import from_plain, to_plain
from meshgnn.errors import InputError
from meshgnn.experiment.cli import entry
from meshgnn.export.gifti import write_surface_folder
from meshgnn.nn import GraphSAGE
from meshgnn.sockets import Brain
from meshgnn.testing import assert_encoder, assert_feature_maker, assert_gnn, assert_node_data
from meshgnn.train.checkpoint import load_tree
from meshgnn.train.ensemble import Ensemble
from meshgnn.train.fit import TrainerConfig, ensemble_jobs, fit_members, member_name
from tests.plugins.encoder import Perceptron
from tests.plugins.experiment import MAKER
from tests.plugins.feature_maker import Components
from tests.plugins.gnn_layer import ContrastNetwork
from tests.plugins.graph_task import BrainCounts
from tests.plugins.node_data import NearPoints
from tests.synthetic import brain


def test_a_maker_of_parts_from_outside(tmp_path: Path):
    mine = Brain(graph=brain(2))
    assert_node_data(NearPoints.Config().build(mine))
    assert_encoder(Perceptron.Config().build((15,)), torch.randn(3, 15))
    assert_feature_maker(MAKER.build(), [mine], tmp_path)
    losses = [float(row.split(",")[1]) for row in (tmp_path / "metrics.csv").read_text().splitlines()[1:]]
    assert losses[-1] < losses[0]
    with pytest.raises(InputError, match="may stand here"):  # a file alone names nothing of anybody's
        load_encoder(tmp_path)
    plain = to_plain(replace(MAKER, effort=2.0))
    assert from_plain(ContrastiveFeatures.Config, plain, like=MAKER) == replace(MAKER, effort=2.0)


def runs(folder: Path, graph):
    """Time series of both hemispheres, two waves whose strengths are the first two features."""
    time = np.linspace(0, 20, 30)
    waves = np.stack([np.sin(time), np.cos(3 * time)])
    series = (graph.tables["surface"].values[:, :2] @ waves).astype(np.float32)
    files = []
    for name, rows in graph.slices().items():
        frames = [nibabel.gifti.GiftiDataArray(frame, intent="NIFTI_INTENT_TIME_SERIES") for frame in series[rows].T]
        files.append(folder / f"{name}.func.gii")
        nibabel.save(nibabel.GiftiImage(darrays=frames), files[-1])
    return tuple(files)


def test_a_graph_layer_keeps_the_laws():
    assert_gnn(ContrastNetwork.Config(hidden=8).build)


def test_a_maker_of_another_modality_keeps_the_laws(tmp_path):
    graph = brain(2)
    maker = Components.Config(files=runs(tmp_path, graph)).build()
    assert_feature_maker(maker, [Brain(graph=graph)], tmp_path / "fitted")
    with pytest.raises(InputError, match="one time series file for each hemisphere"):
        Components.Config().build().inputs(Brain(graph=graph))


def test_an_experiment_of_these_parts_runs_from_the_command_line(tmp_path):
    graph = brain(2)
    write_surface_folder(tmp_path / "ball", graph, "Planted")
    files = ",".join(map(str, runs(tmp_path, graph)))
    settings = (
        f"source.folder={tmp_path / 'ball'}", f"features.Components.files={files}", "seeds=0", "trainer.folds=2",
        "trainer.epochs=10", "trainer.validate_every=5", "validation.blocks=3", "validation.buffer_mm=3",
        "trainer.workers=1", "controls=false", "inputs.rounds=2",
    )  # fmt: skip
    words = ["tests.plugins.experiment:mine", "--out", str(tmp_path / "out")]
    assert entry([*words, *(part for one in settings for part in ("--set", one))]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert {"near_0", "component_0", "a"} <= set(metrics["features"])
    assert metrics["model"] == "ContrastNetwork"
    assert metrics["test"]["macro_f1"] > metrics["baselines"]["majority"]["macro_f1"]
    assert Ensemble.load(tmp_path / "out").network == ContrastNetwork.Config(hidden=16)


def test_a_task_on_whole_brains_trains_in_workers(tmp_path):
    rng, graph = np.random.default_rng(0), brain(1)
    x = rng.normal(size=(24, graph.n_nodes, 2)).astype(np.float32)
    x[..., 0] += rng.normal(size=(24, 1))
    counts = rng.poisson(np.exp(1.5 + x[..., 0].mean(1))).astype(np.int32)
    fold = np.arange(24) % 2
    task = BrainCounts(x=x, counts=counts, edges=graph.edges, validation=np.stack([fold == 0, fold == 1]))
    task.save(tmp_path / "task.safetensors")
    trainer = TrainerConfig(folds=2, epochs=80, validate_every=10, learning_rate=2e-2, ema=0.8, workers=1)
    jobs = ensemble_jobs(
        BrainCounts, tmp_path / "task.safetensors", GraphSAGE.Config(hidden=8), trainer, (0,), tmp_path / "m", "k"
    )
    fit_members(jobs, 1, lambda _: None)
    for number in range(2):
        shown, judged = (torch.from_numpy(counts[part]).float() for part in (fold != number, fold == number))
        constant = -float(torch.nn.functional.poisson_nll_loss(shown.mean().log().expand(12), judged))
        history = load_tree(tmp_path / "m" / member_name(0, number) / "member.safetensors")["history"]
        assert max(entry[BrainCounts.watched] for entry in history) > constant + 0.1

"""Gradient caching, optimisers, precision, items that are not finite: the settings of large batches."""

import math
import re
import subprocess
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from features import pretrain as pretraining
from features.encoders.section_cnn import SectionCNN
from features.extract import ExtractJob
from features.model_files import load_encoder, new_encoder
from features.node_data.section_patches import SectionPatches
from features.node_sets import NodeSet
from features.objectives.nt_xent import NTXent
from features.objectives.rows import Rows
from features.pretraining.checkpoints import REQUEUE
from features.samplers.uniform import UniformBatches
from features.training import PretrainModule
from features.transfer.lars import LARS
from meshgnn.errors import InputError
from tests.features.test_pretraining import SMALL, annotated


class OneRank:
    global_rank, world_size = 0, 1


def gradients(views: int, micro: int, drop: float = 0.0) -> list[torch.Tensor]:
    """Of one step on 40 patches in double precision; dropout before the encoder, if there is any."""
    torch.manual_seed(0)
    encoder = new_encoder(SectionCNN.Config(widths=(8, 16), out_channels=8), SectionPatches.Config(), (24, 24)).double()
    objective = NTXent.Config(projection=4, temperature=0.3).build(8, 0).double()
    module = PretrainModule(
        nn.Sequential(nn.Dropout(drop), encoder) if drop else encoder, objective,  # type: ignore[arg-type]
        SMALL.data.augment.build(), views=views, batch=40, seed=1, steps=10, learning_rate=1e-3, weight_decay=0.0,
        probe=None, report=lambda row: None, micro=micro,
    )  # fmt: skip
    module._trainer = OneRank()  # type: ignore[assignment]
    items = torch.rand(40, 24, 24, generator=torch.manual_seed(3))
    rows = Rows(item=torch.arange(40), together=torch.arange(40) // 2)
    torch.manual_seed(5)
    loss = module.training_step((2, items, rows), 0)
    loss.backward()
    return [loss.detach(), *(weight.grad for weight in module.parameters() if weight.grad is not None)]


@pytest.mark.parametrize(("views", "micro"), [(1, 7), (2, 8), (2, 40), (2, 64)])
def test_the_gradient_of_micro_batches_is_that_of_the_batch(views: int, micro: int):
    whole, cached = gradients(views, 0), gradients(views, micro)
    assert max(float(value.abs().max()) for value in whole[1:]) > 1e-3
    assert len(whole) == len(cached)
    torch.testing.assert_close(cached, whole, rtol=1e-9, atol=1e-11)


def test_random_numbers_are_drawn_again():
    """Dropout of the first and the second encoding must be one, or embeddings and gradients would not fit together."""
    torch.testing.assert_close(gradients(1, 40, 0.3), gradients(1, 0, 0.3), rtol=1e-9, atol=1e-11)


def test_settings_of_large_batches_train(tmp_path):
    source = annotated(tmp_path / "a")
    found = {}
    for name, changes in {
        "plain": {}, "micro": {"micro": 5}, "recompute": {"recompute": True}, "bf16": {"precision": "bf16"},
        "lars": {"optimiser": "lars", "learning_rate": 1.0}, "linear": {"rate_rule": "linear", "rate_batch": 6},
    }.items():  # fmt: skip
        config = replace(SMALL, **changes)
        pretraining.pretrain(config, [source], tmp_path / name)
        rows = (tmp_path / name / "metrics.csv").read_text().splitlines()[1:]
        found[name] = [float(row.split(",")[1]) for row in rows]
    np.testing.assert_allclose(found["micro"], found["plain"], rtol=1e-3)
    np.testing.assert_allclose(found["recompute"], found["plain"], rtol=1e-3)
    np.testing.assert_allclose(found["bf16"][0], found["plain"][0], rtol=0.02)
    np.testing.assert_allclose(found["bf16"], found["plain"], rtol=0.15)  # steps amplify rounding
    for name in ("lars", "linear"):
        assert found[name][0] == pytest.approx(found["plain"][0], rel=0.3)
        assert found[name] != found["plain"]


def test_lars_scales_each_layer_by_its_norms():
    weight, bias = nn.Parameter(torch.tensor([[3.0, 4.0]])), nn.Parameter(torch.tensor([1.0]))
    optimiser = LARS([weight, bias], lr=0.5, momentum=0.9, weight_decay=0.1, trust=0.01)
    velocity = np.zeros(2)
    expected, plain = np.array([3.0, 4.0]), 1.0
    speed = 0.0
    for _ in range(3):
        weight.grad, bias.grad = torch.tensor([[1.0, -2.0]]), torch.tensor([2.0])
        optimiser.step()
        change = np.array([1.0, -2.0]) + 0.1 * expected
        change = change * 0.01 * math.hypot(*expected) / math.hypot(*change)
        velocity = 0.9 * velocity + 0.5 * change
        expected = expected - velocity
        speed = 0.9 * speed + 0.5 * 2.0
        plain -= speed
    np.testing.assert_allclose(weight.detach()[0], expected, rtol=1e-6)
    np.testing.assert_allclose(bias.item(), plain, rtol=1e-6)


def test_the_learning_rate_follows_the_batch_if_it_shall():
    config = replace(SMALL, learning_rate=0.1, rate_batch=256)
    assert config.rate(1024) == 0.1
    assert replace(config, rate_rule="linear").rate(1024) == pytest.approx(0.4)
    assert replace(config, rate_rule="root").rate(1024) == pytest.approx(0.2)


class Spoilt:
    """Data with a value that is not finite in the items of some nodes."""

    def __init__(self, data, nodes) -> None:
        self.data, self.nodes = data, nodes
        self.observed, self.groups, self.shape = data.observed, data.groups, data.shape

    def key(self) -> str:
        return "spoilt"

    def read(self, nodes):
        items = self.data.read(nodes).copy()
        items[np.isin(nodes, self.nodes), 3, 4] = np.nan
        return items


def test_items_that_are_not_finite_are_named_counted_and_left_out(tmp_path, capsys):
    source = annotated(tmp_path / "a")
    bad = np.flatnonzero(source.labels >= 0)[[2, 30, 31]]
    spoilt = NodeSet(
        brain="x", data=Spoilt(source.data, bad), labels=source.labels, names=source.names, meshes=source.meshes
    )
    config = replace(SMALL, sampler=UniformBatches.Config(size=60), held_out=3, epochs=2, epoch_steps=6)
    for name, changes in {"labels": {}, "views": {"objective": NTXent.Config()}}.items():
        encoder = pretraining.pretrain(replace(config, **changes), [spoilt], tmp_path / name)
        assert all(torch.isfinite(value).all() for value in encoder.state_dict().values())
        text = capsys.readouterr().err
        assert text.startswith("warning: x, node ")
        assert text.count("\n") == 1
        about = pretraining.read_json(tmp_path / name / "encoder.json")["training"]["items"]
        assert 1 <= about["unusable"] <= 3
        assert {int(one.split()[-1]) for one in about["unusable_first"]} <= set(bad.tolist())
        assert "unusable" in (tmp_path / name / "metrics.csv").read_text().splitlines()[0]


def test_training_begins_with_the_weights_of_another_run(tmp_path):
    source = annotated(tmp_path / "a")
    first = pretraining.pretrain(replace(SMALL, objective=NTXent.Config()), [source], tmp_path / "first")
    slow = replace(SMALL, epochs=1, epoch_steps=1, learning_rate=1e-12, weight_decay=0.0)
    again = pretraining.pretrain(replace(slow, start=tmp_path / "first"), [source], tmp_path / "again")
    fresh = pretraining.pretrain(slow, [source], tmp_path / "fresh")
    for name, value in first.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-5, atol=1e-7)
    assert fresh.identity() != again.identity()
    wide = replace(slow, encoder=replace(SMALL.encoder, out_channels=16), start=tmp_path / "first")
    with pytest.raises(InputError, match=r"first: is another encoder \(config differs\)"):
        pretraining.pretrain(wide, [source], tmp_path / "wide")
    assert load_encoder(tmp_path / "first").identity() == first.identity()


@pytest.mark.parametrize("name", ["pretrain_one_node", "pretrain_nodes", "extract"])
def test_the_scripts_for_slurm_are_whole(name: str):
    path = Path(__file__).parents[2] / "experiments" / "slurm" / f"{name}.sbatch"
    assert subprocess.run(["bash", "-n", str(path)]).returncode == 0
    text = path.read_text()
    if name != "extract":
        assert f'"$code" -eq {REQUEUE}' in text
    job = pretraining.PretrainJob() if name != "extract" else ExtractJob()
    keys = re.findall(r"--set (\w+)=", text)
    assert keys
    assert set(keys) - {"KEY"} <= {one.name for one in fields(job)}

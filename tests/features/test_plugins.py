"""Node data, an encoder and an objective as a user writes them, outside the packages: used, kept and read back."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from features.augment_signal import SignalAugment
from features.contrastive_features import ContrastiveFeatures
from features.extract import ExtractConfig
from features.model_files import load_encoder
from features.pretrain import PretrainConfig
from features.samplers.uniform import UniformBatches
from meshgnn.config import Config, from_plain, to_plain
from meshgnn.errors import InputError
from meshgnn.sockets import Brain
from meshgnn.testing import assert_encoder, assert_feature_maker, assert_node_data
from tests.synthetic import brain


class NearPoints:
    """Offsets to the five nearest nodes, flattened."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Config):
        count: int = 5
        augment: SignalAugment.Config = field(default_factory=lambda: SignalAugment.Config(drop=0))

        def build(self, brain: Brain) -> "NearPoints":
            return NearPoints(self, brain)

        def files(self, brain: Brain):
            return ()

        def look(self):
            return {"count": self.count}

    def __init__(self, config, brain):
        self.points, self.count = brain.graph.vertices_mm, config.count
        self.observed, self.groups = brain.graph.cortex, (self.points[:, 1] // 20).astype(np.int32)
        self.shape = (3 * config.count,)

    def read(self, nodes):
        away = self.points[nodes][:, None] - self.points[None]
        near = np.argsort((away**2).sum(-1), axis=1)[:, 1 : self.count + 1]
        return np.take_along_axis(away, near[..., None], 1).reshape(len(nodes), -1).astype(np.float32)

    def key(self):
        return str(float(self.points.sum()))


class Perceptron(nn.Module):
    @dataclass(frozen=True, kw_only=True)
    class Config(Config):
        out_channels: int = 4

        def build(self, shape):
            return Perceptron(self, shape)

    level = "node"

    def __init__(self, config, shape):
        super().__init__()
        self.config, self.out_channels = config, config.out_channels
        self.layers = nn.Sequential(nn.Linear(shape[0], 8), nn.ReLU(), nn.Linear(8, config.out_channels))

    def forward(self, inputs):
        return self.layers(inputs)

    def identity(self):
        return {"encoder": "Perceptron", "sum": float(sum(p.detach().sum() for p in self.parameters()))}


class Agreement(nn.Module):
    """Views of an item agree, channels vary: the invariance and variance terms of VICReg (Bardes et al. 2022)."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Config):
        labelled: ClassVar[bool] = False
        views: ClassVar[int] = 2

        def build(self, in_channels, n_classes):
            return Agreement()

    def forward(self, features, targets):
        one, two = features.chunk(2)
        return ((one - two) ** 2).mean() + torch.relu(1 - features.std(0)).mean()


MAKER = ContrastiveFeatures.Config(
    pretrain=PretrainConfig(
        data=NearPoints.Config(), encoder=Perceptron.Config(), objective=Agreement.Config(),
        sampler=UniformBatches.Config(size=32), epochs=2, epoch_steps=10, threads=1, learning_rate=1e-2,
    ),
    extract=ExtractConfig(name="near", threads=1),
)  # fmt: skip


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

"""A task and a trunk of one's own, as a user would write them: one file, no change in the packages.

The task predicts a number at every node; the trunk is two linear maps and a sum over neighbours.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from meshgnn.nn import Adjacency, NodeModel, TrunkConfig
from meshgnn.store import read_arrays, write_arrays
from meshgnn.testing import assert_gnn
from meshgnn.train.checkpoint import load_tree
from meshgnn.train.fit import TrainerConfig, ensemble_jobs, fit_members, member_name
from tests.synthetic import brain


class Summing(nn.Module):
    @dataclass(frozen=True, kw_only=True)
    class Config(TrunkConfig):
        hidden: int = 8

        def build(self, in_channels):
            return Summing(in_channels, self.hidden)

    def __init__(self, in_channels, hidden):
        super().__init__()
        self.out_channels = hidden
        self.own, self.near = nn.Linear(in_channels, hidden), nn.Linear(in_channels, hidden)

    def forward(self, x, adjacency):
        return torch.tanh(self.own(x) + adjacency.sum(self.near(x)))


@dataclass(frozen=True, kw_only=True, eq=False)
class NodeNumbers:
    """x [V, D] -> y [V]."""

    watched: ClassVar[str] = "validation_r2"
    x: np.ndarray
    y: np.ndarray
    edges: np.ndarray
    validation: np.ndarray

    def model(self, trunk, coordinates):
        return NodeModel(trunk, coordinates, self.x.shape[1], 0, 1)

    def objective(self, member, loss):
        return Squares(self, member)

    def save(self, path):
        write_arrays(path, {name: getattr(self, name) for name in ("x", "y", "edges", "validation")})

    @staticmethod
    def load(path):
        return NodeNumbers(**read_arrays(path))


class Squares:
    def __init__(self, task, member):
        self.x, self.y = torch.from_numpy(task.x), torch.from_numpy(task.y)
        self.none = torch.zeros(len(self.x), 0)
        self.adjacency = Adjacency(len(self.x), task.edges)
        self.judged = torch.from_numpy(task.validation[member])

    def to(self, device):
        return self

    def loss(self, model, augment):
        return F.mse_loss(model(self.x, self.none, self.adjacency)[~self.judged, 0], self.y[~self.judged])

    def validate(self, model):
        true, found = self.y[self.judged], model(self.x, self.none, self.adjacency)[self.judged, 0]
        return {NodeNumbers.watched: 1 - float(((true - found) ** 2).sum() / ((true - true.mean()) ** 2).sum())}


def test_the_trunk_keeps_the_laws():
    assert_gnn(Summing.Config().build)


def test_they_train_in_workers_beside_our_own(tmp_path):
    graph = brain(2)
    x = graph.tables["surface"].values
    y = Adjacency(graph.n_nodes, graph.edges).mean(torch.from_numpy(x.copy()))[:, 0].numpy()
    fold = np.arange(graph.n_nodes) % 2
    task = NodeNumbers(x=x, y=y, edges=graph.edges, validation=np.stack([fold == 0, fold == 1]))
    task.save(tmp_path / "task.safetensors")
    trainer = TrainerConfig(folds=2, epochs=60, validate_every=10, learning_rate=2e-2, ema=0.8, workers=1)
    jobs = ensemble_jobs(
        NodeNumbers, tmp_path / "task.safetensors", Summing.Config(), trainer, (0,), tmp_path / "members", "k"
    )
    heard = []
    fit_members(jobs, 1, heard.append)
    for number in range(2):
        history = load_tree(tmp_path / "members" / member_name(0, number) / "member.safetensors")["history"]
        assert max(entry["validation_r2"] for entry in history) > 0.5
    assert any("validation_r2" in news for news in heard)

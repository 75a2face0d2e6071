"""A task on whole brains: how many of something a brain has, learnt with a Poisson loss."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from meshgnn.nn import GraphBatch, GraphHead, GraphModel
from meshgnn.nn.graph_batch import BrainTensors
from meshgnn.store import read_arrays, write_arrays


@dataclass(frozen=True, kw_only=True, eq=False)
class BrainCounts:
    """x [G, V, D] of brains with one mesh -> counts [G]; validation [members, G]."""

    watched: ClassVar[str] = "validation_minus_deviance"
    x: np.ndarray
    counts: np.ndarray
    edges: np.ndarray
    validation: np.ndarray

    def model(self, trunk, coordinates):
        return GraphModel(trunk, coordinates, GraphHead.Config(units="nodes"), self.x.shape[2], 0, 1, 0)

    def objective(self, member, loss):
        return Deviance(self, ~self.validation[member], self.validation[member])

    def save(self, path):
        write_arrays(path, {name: getattr(self, name) for name in ("x", "counts", "edges", "validation")})

    @staticmethod
    def load(path):
        return BrainCounts(**read_arrays(path))


class Deviance:
    def __init__(self, task, *parts):
        nothing, everywhere = np.zeros((task.x.shape[1], 0)), np.ones(task.x.shape[1], bool)
        brains = [BrainTensors.of(x, nothing, task.edges, everywhere) for x in task.x]
        self.batches = [GraphBatch.of([brains[k] for k in np.flatnonzero(part)]) for part in parts]
        self.counts = [torch.from_numpy(task.counts[part]).float() for part in parts]

    def to(self, device):
        self.batches, self.counts = [b.to(device) for b in self.batches], [c.to(device) for c in self.counts]
        return self

    def loss(self, model, augment):
        return F.poisson_nll_loss(model(self.batches[0])[:, 0], self.counts[0])

    def validate(self, model):
        return {BrainCounts.watched: -float(F.poisson_nll_loss(model(self.batches[1])[:, 0], self.counts[1]))}

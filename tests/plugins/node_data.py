"""Data at nodes: what an encoder reads, without images."""

from dataclasses import dataclass, field

import numpy as np

from features.augment_signal import SignalAugment
from meshgnn.config import Config
from meshgnn.sockets import Brain


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

        def item_format(self):
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

"""Time series of the nodes as items: [T], each with mean 0 and standard deviation 1."""

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.augment_signal import SignalAugment
from features.node_data.blocks import blocks
from meshgnn.config import Config as BaseConfig
from meshgnn.data.surface_series import averaged_series
from meshgnn.errors import SettingError
from meshgnn.sockets import Brain


class VertexSeries:
    """Items [T] float32 of the nodes whose series is finite and changes; a `meshgnn.sockets.NodeData`."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            series: name of the series in `Brain.series`.
            rounds: of one-ring averages within cortex, before anything else: a single node's run is mostly noise.
            length: values of an item: the first so many of the series, all if 0. Brains need items of one length.
            block_mm: nodes of a cube of this side are held out together, since neighbouring series are alike.
            augment: how series are changed in pretraining.
        """

        series: str = "bold"
        rounds: int = 0
        length: int = 0
        block_mm: float = 20.0
        augment: SignalAugment.Config = field(default_factory=SignalAugment.Config)

        def __post_init__(self) -> None:
            if min(self.length, self.rounds) < 0 or not self.block_mm > 0:
                raise SettingError("<length> and <rounds> must not be negative, <block_mm> be above 0")

        def build(self, brain: Brain) -> "VertexSeries":
            """Raises InputError when the brain has no such series, or a shorter one."""
            values = brain.series_of(self.series)
            if values.shape[1] < max(self.length, 2):
                raise SettingError(
                    f"{brain.graph.brain}: series {self.series!r} has {values.shape[1]} values; lower <length>"
                )
            values = values[:, : self.length or None]
            if self.rounds:
                graph = brain.graph
                known = graph.cortex & np.isfinite(values).all(1)
                values = averaged_series(values, known, graph.edges, self.rounds)
            return VertexSeries(values, blocks(brain.graph.vertices_mm, self.block_mm))

        def files(self, brain: Brain) -> tuple[Path, ...]:
            """None beside the brain's own. Raises InputError when the brain has no such series."""
            brain.series_of(self.series)
            return ()

        def item_format(self) -> dict[str, Any]:
            """What an item looks like; an encoder fits items of the same look only."""
            return {"series": self.series, "length": self.length} | ({"rounds": self.rounds} if self.rounds else {})

    def __init__(self, values: NDArray[np.float32], groups: NDArray[np.int32]) -> None:
        """values: [V, T]; groups: [V]."""
        deviation = values.std(axis=1)
        self.observed = np.isfinite(values).all(1) & (deviation > 1e-6)
        self.groups, self._values = groups, values

    @property
    def shape(self) -> tuple[int, ...]:
        return (self._values.shape[1],)

    def read(self, nodes: NDArray[np.integer]) -> NDArray[np.float32]:
        values = self._values[np.asarray(nodes)]
        centred = values - values.mean(1, keepdims=True)
        return (centred / centred.std(1, keepdims=True)).astype(np.float32)

    def key(self) -> str:
        return sha256(self._values.tobytes() + self.groups.tobytes()).hexdigest()[:16]

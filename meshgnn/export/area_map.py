"""A predicted area map: what every exporter takes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from meshgnn.errors import InputError
from meshgnn.graph import MeshGraph
from meshgnn.mesh.record import frozen

UNMAPPED_LEVEL = 0.01  # a node with a smaller p-value is flagged: the share of sound nodes that are, by mistake
SET_COVERAGE = 0.95  # share of nodes whose set of areas holds the true one


@dataclass(frozen=True, kw_only=True, eq=False)
class AreaMap:
    """Probabilities of every area at every node.

    Args:
        graph: the brain, with the true labels if there are any.
        probabilities: [V, K] float32, rows summing to 1; rows outside cortex are 0.
        unmapped_p: [V] float32, how usual each node is among annotated ones (`meshgnn.train.unmapped`), if known.
        set_least: areas of at least this probability are in a node's set (`meshgnn.train.selective`), if known.

    Raises:
        InputError: shapes that do not fit, or values that are not finite.
    """

    graph: MeshGraph
    probabilities: npt.NDArray[np.float32]
    unmapped_p: npt.NDArray[np.float32] | None = None
    set_least: float | None = None

    def __post_init__(self) -> None:
        values = np.asarray(self.probabilities, np.float32)
        if values.shape != (self.graph.n_nodes, len(self.graph.areas)) or not np.isfinite(values).all():
            raise InputError(
                f"an area map needs finite probabilities [{self.graph.n_nodes}, {len(self.graph.areas)}], "
                f"got {values.shape}"
            )
        if self.unmapped_p is not None and np.shape(self.unmapped_p) != (self.graph.n_nodes,):
            raise InputError(f"an area map of {self.graph.n_nodes} nodes got {np.shape(self.unmapped_p)} p-values")
        values = np.where(self.graph.cortex[:, None], values, 0)
        object.__setattr__(self, "probabilities", frozen(values, np.float32))

    @property
    def predicted(self) -> npt.NDArray[np.int32]:
        """[V] class numbers, -1 outside cortex (everywhere if there are no areas)."""
        if not len(self.graph.areas):
            return np.full(self.graph.n_nodes, -1, np.int32)
        return np.where(self.graph.cortex, self.probabilities.argmax(1), -1).astype(np.int32)

    @property
    def likely(self) -> npt.NDArray[np.bool_] | None:
        """[V, K] which areas are in the set of each node, the predicted one always; None without `set_least`."""
        if self.set_least is None:
            return None
        return in_set(self.probabilities, self.set_least) & self.graph.cortex[:, None]

    @property
    def uncertainty(self) -> npt.NDArray[np.float32]:
        """[V] entropy of the probabilities divided by its maximum log K, 0 (sure) to 1."""
        p = np.clip(self.probabilities, 1e-12, 1)
        entropy = -(p * np.log(p)).sum(1) / np.log(max(len(self.graph.areas), 2))
        return np.where(self.graph.cortex, np.clip(entropy, 0, 1), 0).astype(np.float32)


def in_set(probabilities: npt.NDArray[np.floating], least: float) -> npt.NDArray[np.bool_]:
    """Which areas each node's set holds [V, K]: those of at least the probability `least`, and the most probable."""
    found: npt.NDArray[np.bool_] = probabilities >= least
    if found.shape[1]:
        found[np.arange(len(found)), probabilities.argmax(1)] = True
    return found

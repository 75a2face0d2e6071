"""Series over time at the nodes, averaged along the cortex: a single node's run is mostly noise."""

import numpy as np
from numpy.typing import NDArray

from meshgnn.mesh.operators import one_ring_average


def averaged_series(
    values: NDArray[np.floating], known: NDArray[np.bool_], edges: NDArray[np.int32], rounds: int
) -> NDArray[np.float32]:
    """[V, T] averages over so many one-rings of the known nodes; NaN at the others.

    Args:
        values: [V, T].
        known: [V] nodes that give and receive.
        edges: [2, E].
        rounds: 0 leaves the known values as they are.
    """
    filled = np.where(known[:, None], values, 0).astype(np.float32)
    if rounds:
        (filled,) = one_ring_average(filled, known, edges[:, known[edges].all(0)], (rounds,))
    return np.where(known[:, None], filled, np.nan).astype(np.float32)

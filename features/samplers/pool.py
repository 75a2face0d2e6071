"""What samplers draw from, and what they offer."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Pool:
    """N items of all training brains.

    Args:
        labels: [N] class numbers, -1 = none.
        names: of the classes, for errors.
        groups: [N] number of the section or block that each item comes from, different between brains.
        held: [N] bool, items that are never drawn; none by default.
        edges: [2, E] pairs of items whose nodes neighbour each other on the mesh, in both directions.
    """

    labels: NDArray[np.integer]
    names: tuple[str, ...]
    groups: NDArray[np.integer]
    held: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    edges: NDArray[np.integer] = field(default_factory=lambda: np.zeros((2, 0), np.int64))

    def __post_init__(self) -> None:
        if np.size(self.held) == 0:
            object.__setattr__(self, "held", np.zeros(len(self.labels), bool))


class Sampler(Protocol):
    """Draws batches from (seed, step) alone, so that any step can be drawn first; built by `build(pool, seed)`.

    Args:
        size: items of a batch.
        together: this many items that follow each other in a batch count as views of one another (1: none do); an
            objective without labels pulls them together.
    """

    size: int
    together: int

    def draw(self, step: int) -> NDArray[np.int64]:
        """[size] item numbers of batch `step`."""
        ...

"""What samplers draw from, and what they offer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError

Geodesic = Callable[[NDArray[np.integer], NDArray[np.integer], float], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Pool:
    """N items of all training brains.

    Args:
        labels: [N] class numbers, -1 = none.
        names: of the classes, for errors.
        groups: [N] number of the section or block that each item comes from, different between brains.
        held: [N] bool, items that are never drawn; none by default.
        edges: [2, E] pairs of items whose nodes neighbour each other on the mesh, in both directions.
        parts: [N] numbers of the hemispheres of brains; places compare within one alone.
        places_mm: [N, 3] float32 where the items' nodes lie; NaN if that is not known.
        soft: [N, K] float32 probabilities of the classes, all 0 = none.
        geodesic: (items [A], others [B], limit in mm) -> [A, B] distance along the cortex, inf beyond; None without a
            mesh.
    """

    labels: NDArray[np.integer]
    names: tuple[str, ...]
    groups: NDArray[np.integer]
    held: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    edges: NDArray[np.integer] = field(default_factory=lambda: np.zeros((2, 0), np.int64))
    parts: NDArray[np.integer] = field(default_factory=lambda: np.zeros(0, np.int64))
    places_mm: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    soft: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    geodesic: Geodesic | None = None

    def __post_init__(self) -> None:
        count = len(self.labels)
        for name, value in (
            ("held", np.zeros(count, bool)), ("parts", np.zeros(count, np.int64)),
            ("places_mm", np.full((count, 3), np.nan, np.float32)), ("soft", np.zeros((count, 0), np.float32)),
        ):  # fmt: skip
            if len(getattr(self, name)) == 0:
                object.__setattr__(self, name, value)

    def placed(self) -> NDArray[np.int64]:
        """Items that may be drawn and whose place is known. Raises InputError when there are fewer than two."""
        found = np.flatnonzero(~self.held & np.isfinite(self.places_mm).all(1))
        if len(found) < 2:
            raise InputError(f"{len(found)} item to learn from with a known place on a mesh; at least 2 are needed")
        return found


class Sampler(Protocol):
    """Draws batches from (seed, step) alone, so that any step can be drawn first; built by `build(pool, seed)`.

    Args:
        size: items of a batch.
        together: this many items that follow each other in a batch count as views of one another (1: none do); an
            objective without labels pulls them together.

    It may also have `joined`, [size] numbers shared by items that stand together, where not all stand in groups of one
    size; and `apart_mm(items)`, [size] how far each of a batch's items lies from the one that it was drawn with.
    """

    size: int
    together: int

    def draw(self, step: int) -> NDArray[np.int64]:
        """[size] item numbers of batch `step`."""
        ...


def joined(sampler: Sampler) -> NDArray[np.int64]:
    """[size] numbers that items of a batch share if they count as views of one another."""
    found = getattr(sampler, "joined", None)
    return np.arange(sampler.size) // sampler.together if found is None else found


def apart(sampler: Sampler, items: NDArray[np.integer]) -> NDArray[np.float32]:
    """[B] mm of each item of a batch to the one that it was drawn with; NaN if the sampler does not say."""
    found = getattr(sampler, "apart_mm", None)
    return np.full(len(items), np.nan, np.float32) if found is None else found(items)

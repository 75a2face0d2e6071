"""What finds groups of nodes, and what it found. N nodes, L levels, R starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from meshgnn.networks.partition import Labels, consensus, renumbered, stability
from meshgnn.networks.record import Network
from meshgnn.progress import Progress


@dataclass(frozen=True, kw_only=True)
class ModelFit:
    """The fits of one weight model.

    Args:
        name: of the model.
        description_length: in nats, of every start, in the units of the weights as they were given; lower is better.
            Of continuous weights it may be negative.
        groups: of every start at the lowest level.
        degenerate: starts with one group, or every node its own.
    """

    name: str
    description_length: tuple[float, ...]
    groups: tuple[int, ...]
    degenerate: int

    @property
    def best(self) -> float:
        return min(self.description_length)


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockFit:
    """Groups of the nodes of a network.

    Args:
        back_end: what found them, by its own name.
        nested: whether its levels are those of one nested model.
        structure: False where nothing was found but one group, or every node its own; then all are in group 0.
        levels: L of [N], finest first; groups are numbered by size.
        level_names: of each.
        stability: [N], see `partition.stability`; of the finest level over the starts of the chosen model.
        consensus: [N] what the starts of the chosen model agree on.
        models: what was compared; the first is the chosen one.
        notes: one line each: what was left out, and why.
        posterior_groups: number of groups -> share of posterior draws; {} without any.
        posterior_together: [N, N] share of posterior draws in which two nodes are together; None without any.
    """

    back_end: str
    nested: bool
    structure: bool
    levels: tuple[Labels, ...]
    level_names: tuple[str, ...]
    stability: NDArray[np.float64]
    consensus: Labels
    models: tuple[ModelFit, ...]
    notes: tuple[str, ...] = ()
    posterior_groups: Mapping[int, float] = field(default_factory=dict)
    posterior_together: NDArray[np.float64] | None = None

    @property
    def groups(self) -> tuple[int, ...]:
        """Number of groups per level."""
        return tuple(int(level.max()) + 1 for level in self.levels)

    @property
    def verdict(self) -> str:
        """In one line."""
        if not self.structure:
            return f"no structure ({self.back_end})"
        told = " -> ".join(map(str, self.groups))
        return f"{told} groups ({self.back_end}, {self.models[0].name}), stability {self.stability.mean():.2f}"


class BlockModel(Protocol):
    """Built by its config's `build()`. Laws (tests): planted groups are found; a network without any is told so."""

    def fit(self, network: Network, layers: Sequence[str], progress: Progress, /) -> BlockFit:
        """Groups by the weights of these layers.

        Raises:
            InputError: no such layer, or one without edges.
        """
        ...


def fit_of(
    *,
    back_end: str,
    nested: bool,
    models: Sequence[ModelFit],
    levels: Sequence[NDArray[np.integer]],
    level_names: Sequence[str],
    starts: Sequence[NDArray[np.integer]],
    notes: Sequence[str] = (),
    structure: bool = True,
    posterior: Sequence[NDArray[np.integer]] = (),
) -> BlockFit:
    """A `BlockFit` from the levels of the chosen fit and the finest levels [R][N] of all starts of its model."""
    finest: NDArray[np.int64] = renumbered(levels[0])
    count = len(finest)
    groups = len(np.unique(finest))
    structure = structure and 1 < groups < count
    if not structure:
        finest = np.zeros(count, np.int64)
        levels, level_names = [finest], ["no structure"]
    partitions = np.array(starts)
    draws = np.array(posterior)
    numbers = [len(np.unique(one)) for one in draws]
    return BlockFit(
        back_end=back_end, nested=nested, structure=structure, levels=tuple(renumbered(level) for level in levels),
        level_names=tuple(level_names), stability=stability(partitions, finest), consensus=consensus(partitions),
        models=tuple(models), notes=tuple(notes),
        posterior_groups={n: numbers.count(n) / len(numbers) for n in sorted(set(numbers))},
        posterior_together=np.mean([one[:, None] == one for one in draws], axis=0) if len(draws) else None,
    )  # fmt: skip

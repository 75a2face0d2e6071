"""Several brains, each of its own size, laid end to end as one graph without edges between them.

G brains, V nodes of all of them, D features, F features of a whole brain, U pooling units.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from meshgnn.errors import InputError
from meshgnn.nn.adjacency import Adjacency, end_to_end


@dataclass(frozen=True, kw_only=True, eq=False)
class BrainTensors:
    """One brain as a network sees it.

    Args:
        features: [V, D] float32.
        coordinates: [V, 3] float32, or [V, 0].
        adjacency: of its mesh.
        mask: [V] bool, nodes that may be pooled; the others are neighbours at most.
        unit: [V] int64, number of the area or hemisphere that a node belongs to; -1 for none.
        whole: [F] float32, features of the whole brain.
    """

    features: Tensor
    coordinates: Tensor
    adjacency: Adjacency
    mask: Tensor
    unit: Tensor
    whole: Tensor

    @staticmethod
    def of(
        features: NDArray[np.floating],
        coordinates: NDArray[np.floating],
        edges: NDArray[np.integer],
        mask: NDArray[np.bool_],
        unit: NDArray[np.integer] | None = None,
        whole: NDArray[np.floating] | None = None,
    ) -> "BrainTensors":
        """From arrays; without `unit` no node belongs to a unit, without `whole` there are no features of the brain.

        Raises:
            InputError: no node of the brain is in the mask, or arrays do not fit together.
        """
        count = len(features)
        if unit is None:
            unit = np.full(count, -1)
        if not len(coordinates) == len(mask) == len(unit) == count:
            raise InputError("features, coordinates, mask and units of a brain need one row per node each")
        if not np.asarray(mask).any():
            raise InputError("a brain has no node in its mask: there is nothing to pool")
        return BrainTensors(
            features=torch.from_numpy(np.array(features, np.float32)),
            coordinates=torch.from_numpy(np.array(coordinates, np.float32)),
            adjacency=Adjacency(count, edges),
            mask=torch.from_numpy(np.array(mask, bool)),
            unit=torch.from_numpy(np.array(unit, np.int64)),
            whole=torch.from_numpy(np.array([] if whole is None else whole, np.float32)),
        )

    def to(self, device: torch.device | str) -> "BrainTensors":
        """The same on another device."""
        moved = {name: getattr(self, name).to(device) for name in self.__dataclass_fields__}
        return BrainTensors(**moved)


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphBatch:
    """Brains end to end.

    Args:
        features: [V, D]; coordinates: [V, 3] or [V, 0]; adjacency: of all nodes; mask: [V] bool; unit: [V] int64.
        brain: [V] int64, number of the brain that a node belongs to.
        whole: [G, F] features of whole brains.
        n_units: U, the number of different pooling units that brains may have.
    """

    features: Tensor
    coordinates: Tensor
    adjacency: Adjacency
    mask: Tensor
    unit: Tensor
    brain: Tensor
    whole: Tensor
    n_units: int

    @staticmethod
    def of(brains: Sequence[BrainTensors], n_units: int = 0) -> "GraphBatch":
        """Raises InputError when there is no brain."""
        if not brains:
            raise InputError("a batch needs at least one brain")
        sizes = torch.tensor([len(brain.features) for brain in brains], device=brains[0].features.device)
        numbers = torch.arange(len(brains), device=sizes.device)
        return GraphBatch(
            features=torch.cat([brain.features for brain in brains]),
            coordinates=torch.cat([brain.coordinates for brain in brains]),
            adjacency=end_to_end([brain.adjacency for brain in brains]),
            mask=torch.cat([brain.mask for brain in brains]),
            unit=torch.cat([brain.unit for brain in brains]),
            brain=torch.repeat_interleave(numbers, sizes),
            whole=torch.stack([brain.whole for brain in brains]),
            n_units=n_units,
        )

    def __len__(self) -> int:
        """G."""
        return len(self.whole)

    def to(self, device: torch.device | str) -> "GraphBatch":
        """The same on another device."""
        names = ("features", "coordinates", "adjacency", "mask", "unit", "brain", "whole")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    @property
    def joined(self) -> Tensor:
        """[V, D + F] features of every node beside those of its brain, joined by the batch index."""
        if not self.whole.shape[1]:
            return self.features
        return torch.cat([self.features, self.whole[self.brain]], dim=1)

    def with_inputs(self, features: Tensor, coordinates: Tensor) -> "GraphBatch":
        """The same brains with other features [V, D] and coordinates."""
        return replace(self, features=features, coordinates=coordinates)

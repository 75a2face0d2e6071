"""The newest known embedding of every node: what stands for nodes that are not in a step's batch.

Historical embeddings (VR-GCN, Chen et al. 2018; GNNAutoScale, Fey et al. 2021), here of the encoder's output rather
than of a network's layers: the mesh is small beside the images, so that the layers are computed whole at every step.
V nodes, C channels, B nodes of a batch.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class RowCache:
    """Embeddings of one brain, and when each was encoded.

    Args:
        n_nodes, channels: V and C. Rows of nodes that were never encoded stay 0.
    """

    def __init__(self, n_nodes: int, channels: int, dtype: torch.dtype = torch.float32) -> None:
        self.rows = torch.zeros(n_nodes, channels, dtype=dtype)
        self.step = torch.full((n_nodes,), -1)
        self.plain = torch.zeros(n_nodes, dtype=torch.bool)  # encoded as the patch is, not in a changed view
        self.version = 0

    def with_fresh(self, nodes: Tensor, fresh: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        """[V, C] all rows, with those of `nodes` [B] replaced by `fresh` [B, C], through which the gradient runs.

        Args:
            gain: [B, 1] or one number that multiplies the gradient of the fresh rows, and not their values.
        """
        if not isinstance(gain, float) or gain != 1.0:
            fresh = fresh.detach() + gain * (fresh - fresh.detach())
        return self.rows.to(fresh.dtype).index_copy(0, nodes, fresh)

    def refresh(self, nodes: Tensor, fresh: Tensor, step: int, *, plain: bool) -> dict[str, float]:
        """Keep fresh rows; how old and how far from them the cached ones were, {} where there were none.

        age: mean number of steps since the rows were encoded. staleness: mean distance |cached - fresh| over the root
        mean square distance of fresh rows from their mean. plain_staleness: the same of rows whose both encodings
        are of patches as they are, so that no augmentation is in it.
        """
        fresh = fresh.detach()
        before, told = self.step[nodes] >= 0, {}
        if before.any():
            spread = (fresh - fresh.mean(0)).square().sum(1).mean().sqrt().clamp(min=1e-12)
            apart = (self.rows[nodes] - fresh).norm(dim=1) / spread
            told = {"age": float((step - self.step[nodes][before]).float().mean()),
                    "staleness": float(apart[before].mean())}  # fmt: skip
            both = before & self.plain[nodes] & plain
            if both.any():
                told["plain_staleness"] = float(apart[both].mean())
        self.rows[nodes] = fresh.to(self.rows.dtype)
        self.step[nodes], self.plain[nodes] = step, plain
        self.version += 1
        return told

    def to(self, device: torch.device | str) -> "RowCache":
        self.rows, self.step, self.plain = (one.to(device) for one in (self.rows, self.step, self.plain))
        return self

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {"rows": self.rows, "step": self.step, "plain": self.plain}

    def restore(self, state: Mapping[str, Any]) -> None:
        """What `state` gave."""
        self.rows, self.step, self.plain = (state[name].clone() for name in ("rows", "step", "plain"))
        self.version += 1

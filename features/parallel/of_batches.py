"""Modes in which every rank has the network and a part of the batch: data parallel, and sharded."""

import warnings
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from features.encoders.item_encoder import ItemEncoder
from features.parallel.batches import Read, Share
from features.parallel.engine import Engine, broadcast_buffers, placed
from features.parallel.joint_norm import with_joint_batch_norm
from features.parallel.state import own_tensors


class DataParallel(Engine):
    """torch's DistributedDataParallel (Li et al. 2020, arXiv 2006.15704) over parts of a batch.

    It looks for parameters that a rank did not use, since a block that none of a rank's subjects has is not run there;
    one that nobody at all has keeps a gradient of None.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.part, self.parts = self.ranks.rank, self.ranks.world
        if self.settings.batch_norm == "joint":
            with_joint_batch_norm(self.network)
        self.network.to(self.ranks.device)
        self.costs.to(self.ranks.device)
        self._prepare()

    def _prepare(self) -> None:
        place = [self.ranks.device.index] if self.ranks.device.type == "cuda" else None
        self._runs: nn.Module = DistributedDataParallel(self.network, device_ids=place, find_unused_parameters=True)
        self.own = own_tensors(self.network, [self.network])

    def _together(self) -> bool:
        """Whether a block must run on every rank that has none of its subjects."""
        return self.settings.batch_norm == "joint"

    def backward(self, share: Share, scale: float, more: bool) -> float:
        joint = share.joint if self._together() else None
        with self._alone() if more else nullcontext():
            with self.autocast():
                found = self._runs(placed(share.items, self.dtype, self.ranks.device), share.present, joint)
                loss = self.costs.loss(found, share.values.to(found.device), share.counts)
            # The gradient is a mean over ranks, and the joint loss a sum.
            (loss * (scale * self.ranks.world)).backward()
        return self.ranks.total(float(loss.detach()))

    def _alone(self) -> Any:
        assert isinstance(self._runs, DistributedDataParallel)
        return self._runs.no_sync()

    def predict(self, read: Read, subjects: NDArray[np.integer], batch: int) -> NDArray[np.float32]:
        mine = subjects[self.ranks.rank :: self.ranks.world]
        found = [self._outputs(read, mine[first : first + batch]) for first in range(0, len(mine), batch)]
        width = sum(max(count, 1) for count in self.network.classes)
        rows = torch.cat(found) if found else torch.zeros(0, width)
        parts = self.ranks.gathered({str(self.ranks.rank): rows})
        out = torch.zeros(len(subjects), width)
        for rank, one in parts.items():
            out[int(rank) :: self.ranks.world] = one
        broadcast_buffers([out], 0)
        return out.numpy()

    def _outputs(self, read: Read, subjects: NDArray[np.integer]) -> Tensor:
        items, present = read(subjects)
        training = self.network.training
        self.network.eval()
        with torch.no_grad():
            found = self.network(placed(items, self.dtype, self.ranks.device), present)
        self.network.train(training)
        return found.float().cpu()

    def settle(self) -> None:
        broadcast_buffers(self.network.buffers(), 0)


class Sharded(DataParallel):
    """FSDP2 (Zhao et al. 2023, arXiv 2304.11277): weights, gradients and optimiser state are cut over the ranks, and a
    part of the network is put together only while it runs.

    All ranks run the same blocks, on no subject where they have none.
    """

    def _prepare(self) -> None:
        mesh = init_device_mesh(self.ranks.device.type, (self.ranks.world,))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for part in _parts(self.network):
                fully_shard(part, mesh=mesh)
            fully_shard(self.network, mesh=mesh)
        self._runs = self.network
        self.own = own_tensors(self.network, [self.network])

    def _together(self) -> bool:
        return True

    def backward(self, share: Share, scale: float, more: bool) -> float:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*returned a view tensor.*")
            return super().backward(share, scale, False)

    def predict(self, read: Read, subjects: NDArray[np.integer], batch: int) -> NDArray[np.float32]:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*returned a view tensor.*")
            found = [self._outputs(read, subjects[k : k + batch]) for k in range(0, len(subjects), batch)]
        width = sum(max(count, 1) for count in self.network.classes)
        return torch.cat(found).numpy() if found else np.zeros((0, width), np.float32)

    def _squares(self, own: Tensor) -> Tensor:
        total = own.cpu()
        torch.distributed.all_reduce(total)
        return total


def _parts(network: Any) -> list[nn.Module]:
    """What is put together at a time: encoders, and within them the large modules that their stages are made of."""
    found = []
    for encoder in network.encoders:
        lasting = set(map(id, encoder.modules()))
        least = sum(one.numel() for one in encoder.parameters()) / 20
        stages = encoder.stages() if isinstance(encoder, ItemEncoder) else ()
        for stage in stages:
            # A stage may be made anew by every call, of modules that last.
            for part in [stage] if id(stage) in lasting else list(stage.children()):
                if sum(one.numel() for one in part.parameters()) > least and id(part) in lasting:
                    found.append(part)
        found.append(encoder)
    return found

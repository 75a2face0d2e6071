"""The ranks of a run: how they meet, and what they send each other. Records travel as safetensors, never as pickles."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import torch
from safetensors.torch import load, save
from torch import Tensor, distributed

from features.command import leave_with_parent
from meshgnn.errors import InputError
from meshgnn.ranks import adopt_launcher, rank_and_world


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among the others.

    Args:
        rank: its number.
        world: how many there are.
        device: that it computes on.
    """

    rank: int
    world: int
    device: torch.device

    def agreed(self, *values: float) -> tuple[float, ...]:
        """Rank 0's numbers, on all ranks."""
        if self.world == 1:
            return values
        shared = torch.tensor(values, dtype=torch.float64)
        distributed.broadcast(shared, 0)
        return tuple(shared.tolist())

    def total(self, value: float) -> float:
        """Sum over ranks."""
        shared = torch.tensor(value, dtype=torch.float64)
        distributed.all_reduce(shared)
        return float(shared)

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        if self.world > 1:
            distributed.barrier()

    def leave(self) -> None:
        """The end of what the ranks do together; all of them call it."""
        distributed.barrier()
        distributed.destroy_process_group()

    def gathered(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of all ranks by name, on rank 0; empty on the others. No two ranks may have the same name."""
        data = torch.frombuffer(
            bytearray(save({name: one.contiguous() for name, one in own.items()})), dtype=torch.uint8
        )
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        distributed.all_gather(sizes, torch.tensor([len(data)]))
        if self.rank:
            distributed.send(data, 0)
            return {}
        found = dict(own)
        for other in range(1, self.world):
            sent = torch.empty(int(sizes[other]), dtype=torch.uint8)
            distributed.recv(sent, other)
            found |= load(sent.numpy().tobytes())
        return found


def joined() -> Ranks:
    """This process among those that torchrun, srun or mpiexec started; they meet once per process.

    On CPUs they meet by gloo, on GPUs by NCCL, one GPU per rank.

    Raises:
        InputError: started alone, or with more ranks than GPUs on this machine.
    """
    adopt_launcher(os.environ)
    rank, world = rank_and_world()
    if "RANK" not in os.environ or "MASTER_ADDR" not in os.environ:
        raise InputError(
            "no ranks were started; start them by torchrun --nproc-per-node RANKS -m ..., by srun or mpiexec, or set "
            "trainer.parallel.mode=one"
        )
    local, device = int(os.environ.get("LOCAL_RANK", "0")), torch.device("cpu")
    if torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise InputError(
                f"rank {local} of this machine has no GPU of its own, there are {torch.cuda.device_count()}; start "
                "fewer ranks, or set CUDA_VISIBLE_DEVICES= to compute on CPUs"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        if "TORCHELASTIC_RUN_ID" in os.environ:
            leave_with_parent()
        # Numbers and records go by gloo beside NCCL.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        # Ranks wait while rank 0 alone draws a cohort or fits baselines. One that dies is noticed at once all the same.
        distributed.init_process_group(backend, rank=rank, world_size=world, timeout=timedelta(days=2))
    return Ranks(rank=rank, world=world, device=device)

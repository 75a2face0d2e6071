"""This process among those that torchrun (or srun) started, as their environment says."""

import os


def rank_and_world() -> tuple[int, int]:
    """(rank, number of ranks); (0, 1) for a process by itself."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def ranks_here() -> int:
    """Number of ranks on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

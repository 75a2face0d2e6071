"""This process among those that torchrun (or srun) started, as their environment says."""

import os
import re


def rank_and_world() -> tuple[int, int]:
    """(rank, number of ranks); (0, 1) for a process by itself."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def ranks_here() -> int:
    """Number of ranks on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def adopt_slurm(environment: os._Environ[str] | dict[str, str]) -> None:
    """Say in torchrun's variables what srun said in its own; what is set already stays.

    `SLURM_STEP_NUM_TASKS` is there for tasks of srun alone: a batch script that runs a program by itself has one task,
    whatever it asked for.
    """
    if "RANK" in environment or int(environment.get("SLURM_STEP_NUM_TASKS", "1")) < 2:
        return
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST", "localhost")
    job = int(environment.get("SLURM_JOB_ID", "0"))
    per_node = re.match(r"\d+", environment.get("SLURM_STEP_TASKS_PER_NODE", ""))
    said = {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": environment.get("SLURM_LOCALID", "0"),
        "LOCAL_WORLD_SIZE": per_node.group() if per_node else "1",
        "MASTER_ADDR": first_node(nodes),
        "MASTER_PORT": str(20000 + job % 20000),
    }
    for name, value in said.items():
        environment.setdefault(name, value)


def first_node(nodes: str) -> str:
    """The first host of Slurm's list, as in `node[003-007,9],other`."""
    found = re.match(r"([^,\[]+)(?:\[(\w+)[^\]]*\]([^,]*))?", nodes)
    return "".join(part or "" for part in found.groups()) if found else nodes

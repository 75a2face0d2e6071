"""This process among those that torchrun, srun or mpiexec started, as their environment says."""

import os
import re

from meshgnn.errors import InputError

Environment = os._Environ[str] | dict[str, str]


def rank_and_world() -> tuple[int, int]:
    """(rank, number of ranks); (0, 1) for a process by itself."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def ranks_here() -> int:
    """Number of ranks on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


# Rank, ranks, rank on this machine, ranks on this machine: Open MPI; MPICH, Intel MPI and Cray's.
_MPI = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    ("PMI_RANK", "PMI_SIZE", "PALS_LOCAL_RANKID", "PALS_LOCAL_SIZE"),
)


def adopt_launcher(environment: Environment) -> None:
    """Say in torchrun's variables what mpiexec, or else srun, said in its own; what is set already stays.

    mpiexec first: within a Slurm job it starts its own daemons by srun, whose variables its ranks inherit. srun alone
    sets none of the variables of ranks on a machine that mpiexec does.

    Raises:
        InputError: mpiexec started ranks on several machines, and MASTER_ADDR does not name that of rank 0.
    """
    if "RANK" in environment:
        return
    for name, value in (_said_by_mpiexec(environment) or _said_by_srun(environment)).items():
        environment.setdefault(name, value)


def _said_by_mpiexec(environment: Environment) -> dict[str, str]:
    """In torchrun's variables; empty if it started no ranks."""
    for rank, world, local, here in _MPI:
        if local not in environment or int(environment.get(world, "1")) < 2:
            continue
        count, own = environment[world], environment.get(here, "1")
        if count != own and "MASTER_ADDR" not in environment:
            raise InputError(
                "mpiexec started ranks on several machines; set MASTER_ADDR to the name of that of rank 0 (and "
                "MASTER_PORT to a free port there)"
            )
        said = {"RANK": environment[rank], "WORLD_SIZE": count, "LOCAL_RANK": environment[local]}
        return said | {"LOCAL_WORLD_SIZE": own, "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    return {}


def _said_by_srun(environment: Environment) -> dict[str, str]:
    """In torchrun's variables; empty if it started no ranks.

    `SLURM_STEP_NUM_TASKS` is there for tasks of srun alone: a batch script that runs a program by itself has one task,
    whatever it asked for.
    """
    if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) < 2:
        return {}
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST", "localhost")
    job = int(environment.get("SLURM_JOB_ID", "0"))
    per_node = re.match(r"\d+", environment.get("SLURM_STEP_TASKS_PER_NODE", ""))
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": environment.get("SLURM_LOCALID", "0"),
        "LOCAL_WORLD_SIZE": per_node.group() if per_node else "1",
        "MASTER_ADDR": first_node(nodes),
        "MASTER_PORT": str(20000 + job % 20000),
    }


def first_node(nodes: str) -> str:
    """The first host of Slurm's list, as in `node[003-007,9],other`."""
    found = re.match(r"([^,\[]+)(?:\[(\w+)[^\]]*\]([^,]*))?", nodes)
    return "".join(part or "" for part in found.groups()) if found else nodes

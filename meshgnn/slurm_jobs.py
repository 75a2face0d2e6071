"""Work of a study as an array of Slurm jobs, by submitit."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError
from meshgnn.optional import need

R = TypeVar("R")


class SlurmJobs:
    """Runs one function on many arguments, one job of an array each.

    The command that submits them waits for the jobs, and takes them back when it is stopped. submitit hands function,
    arguments and results over as pickles in the run folder; nothing else ever reads them.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            cluster: slurm; or local, which starts all jobs at once on this machine, to try it with a few.
            partition: of the cluster; its default if none.
            minutes: that a job may take.
            cpus, gpus, memory_gb: of a job.
            at_once: jobs that may run side by side.
        """

        cluster: Literal["slurm", "local"] = "slurm"
        partition: str = ""
        minutes: int = 240
        cpus: int = 4
        gpus: int = 0
        memory_gb: int = 16
        at_once: int = 50

        def __post_init__(self) -> None:
            if min(self.minutes, self.cpus, self.memory_gb, self.at_once) < 1 or self.gpus < 0:
                raise SettingError(
                    "<minutes>, <cpus>, <memory_gb> and <at_once> must be at least 1, <gpus> not negative"
                )

        def build(self) -> "SlurmJobs":
            """Raises InputError when submitit is not installed."""
            need("submitit", "meshgnn[slurm]")
            return SlurmJobs(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def map(
        self, work: Callable[..., R], arguments: Sequence[tuple[Any, ...]], folder: Path, every_s: float = 5.0,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[int, "R | str"]]:  # fmt: skip
        """(number of the arguments, result) of every job as it ends; of one that failed, why, in a line.

        Args:
            work: importable by its name in the jobs.
            arguments: of every call.
            folder: for logs and what is handed over; all nodes must see it.
            every_s: seconds between two looks at the jobs.
            stopped: asked at every look; once it is true all jobs are taken back.

        Raises:
            SettingError: there is no Slurm here.
        """
        import submitit

        c = self.config
        try:
            executor = submitit.AutoExecutor(folder / "%j", cluster=c.cluster)
            executor.update_parameters(
                name=work.__name__, timeout_min=c.minutes, cpus_per_task=c.cpus, gpus_per_node=c.gpus,
                mem_gb=c.memory_gb, slurm_array_parallelism=c.at_once,
                **({"slurm_partition": c.partition} if c.partition else {}),
            )  # fmt: skip
            jobs = executor.map_array(work, *zip(*arguments))
        except (RuntimeError, OSError) as error:
            text = str(error).strip().splitlines() or ["submitit failed"]
            raise SettingError(f"jobs cannot be submitted to <cluster>={c.cluster}: {text[0]}") from None
        waiting = dict(enumerate(jobs))
        try:
            while waiting and not stopped():
                ended = [number for number, job in waiting.items() if job.done()]
                for number in ended:
                    job = waiting.pop(number)
                    try:
                        yield number, job.result()
                    except (submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError) as error:
                        last = str(error).strip().splitlines()[-1]
                        yield number, f"job {job.job_id} failed: {last}; its log is in {folder}"
                if not ended:
                    time.sleep(every_s)
        finally:
            for job in jobs:
                if not job.done():
                    job.cancel(check=False)

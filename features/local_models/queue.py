"""A queue of independent jobs: processes on this machine, or a cluster; what is done is skipped the next time."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from features.local_models.settings import DONE
from meshgnn.errors import InputError
from meshgnn.progress import Progress
from meshgnn.slurm_jobs import SlurmJobs

STEP, ASKED_S = "local models", 0.5


def run_jobs(
    folders: Sequence[Path], workers: int, slurm: SlurmJobs.Config | None, progress: Progress,
    stopped: Callable[[], bool],
) -> list[str]:  # fmt: skip
    """Run jobs; returns what went wrong, a line for each failed one.

    A job that fails leaves the others alone. Once `stopped()` is true no further job starts and those that run are
    ended; their folders are as if they had never started.

    Args:
        folders: of jobs (`write_job`).
        workers: processes side by side.
    """
    if not folders:
        return []
    progress(STEP, 0, len(folders))
    if slurm is not None:
        return _on_cluster(folders, slurm, progress, stopped)
    failed: list[str] = []
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_end_with, initargs=(os.getpid(),)
    )
    try:
        waiting = {pool.submit(_run, folder): folder for folder in folders}
        while waiting:
            ended, _ = wait(waiting, timeout=ASKED_S, return_when=FIRST_COMPLETED)
            for future in ended:
                folder = waiting.pop(future)
                try:
                    future.result()
                except (InputError, OSError, ArithmeticError, ValueError, RuntimeError) as error:
                    failed.append(_line(folder, error))
            progress(STEP, len(folders) - len(waiting), len(folders))
            if stopped():
                break
    finally:
        processes = list((pool._processes or {}).values())  # no public way to end them: shutdown waits for each
        pool.shutdown(wait=False, cancel_futures=True)
        if stopped():
            for process in processes:
                process.terminate()
        for process in processes:
            process.join()
    return failed


def _on_cluster(
    folders: Sequence[Path], slurm: SlurmJobs.Config, progress: Progress, stopped: Callable[[], bool]
) -> list[str]:
    failed = []
    found = slurm.build().map(_run, [(folder,) for folder in folders], folders[0].parent / "slurm", stopped=stopped)
    for done, (number, result) in enumerate(found):
        if not (folders[number] / DONE).is_file():
            failed.append(f"{folders[number].name}: {result}")
        progress(STEP, done + 1, len(folders))
        if stopped():
            break
    del found  # takes back what has not ended
    return failed


def _end_with(parent: int) -> None:
    """In a job's process: end it when the one that started it is gone; a killed filling must not go on by itself."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(ASKED_S)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()


def _run(folder: Path) -> str:
    from features.local_models.job import run_job  # torch is loaded in the jobs alone

    return run_job(folder)


def _line(folder: Path, error: BaseException) -> str:
    if isinstance(error, BrokenProcessPool):
        return f"{folder.name}: its process was ended from outside, perhaps for want of memory"
    text = str(error).strip().splitlines() or [type(error).__name__]
    return f"{folder.name}: {text[0]}"

"""Jobs of a server: one lane and one process per engine, so that a quick engine never waits for a slow one."""

import logging
import multiprocessing
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any

from meshgnn.errors import InputError
from meshgnn.mapping.kept.state import now
from meshgnn.mapping.setup import Setup
from meshgnn.mapping.work.job import Job, read_jobs, write_job
from meshgnn.mapping.work.worker import Place, Told, work

_LOG = logging.getLogger(__name__)
GRACE_S = 10.0
"""A job that was stopped has so long to end; then its process is ended. What it kept is gone on with."""
_ENDED = ("done", "failed", "stopped")


@dataclass(kw_only=True)
class _Lane:
    """One engine's: what waits, what runs, and the process."""

    waiting: list[Job] = field(default_factory=list)
    running: Job | None = None
    thread: threading.Thread | None = None
    process: Any = None
    tasks: Connection | None = None
    stop: Any  # shared byte, 1 to end the job; without a lock, which a killed process could hold for ever


class Jobs:
    """Args:
    config: with the engines.
    place: see `Place`.
    told: called whenever a job changes, from any thread.
    """

    def __init__(self, config: Setup.Config, place: Place, told: Callable[[], None]) -> None:
        self.config, self.place, self.told = config, place, told
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self._lanes: dict[str, _Lane] = {}
        self._context = multiprocessing.get_context("spawn")
        self._ending = False
        self.changes = 0
        for job in read_jobs(place.state):
            self._jobs[job.id] = job if job.state in _ENDED else _left(job)

    def all(self) -> list[Job]:
        """Oldest first."""
        with self._lock:
            return sorted(self._jobs.values(), key=lambda job: (job.round, job.engine))

    def follow(self, written: bool) -> bool:
        """Take what another server wrote of its jobs; True if there was anything new.

        Args:
            written: that server is running.
        """
        found = {job.id: job for job in read_jobs(self.place.state)}
        if not written:
            found = {id: job if job.state in _ENDED else _left(job) for id, job in found.items()}
        with self._lock:
            if found == self._jobs:
                return False
            self._jobs = found
        self.changed()
        return True

    def get(self, id: str) -> Job:
        """Raises InputError if there is none."""
        with self._lock:
            if id not in self._jobs:
                raise InputError(f"there is no job {id[:40]!r}")
            return self._jobs[id]

    def ask(self, engine: str, seq: int, mapper: str) -> Job:
        """A filling of what is known now. One that waits already is taken; one that was stopped at this very state of
        things goes on from what it kept.

        Raises:
            OSError, InputError: nothing can be written.
        """
        with self._lock:
            if engine not in self._lanes:
                self._lanes[engine] = _Lane(stop=self._context.RawValue("b", 0))
            lane = self._lanes[engine]
            for job in lane.waiting:
                if job.seq == seq:
                    return job
            if lane.running is not None and lane.running.seq == seq and not _asked(lane):
                return lane.running
            mine = [job for job in self._jobs.values() if job.engine == engine]
            last = max(mine, key=lambda job: job.round, default=None)
            number = max((job.round for job in self._jobs.values()), default=0) + 1
            if last is not None and last.state == "stopped" and last.seq == seq:
                number = last.round
            job = Job(round=number, engine=engine, seq=seq, started=now(), mapper=mapper)
            write_job(job, self.place.state)
            lane.waiting.append(job)
            self._keep(job)
            if lane.thread is None or not lane.thread.is_alive():
                lane.thread = threading.Thread(target=self._run, args=(engine, lane), daemon=True)
                lane.thread.start()
            return job

    def stop(self, id: str) -> Job:
        """End a job, or take it out of the row. Raises InputError if there is none."""
        with self._lock:
            job = self.get(id)
            lane = self._lanes.get(job.engine)
            if lane is not None and job.id in [one.id for one in lane.waiting]:
                lane.waiting = [one for one in lane.waiting if one.id != job.id]
                job = replace(job, state="stopped")
                write_job(job, self.place.state)
                self._keep(job)
            elif lane is not None and lane.running is not None and lane.running.id == job.id:
                lane.stop.value = 1
                threading.Timer(GRACE_S, self._end, (lane, job.id)).start()
            return job

    def close(self) -> None:
        """End all processes; what runs is stopped."""
        self._ending = True
        with self._lock:
            lanes = list(self._lanes.values())
            for lane in lanes:
                lane.waiting.clear()
                lane.stop.value = 1
        until = time.monotonic() + 3
        for lane in lanes:
            thread = lane.thread
            if thread is not None:
                thread.join(max(0.0, until - time.monotonic()))
                if lane.process is not None:
                    lane.process.kill()  # the thread hears of it
                thread.join(2)
            if thread is None or not thread.is_alive():
                self._drop(lane)

    # -- in a thread per lane ----------------------------------------------------------------------------------------

    def _run(self, engine: str, lane: _Lane) -> None:
        while True:
            with self._lock:
                if not lane.waiting or self._ending:
                    lane.thread = None
                    return
                job = lane.waiting.pop(0)
                lane.stop.value = 0
                job = lane.running = replace(job, state="running", step="starting")
                self._keep(job)
            start = time.monotonic()
            try:
                job = self._filled(engine, lane, job)
            except Exception as error:
                _LOG.exception("job %s", job.id)
                job = replace(job, state="failed", error=str(error))
                self._drop(lane)
            job = replace(job, seconds=round(time.monotonic() - start, 2))
            with self._lock:
                lane.running = None
                try:
                    write_job(job, self.place.state)
                except (OSError, InputError) as error:
                    _LOG.warning("job %s: %s", job.id, error)
                self._keep(job)

    def _filled(self, engine: str, lane: _Lane, job: Job) -> Job:
        write_job(job, self.place.state)
        if lane.process is None or not lane.process.is_alive():
            self._drop(lane)
            lane.tasks, theirs = self._context.Pipe()
            words = (self.config, engine, self.place, theirs, lane.stop)
            lane.process = self._context.Process(target=work, args=words, daemon=False)  # engines start their own
            lane.process.start()
            theirs.close()
        assert lane.tasks is not None
        lane.tasks.send(job.folder(self.place.state))
        start = time.monotonic()
        while True:
            try:
                told: Told = lane.tasks.recv()
            except (EOFError, OSError):
                asked = _asked(lane) or self._ending
                process = lane.process
                self._drop(lane)
                code = process.exitcode
                if asked:
                    return replace(job, state="stopped")
                return replace(job, state="failed", error=f"the process ended by itself (exit code {code}); "
                               "the machine may lack memory")  # fmt: skip
            if told.kind == "progress":
                job = replace(
                    job, step=told.step, done=told.done, total=told.total,
                    seconds=round(time.monotonic() - start, 1),
                )  # fmt: skip
                with self._lock:
                    lane.running = job
                    self._keep(job)
                continue
            if told.trace:
                _LOG.error("job %s\n%s", job.id, told.trace)
            return replace(job, state=told.kind, error=told.error)  # type: ignore[arg-type]

    def _end(self, lane: _Lane, id: str) -> None:
        with self._lock:
            process = lane.process if lane.running is not None and lane.running.id == id else None
            if process is not None and _asked(lane):
                process.kill()

    def _drop(self, lane: _Lane) -> None:
        if lane.tasks is not None:
            lane.tasks.close()
        if lane.process is not None:
            lane.process.join(1)
            if lane.process.is_alive():
                lane.process.kill()
                lane.process.join(1)
        lane.process = lane.tasks = None

    def _keep(self, job: Job) -> None:
        self._jobs[job.id] = job
        self.changed()

    def changed(self) -> None:
        """Tell windows that there is news of engines or jobs."""
        self.changes += 1
        self.told()


def _left(job: Job) -> Job:
    return replace(job, state="stopped", error="the server was ended")


def _asked(lane: _Lane) -> bool:
    """The job at hand was to be ended."""
    return bool(lane.stop.value)

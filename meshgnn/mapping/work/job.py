"""What is kept of a job: rounds/NNNN/ENGINE/job.json, written when its state changes."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from meshgnn.errors import InputError
from meshgnn.store import read_json, write_json

FILE, ROUNDS = "job.json", "rounds"
JobState = Literal["waiting", "running", "done", "failed", "stopped"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A filling that was asked for.

    Args:
        round: its number.
        engine: name.
        seq: number of the last change that it saw.
        state: waiting, running, done, failed, stopped.
        done, total: of the step that runs.
        step: what is being done, in words.
        error: one line, of a job that failed.
        seconds: that it ran.
        started: when it was asked for, ISO 8601 in UTC.
        mapper: who asked.
    """

    round: int
    engine: str
    seq: int
    state: JobState = "waiting"
    done: int = 0
    total: int = 0
    step: str = ""
    error: str = ""
    seconds: float = 0.0
    started: str = ""
    mapper: str = ""

    @property
    def id(self) -> str:
        return f"{self.round:04d}-{self.engine}"

    def folder(self, state: Path) -> Path:
        return state / ROUNDS / f"{self.round:04d}" / self.engine

    def plain(self) -> dict[str, Any]:
        return {"id": self.id, **asdict(self)}


def write_job(job: Job, state: Path) -> None:
    write_json(job.folder(state) / FILE, asdict(job))


def read_jobs(state: Path) -> list[Job]:
    """Jobs of a state folder, oldest first. What cannot be read is left out: nothing else rests on it."""
    names, found = {field.name for field in fields(Job)}, []
    for path in sorted((state / ROUNDS).glob(f"*/*/{FILE}")):
        try:
            about = read_json(path)
            job = Job(**{key: value for key, value in about.items() if key in names})
            if job.state in get_args(JobState) and job.folder(state) == path.parent:
                found.append(job)
        except (InputError, TypeError, AttributeError, ValueError):
            continue
    return sorted(found, key=lambda job: (job.round, job.engine))

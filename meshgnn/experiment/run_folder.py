"""The run folder: one experiment's configuration, provenance, results and stage records on disk."""

import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Collection
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from meshgnn import __version__
from meshgnn.errors import InputError
from meshgnn.ranks import rank_and_world
from meshgnn.store import clear_asides, file_hash, read_json, write_json

_PACKAGES = ("torch", "lightning", "numpy", "scipy", "scikit-learn", "nibabel", "safetensors", "igraph")


class RunFolder:
    """Paths and records of one run. Nothing is created before `open`."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    # -- opening --------------------------------------------------------------------------------------------------

    def check(self, *, resume: bool, config: dict[str, Any]) -> None:
        """Whether `open` may go on; nothing is written.

        Args:
            resume: go on with what is there.
            config: of the experiment, as it will stand in config.json.

        Raises:
            InputError: the folder holds files and `resume` is off; it is not a run although `resume` is on, or one of
                another experiment; it cannot be read.
        """
        try:
            used = self.path.exists() and any(self.path.iterdir())
        except NotADirectoryError:
            raise InputError(f"--out {self.path}: is a file; name a folder") from None
        except OSError as error:
            raise InputError(f"--out {self.path}: cannot be read ({error.strerror})") from None
        if used and not resume:
            raise InputError(f"--out {self.path}: already holds files; add --resume to go on with it, or name another")
        if not resume:
            return
        if not (self.path / "config.json").is_file():
            raise InputError(f"--out {self.path}: there is no run to resume (no config.json)")
        there, wanted = (_experiment(one) for one in (read_config(self.path), config))
        if any(mine and other and mine != other for mine, other in zip(wanted, there)):
            raise InputError(
                f"--out {self.path}: holds a run of {there[0] or there[1]}, which {wanted[0] or wanted[1]} would "
                "overwrite; name another folder"
            )

    def open(self) -> None:
        """Create the folder, or go on with it; call `check` first.

        Raises:
            InputError: it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".write-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise InputError(
                f"--out {self.path}: cannot be written ({error.strerror}); choose another folder"
            ) from None
        clear_asides(self.path)

    # -- logging --------------------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """One line to the terminal and to log.txt."""
        print(text, flush=True)
        with (self.path / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {text}\n")

    def warn(self, text: str) -> None:
        self.say(f"warning: {text}")

    # -- stages ---------------------------------------------------------------------------------------------------

    def _record(self, stage: str) -> Path:
        return self.path / "stages" / f"{stage}.json"

    def _read_record(self, stage: str) -> dict[str, Any]:
        """The record of a stage; empty if there is none that can be read."""
        try:
            record = read_json(self._record(stage))
        except InputError:
            return {}
        return record if isinstance(record, dict) else {}

    def stage_done(self, stage: str, key: str) -> bool:
        """True if this stage ended with the same key and its outputs are unchanged."""
        record = self._read_record(stage)
        outputs = record.get("outputs")
        if record.get("key") != key or not isinstance(outputs, dict):
            return False
        try:
            return all(file_hash(self.path / name) == digest for name, digest in outputs.items())
        except OSError:
            return False

    def close_stage(self, stage: str, key: str, outputs: list[str], seconds: float, provenance: dict[str, Any]) -> None:
        """Keep the record of a finished stage: its key, its time, hashes of what it wrote, under what it was run."""
        hashes = {name: file_hash(self.path / name) for name in outputs}
        record = {"key": key, "seconds": round(seconds, 3), "outputs": hashes, "provenance": provenance}
        write_json(self._record(stage), record)

    def stage_seconds(self, names: list[str]) -> dict[str, float]:
        """Seconds each of these stages took, as far as they are finished."""
        seconds = {name: self._read_record(name).get("seconds") for name in names}
        return {name: float(value) for name, value in seconds.items() if isinstance(value, int | float)}

    # -- provenance -----------------------------------------------------------------------------------------------

    def write_provenance(
        self,
        here: dict[str, Any],
        inputs: dict[str, str],
        seeds: list[int],
        keys: dict[str, str],
        running: Collection[str] = (),
    ) -> None:
        """provenance.json: what is needed to say where a figure came from.

        The top level describes the last command that did any work, `stages` the command that each stage was run by:
        a resumed run keeps stages of earlier ones.

        Args:
            here: see `circumstances`.
            inputs: hash of every input file by path.
            seeds: of the experiment.
            keys: of the stages; a record with another key is out of date and left out.
            running: the stages that run now.
        """
        stages: dict[str, Any] = {}
        for name, key in keys.items():
            record = self._read_record(name)
            if name in running:
                stages[name] = {**here, "started": now()}
            elif record.get("key") == key:
                stages[name] = record.get("provenance", {})
        write_json(self.path / "provenance.json", {**here, "inputs": inputs, "seeds": seeds, "stages": stages})


def now() -> str:
    """Date and time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def circumstances() -> dict[str, Any]:
    """The conditions under which this process runs: versions, commit, command, threads, ranks."""
    return {
        "meshgnn": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "command": sys.argv[1:],
        "started": now(),
        "threads": os.cpu_count(),
        "ranks": rank_and_world()[1],
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of the source tree this package runs from, with `+` if files differ from it; None for an install."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
        changed = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (head.stdout.strip() + ("+" if changed.stdout.strip() else "")) or None


def peak_rss_mb() -> float:
    """Largest resident size of this process or one of its finished children, in MB."""
    units = 1 if sys.platform == "darwin" else 1024
    peaks = [resource.getrusage(who).ru_maxrss * units for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return round(max(peaks) / 1e6, 1)


def _experiment(config: dict[str, Any]) -> tuple[str, str]:
    """Name of the experiment ("" if run from Python) and the class its config builds."""
    inner = config.get("config")
    return str(config.get("experiment") or ""), str(inner.get("_", "")) if isinstance(inner, dict) else ""


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a run. Raises InputError when the folder is not a run."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise InputError(f"{folder}: is not a run folder (no config.json)")
    config = read_json(path)
    if not isinstance(config, dict) or not isinstance(config.get("overrides"), list):
        raise InputError(f"{path}: is not the configuration of a run")
    return json.loads(json.dumps(config))

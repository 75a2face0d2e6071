"""The run folder: one experiment's configuration, provenance, results and stage records on disk."""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from meshgnn import __version__
from meshgnn.errors import InputError
from meshgnn.store import file_hash, read_json, write_json

_PACKAGES = ("torch", "lightning", "numpy", "scipy", "scikit-learn", "nibabel", "safetensors", "igraph")


class RunFolder:
    """Paths and records of one run. Nothing is created before `open`."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    # -- opening --------------------------------------------------------------------------------------------------

    def open(self, *, resume: bool) -> None:
        """Create the folder, or go on with it.

        Raises:
            InputError: it holds files and `resume` is off; it is not a run although `resume` is on; it cannot be
                written.
        """
        try:
            used = self.path.exists() and any(self.path.iterdir())
        except NotADirectoryError:
            raise InputError(f"--out {self.path}: is a file; name a folder") from None
        except OSError as error:
            raise InputError(f"--out {self.path}: cannot be read ({error.strerror})") from None
        if used and not resume:
            raise InputError(f"--out {self.path}: already holds files; add --resume to go on with it, or name another")
        if resume and not (self.path / "config.json").is_file():
            raise InputError(f"--out {self.path}: there is no run to resume (no config.json)")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".write-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise InputError(
                f"--out {self.path}: cannot be written ({error.strerror}); choose another folder"
            ) from None

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

    def stage_done(self, stage: str, key: str) -> bool:
        """True if this stage ended with the same key and its outputs are unchanged."""
        try:
            record = read_json(self._record(stage))
            outputs = record["outputs"].items()
            return record["key"] == key and all(file_hash(self.path / name) == digest for name, digest in outputs)
        except (InputError, OSError, KeyError, TypeError, AttributeError):
            return False

    def close_stage(self, stage: str, key: str, outputs: list[str], seconds: float) -> None:
        hashes = {name: file_hash(self.path / name) for name in outputs}
        write_json(self._record(stage), {"key": key, "seconds": round(seconds, 3), "outputs": hashes})

    def stage_seconds(self, names: list[str]) -> dict[str, float]:
        """Seconds each of these stages took, as far as they are finished."""
        found = {}
        for name in names:
            try:
                found[name] = float(read_json(self._record(name))["seconds"])
            except (InputError, KeyError, TypeError, ValueError):
                continue
        return found

    # -- provenance -----------------------------------------------------------------------------------------------

    def write_provenance(self, inputs: dict[str, str], seeds: list[int]) -> None:
        """provenance.json: what is needed to say where a figure came from."""
        write_json(
            self.path / "provenance.json",
            {
                "meshgnn": __version__,
                "commit": _commit(),
                "python": platform.python_version(),
                "platform": platform.platform(),
                "versions": {name: _version(name) for name in _PACKAGES},
                "command": sys.argv[1:],
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                "inputs": inputs,
                "seeds": seeds,
                "threads": os.cpu_count(),
                "ranks": int(os.environ.get("WORLD_SIZE", "1")),
            },
        )


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


@contextmanager
def stopwatch() -> Iterator[dict[str, Any]]:
    """`with stopwatch() as watch: ...; watch["seconds"]`."""
    watch: dict[str, Any] = {"seconds": 0.0}
    start = time.perf_counter()
    try:
        yield watch
    finally:
        watch["seconds"] = time.perf_counter() - start


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a run. Raises InputError when the folder is not a run."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise InputError(f"{folder}: is not a run folder (no config.json)")
    config = read_json(path)
    if not isinstance(config, dict) or not isinstance(config.get("overrides"), list):
        raise InputError(f"{path}: is not the configuration of a run")
    return json.loads(json.dumps(config))

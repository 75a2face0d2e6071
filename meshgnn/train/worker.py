"""A training process: reads its jobs as JSON from standard input and reports every validation as a JSON line.

Started by `meshgnn.train.fit`; not a command for users. It stops when nobody listens any more.
"""

import contextlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import torch

from meshgnn.command import guarded
from meshgnn.config import from_plain
from meshgnn.train.fit import TrainerConfig, train_member
from meshgnn.train.own_networks import imported


def main() -> int:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Nothing here reads what it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    order = json.load(sys.stdin)
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w")

    def report(news: dict[str, Any]) -> None:
        lines.write(json.dumps(news) + "\n")
        lines.flush()

    loaded: tuple[str, Any] | None = None
    with contextlib.redirect_stdout(sys.stderr):
        for job in order:
            if loaded is None or loaded[0] != job["task"]:
                loaded = job["task"], imported(job["kind"]).load(Path(job["task"]))
            train_member(
                loaded[1], from_plain(imported(job["network_kind"]), job["network"]),
                from_plain(TrainerConfig, job["trainer"]),
                member=job["member"], seed=job["seed"], fold=job["fold"], folder=Path(job["folder"]),
                key=job["key"], report=report, name=job["name"],
            )  # fmt: skip
            report({"member": job["name"], "done": True})
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))

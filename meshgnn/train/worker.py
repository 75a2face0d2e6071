"""A training process: reads its jobs as JSON from standard input, tells of every validation as JSON lines.

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
from meshgnn.nn import NetworkConfig
from meshgnn.train.fit import TrainerConfig, member_name, train_member
from meshgnn.train.task import TrainingTask


def main() -> int:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    order = json.load(sys.stdin)
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w")

    def tell(news: dict[str, Any]) -> None:
        lines.write(json.dumps(news) + "\n")
        lines.flush()

    network = from_plain(NetworkConfig, order["network"])
    config = from_plain(TrainerConfig, order["trainer"])
    task = TrainingTask.load(Path(order["task"]))
    with contextlib.redirect_stdout(sys.stderr):
        for job in order["jobs"]:
            folder = Path(order["folder"]) / member_name(job["seed"], job["fold"])
            train_member(task, network, config, **job, folder=folder, key=order["key"], tell=tell)
            tell({"member": folder.name, "done": True})
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))

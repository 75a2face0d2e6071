"""What `python -m features.pretrain` and `python -m features.extract` share: options, progress, exit codes, ranks."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import TypeVar

from tqdm import tqdm

from meshgnn.command import guarded
from meshgnn.config import Config, to_plain
from meshgnn.errors import InputError
from meshgnn.keys import listed
from meshgnn.override import override
from meshgnn.ranks import adopt_launcher, rank_and_world

C = TypeVar("C", bound=Config)


def leave_with_parent(every_s: float = 1.0) -> None:
    """End this process soon after the one that started it is gone.

    A torchrun that is killed cannot stop its ranks; they would wait for each other for ever, with all their memory.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every_s)
        print(
            "error: the process that started this rank is gone; the same command goes on", file=sys.stderr, flush=True
        )
        os._exit(1)  # the other threads may hang in a collective: nothing softer ends them

    Thread(target=watch, daemon=True).start()


class Bar:
    """A `Progress`: a bar on a terminal, one line per report in a log; rank 0 only."""

    def __init__(self, unit: str) -> None:
        self.quiet = rank_and_world()[0] != 0
        self.bar = tqdm(unit=unit, disable=True if self.quiet else None, leave=False)

    def __call__(self, step: str, done: int, total: int, figures: Mapping[str, float] | None = None) -> None:
        row = {name: f"{value:.4g}" for name, value in (figures or {}).items() if name != "step"}
        if self.bar.disable and not self.quiet:
            print(f"{done}/{total}", *(f"{name} {value}" for name, value in row.items()), flush=True)
        self.bar.total = total
        self.bar.set_description(step, refresh=False)
        self.bar.set_postfix(row, refresh=False)
        self.bar.update(done - self.bar.n)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()


def run(name: str, job: C, work: Callable[[C, Path], str], arguments: Sequence[str] | None = None) -> int:
    """Parse, work, tell. Exit codes are those of `meshgnn.command`.

    Args:
        name: of the module.
        job: its config with defaults.
        work: (config, output folder) -> last line to print.
        arguments: of the command line; those of the process if None.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}", epilog=listed(job), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, help="folder for the result; a killed run goes on there")
    parser.add_argument("--print-config", action="store_true", help="print the resolved config and stop")
    options = parser.parse_args(arguments)

    def go() -> int:
        config = override(job, options.sets)
        if options.print_config:
            print(json.dumps(to_plain(config), indent=2))
            return 0
        if options.out is None:
            raise InputError("no folder for the result; use --out DIR")
        adopt_launcher(os.environ)
        if rank_and_world()[1] > 1:
            leave_with_parent()
        text = work(config, options.out)
        if rank_and_world()[0] == 0:
            print(text, flush=True)
        return 0

    try:
        return guarded(go, stopped="stopped; the same command goes on")
    finally:
        if "torch" in sys.modules:  # commands without networks do not load it
            from torch import distributed

            if distributed.is_available() and distributed.is_initialized():
                distributed.destroy_process_group()

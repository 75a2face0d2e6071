"""The process that fills in: it lives on between rounds of one engine, so that nothing is loaded twice."""

import os
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from meshgnn.errors import InputError
from meshgnn.mapping.kept import Journal, State
from meshgnn.mapping.setup import Setup
from meshgnn.mapping.situation import open_brain, situation_of
from meshgnn.progress import Stopped
from meshgnn.source.area_table import AreaTable
from meshgnn.source.sections import read_stack

TOLD_S = 0.25
"""Progress is told at most so often."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a filling finds what it needs.

    Args:
        stack: stack folder.
        mesh: folder of its mesh, if there is one.
        state: state folder.
        areas: that may be drawn.
    """

    stack: Path
    mesh: Path | None
    state: Path
    areas: AreaTable


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a worker says of the job at hand.

    Args:
        kind: progress, done, stopped, failed.
        step, done, total: of progress.
        error: one line.
        trace: of a fault of ours.
    """

    kind: str
    step: str = ""
    done: int = 0
    total: int = 0
    error: str = ""
    trace: str = ""


def work(config: Setup.Config, engine: str, place: Place, tasks: Connection, stop: Any) -> None:
    """Take round folders from `tasks` and fill them, until it is closed.

    Args:
        config: of the engines; they are built here, so that the server loads none of what they need.
        engine: name of the one that works here.
        place: of everything.
        tasks: folders in, `Told` out.
        stop: shared byte, 1 to end the job at hand.
    """
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's; it ends this process by closing `tasks`
    parent, kept = os.getppid(), None
    while True:
        try:
            folder: Path = tasks.recv()
        except (EOFError, OSError):
            return
        last = 0.0

        def progress(step: str, done: int, total: int, figures: Mapping[str, float] | None = None, /) -> None:
            nonlocal last
            if time.monotonic() - last >= TOLD_S or done >= total:
                last = time.monotonic()
                tasks.send(Told(kind="progress", step=step, done=done, total=total))

        def stopped() -> bool:
            return bool(stop.value) or os.getppid() != parent

        try:
            if kept is None:
                progress("loading", 0, 1)
                setup = Setup(config)
                stack, brain = open_brain(place.stack, place.mesh, setup.maker)
                kept = (setup.engines[engine], stack, brain, read_stack(place.stack, minimum=1))
            one, stack, brain, every = kept
            with Journal(place.state, writing=False) as journal:
                state = State(journal)
            known = place.areas.class_of_name()
            rejected = [
                (review.section, known[review.area])
                for review in state.reviews()
                if review.decision == "reject" and known.get(review.area, -1) >= 0
            ]
            snapshot = place.state / "snapshots" / engine
            situation = situation_of(
                state.all_records(), stack, brain, place.areas, snapshot, every=every, rejected=rejected
            )
            one.check(situation)
            one.fill(situation, folder, progress, stopped)
            answer = Told(kind="stopped" if stopped() else "done")
        except Stopped:
            answer = Told(kind="stopped")
        except InputError as error:
            answer = Told(kind="failed", error=str(error))
        except OSError as error:
            answer = Told(kind="failed", error=f"{error.filename or 'a file'}: {error.strerror or error}")
        except Exception as error:
            kept = None
            text = " ".join(str(error).split())[:200]
            answer = Told(kind="failed", error=f"{type(error).__name__}: {text}", trace=traceback.format_exc())
        try:
            tasks.send(answer)
        except OSError:
            return

"""Checkpoints within an epoch, and the signals by which a cluster takes a job off its machine."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch

from meshgnn.errors import InputError
from meshgnn.store import drop_asides
from meshgnn.train.checkpoint import load_tree

REQUEUE = 75  # EX_TEMPFAIL of sysexits.h: nothing is wrong, try again
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def ready_to_requeue() -> Iterator[None]:
    """Before and after a training SIGUSR1 ends the process at once, with `REQUEUE`: there is nothing to keep."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(*_: Any) -> None:
        drop_asides()
        os._exit(REQUEUE)

    before = signal.signal(signal.SIGUSR1, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


class Stopped(Exception):
    """A signal asked for the end, and the state was written.

    Args:
        number: of the signal.
        step: that was reached.
    """

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}; the same command goes on")
        self.number = number

    @property
    def code(self) -> int:
        """Of the process: SIGUSR1 is what Slurm sends before the time is up, and asks for another turn."""
        return REQUEUE if self.number == signal.SIGUSR1 else 128 + self.number


class StepCheckpoints(L.Callback):
    """Writes the state every so many steps, and at the next step after a signal, when all ranks stop together.

    The end of an epoch is left to the checkpoint that is written there.

    Args:
        path: of the file.
        every: so many steps; 0 = at signals alone.
        epoch_steps: steps of an epoch.
    """

    def __init__(self, path: Path, every: int, epoch_steps: int) -> None:
        self.path, self.every, self.epoch_steps = path, every, epoch_steps
        self.asked = 0
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:  # in place of Lightning's, which send messages from within a handler
                self._before[number] = signal.signal(number, self._note)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.asked = number

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        step = trainer.global_step
        if step % self.epoch_steps == 0:
            return
        asked = self._by_any(trainer)
        if asked or (self.every and step % self.every == 0):
            trainer.save_checkpoint(self.path)
        if asked:
            raise Stopped(asked, step)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step and (asked := self._by_any(trainer)):  # the epoch's checkpoint was just written
            raise Stopped(asked, trainer.global_step)

    def _by_any(self, trainer: L.Trainer) -> int:
        """The signal that any rank was given; 0 = none."""
        if trainer.world_size == 1:
            return self.asked
        found = torch.tensor(self.asked, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return int(found)

    def restore(self) -> None:
        """Put the handlers back that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


def refuse_other(path: Path, module: torch.nn.Module) -> None:
    """Raises InputError for a checkpoint that holds the state of another network."""
    state = load_tree(path).get("state_dict", {})
    mine = module.state_dict()
    strange = sorted(set(state) ^ set(mine)) or [name for name in mine if mine[name].shape != state[name].shape]
    if strange:
        raise InputError(
            f"{path}: is the checkpoint of another encoder or objective ({strange[0]}); delete it to begin again"
        )

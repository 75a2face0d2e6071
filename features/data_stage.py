"""The data stage of a training: batches read (and changed) ahead of the steps by threads, and what that costs.

What a batch holds depends on its step alone, never on the number of threads: whoever makes it draws from (seed, step).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from features.ahead import ahead
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError

STAGE = "stage.json"  # the account of a finished training
_BOUND = 0.1  # share of its time that a training may wait for data before it is called data-bound


class DataStage:
    """Makes batches ahead and keeps account of it."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """None of these changes what is learnt, but for the rounding of `where` on another device.

        Args:
            workers: threads that read and change batches.
            waiting: batches that wait at most, beside those being made.
            where: items are changed from view to view on the encoder's device, within the step, or by the workers on
                the CPU, ahead of it.
        """

        workers: int = 1
        waiting: int = 2
        where: Literal["device", "workers"] = "device"

        def __post_init__(self) -> None:
            if self.workers < 1 or self.waiting < 0:
                raise SettingError("<workers> must be at least 1, <waiting> not negative")

        def build(self) -> "DataStage":
            return DataStage(self)

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or DataStage.Config()
        self._sums: dict[str, float] = dict.fromkeys(
            ("read_s", "read_bytes", "change_s", "changed", "wait_s", "total_s", "depth", "batches", "unreadable"), 0.0
        )
        self._lock = Lock()
        self._ready = 0

    def batches(self, make: Callable[[int], Any], steps: Sequence[int]) -> Iterator[Any]:
        """`make` of every step in turn."""

        def made(step: int) -> Any:
            batch = make(step)
            with self._lock:
                self._ready += 1
            return batch

        start = None  # of the first step: until then the stage is being filled
        source = ahead(made, steps, workers=self.config.workers, waiting=self.config.waiting)
        while True:
            asked = time.perf_counter()
            with self._lock:
                depth = self._ready
            try:
                batch = next(source)
            except StopIteration:
                return
            now = time.perf_counter()
            with self._lock:
                self._ready -= 1
                if start is not None:
                    self._add(wait_s=now - asked, total_s=now - start, depth=depth, batches=1)
            start = now
            yield batch

    def read(
        self, read: Callable[[NDArray[np.int64]], tuple[NDArray[np.float32], NDArray[np.bool_]]],
        items: NDArray[np.int64],
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:  # fmt: skip
        """Items [B, ...], and which of them [B] could be read.

        Raises:
            InputError: none of them can be read.
        """
        start = time.perf_counter()
        found, good = read(items)
        if not good.any():
            raise InputError("no item of a whole batch could be read; look at the images of the stack")
        with self._lock:
            self._add(read_s=time.perf_counter() - start, read_bytes=found.nbytes, unreadable=int((~good).sum()))
        return found, good

    def changed(self, change: Callable[[], Any], items: int) -> Any:
        """What `change` gives, timed; it changes so many items."""
        start = time.perf_counter()
        out = change()
        with self._lock:
            self._add(change_s=time.perf_counter() - start, changed=items)
        return out

    def _add(self, **values: float) -> None:
        for name, value in values.items():
            self._sums[name] += value

    def report(self) -> dict[str, Any]:
        """JSON-ready: MB/s of one reading thread, ms per changed item, batches waiting, share of its time that the
        training waited, and what that means. A GPU changes items while the CPU goes on: its ms are those of the call.
        """
        with self._lock:
            s = dict(self._sums)
        idle = s["wait_s"] / s["total_s"] if s["total_s"] else 0.0
        return {
            "read_mb_per_s": s["read_bytes"] / 1e6 / s["read_s"] if s["read_s"] else 0.0,
            "ms_per_augmentation": 1e3 * s["change_s"] / s["changed"] if s["changed"] else 0.0,
            "queue_depth": s["depth"] / s["batches"] if s["batches"] else 0.0,
            "idle_share": idle,
            "items_unreadable": int(s["unreadable"]),
            "bound": "data-bound" if idle > _BOUND else "compute-bound",
        }


def told(report: Mapping[str, Any]) -> str:
    """A report in one line."""
    line = (
        f"{report['bound']}: {report['read_mb_per_s']:.0f} MB/s read, {report['ms_per_augmentation']:.2f} ms per "
        f"augmentation, {report['queue_depth']:.1f} batches waiting, training idle {report['idle_share']:.0%}"
    )
    lost = report["items_unreadable"]
    return f"{line}; {lost} items could not be read and were left out" if lost else line

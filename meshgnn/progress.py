"""How long work reports how far it is: one type for all of it."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol


class Progress(Protocol):
    """Called again and again while work goes on; a bar, a line in a log, or nothing (`silent`)."""

    def __call__(self, step: str, done: int, total: int, figures: Mapping[str, float] | None = None, /) -> None:
        """
        Args:
            step: what is being done.
            done, total: of its parts; it is finished when they are equal.
            figures: what is known so far, by name (a loss), if anything.
        """
        ...


def silent(step: str, done: int, total: int, figures: Mapping[str, float] | None = None, /) -> None:
    """Tells nobody."""


class Stopped(Exception):
    """Work was ended on request before it was done; what it kept is gone on with."""


def heeding(progress: Progress, stopped: Callable[[], bool]) -> Progress:
    """The same, which raises `Stopped` once `stopped()` is true: for work that reports and cannot be asked to end."""

    def told(step: str, done: int, total: int, figures: Mapping[str, float] | None = None, /) -> None:
        progress(step, done, total, figures)
        if stopped():
            raise Stopped

    return told


class TerminalBars:
    """A `Progress`: one bar per step on a terminal, nothing elsewhere."""

    def __init__(self) -> None:
        self.bars: dict[str, Any] = {}

    def __call__(self, step: str, done: int, total: int, figures: Mapping[str, float] | None = None, /) -> None:
        from tqdm import tqdm

        bar = self.bars.setdefault(step, tqdm(total=total, desc=step, disable=None, leave=False))
        if figures:
            bar.set_postfix({name: f"{value:.3g}" for name, value in figures.items()}, refresh=False)
        bar.update(done - bar.n)
        if done >= total:
            bar.close()

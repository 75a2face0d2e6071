"""What a training reads while the network runs."""

from collections.abc import Callable, Iterator, Sequence
from queue import Queue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


def ahead(make: Callable[[T], Any], items: Sequence[T]) -> Iterator[Any]:
    """`make` of every item in turn, made ahead by a thread, two at most waiting; its errors are raised here."""
    ready: Queue[Any] = Queue(2)

    def fill() -> None:
        try:
            for item in items:
                ready.put(make(item))
        except Exception as error:  # handed on to the thread that asks
            ready.put(error)

    Thread(target=fill, daemon=True).start()
    for _ in items:
        found = ready.get()
        if isinstance(found, Exception):
            raise found
        yield found

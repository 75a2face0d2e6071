"""What a training reads while the network runs."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def ahead(make: Callable[[T], Any], items: Sequence[T], *, workers: int = 1, waiting: int = 2) -> Iterator[Any]:
    """`make` of every item in turn, made ahead by threads; its errors are raised here, at the item's turn.

    What comes and in which order does not depend on the number of threads.

    Args:
        make: may be called by several threads at a time where `workers` is above 1.
        items: what it is called with.
        workers: threads.
        waiting: results that wait at most, beside those being made.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ahead")
    ready: deque[Future[Any]] = deque()
    rest = iter(items)
    try:
        while True:
            while len(ready) < workers + waiting and (item := next(rest, rest)) is not rest:
                ready.append(pool.submit(make, item))  # type: ignore[arg-type]  # the end has been told apart
            if not ready:
                return
            yield ready.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)

"""Large arrays in memory that is used again once nobody holds them any more."""

import math
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEPT = 3  # free pieces: one that is read, one that waits, one that the network is at


class ReusedMemory:
    """Gives out float32 arrays of any shape, and takes their memory back when the last view of them is gone.

    Memory that a process has just got from the system is cleared page by page when it is first written to, which takes
    a quarter of the time of reading a window of a run. Several threads may ask at once.
    """

    def __init__(self) -> None:
        self._free: list[NDArray[np.float32]] = []

    def array(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """An array whose values are whatever stood there before."""
        size = math.prod(shape)
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(size, np.float32)
        if not size <= memory.size <= 4 * size:
            memory = np.empty(size, np.float32)
        lent = _Lent(memory[:size].reshape(shape))
        weakref.finalize(lent, self._back, memory).atexit = False
        # The array does not own its memory, so that every view of it, a tensor too, holds on to what was lent.
        return np.asarray(lent)

    def _back(self, memory: NDArray[np.float32]) -> None:
        if len(self._free) < KEPT:
            self._free.append(memory)


class _Lent:
    """The one object that all views of an array keep alive."""

    def __init__(self, memory: NDArray[np.float32]) -> None:
        self.__array_interface__: dict[str, Any] = memory.__array_interface__

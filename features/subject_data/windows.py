"""Which windows a run of so many frames holds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import SettingError


def spread(count: int, most: int) -> NDArray[np.int64]:
    """At most so many of the numbers 0 to count - 1, evenly spread from the first to the last; all if `most` is 0."""
    if not 0 < most < count:
        return np.arange(count)
    return np.linspace(0, count - 1, most).round().astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows of `frames` frames, `stride` frames apart; both at least 1.

    A run of T frames holds (T - frames) // stride + 1 of them: 1180 frames hold 59 windows of 20 frames, 20 apart.
    """

    frames: int
    stride: int

    def __post_init__(self) -> None:
        if self.frames < 1 or self.stride < 1:
            raise SettingError("<frames> and <stride> must be at least 1")

    def count(self, length: int) -> int:
        """Of a run of `length` frames; 0 if it is shorter than a window."""
        return max(0, (length - self.frames) // self.stride + 1)

    def starts(self, length: int) -> NDArray[np.int64]:
        """[W] of all of them, from 0."""
        return np.arange(self.count(length), dtype=np.int64) * self.stride

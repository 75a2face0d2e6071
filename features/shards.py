"""Shards of a table on disk: each written once, atomically, with a checksum, by whichever rank did it.

Ranks share nothing but the folder: no rank waits for another but the one that joins the shards, and it does what the
others leave undone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.store import read_arrays, write_arrays

_NAMES = ("nodes", "values", "good")


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Shard:
    """Embeddings of some nodes.

    Args:
        nodes: [n] their numbers.
        values: [n, C] float32; zeros where an item could not be read.
        good: [n] bool, items that could be read.
    """

    nodes: NDArray[np.int64]
    values: NDArray[np.float32]
    good: NDArray[np.bool_]


class ShardFolder:
    """The shards of one table; a file that is not what was written counts as not there.

    Args:
        folder: of the files.
        parts: nodes of every shard, the same on all ranks.
        channels: columns of the table.
    """

    def __init__(self, folder: Path, parts: Sequence[NDArray[np.int64]], channels: int) -> None:
        self.folder, self.parts, self.channels = folder, parts, channels

    def path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.safetensors"

    def write(self, number: int, shard: Shard) -> None:
        """Raises InputError when it cannot be written: a full disk."""
        arrays: dict[str, NDArray[Any]] = {name: getattr(shard, name) for name in _NAMES}
        arrays["good"] = shard.good.astype(np.uint8)
        write_arrays(self.path(number), arrays | {"sha256": _digest(arrays)})

    def read(self, number: int) -> Shard | None:
        """A shard; None if it is not there, damaged, or one of other nodes."""
        try:
            arrays = read_arrays(self.path(number))
        except InputError:
            return None
        wanted = self.parts[number]
        if set(arrays) != {*_NAMES, "sha256"} or not np.array_equal(arrays["sha256"], _digest(arrays)):
            return None
        if not np.array_equal(arrays["nodes"], wanted) or arrays["values"].shape != (len(wanted), self.channels):
            return None
        return Shard(nodes=wanted, values=arrays["values"], good=arrays["good"].astype(bool))

    def missing(self) -> list[int]:
        """Shards that are not there at all; whether the others are whole is found when they are read."""
        return [number for number in range(len(self.parts)) if not self.path(number).is_file()]


def _digest(arrays: dict[str, NDArray[Any]]) -> NDArray[np.uint8]:
    digest = sha256()
    for name in _NAMES:
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode() + array.tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def joined(
    shards: Sequence[Shard], wanted: NDArray[np.bool_], channels: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values [V, C] and mask [V] of a table.

    Raises:
        RuntimeError: a node that stands in two shards or in none.
    """
    values = np.zeros((len(wanted), channels), np.float32)
    mask, count = np.zeros(len(wanted), bool), np.zeros(len(wanted), np.int32)
    for shard in shards:
        np.add.at(count, shard.nodes, 1)
        values[shard.nodes], mask[shard.nodes] = shard.values, shard.good
    if not (count == wanted).all():
        raise RuntimeError("a node was encoded twice or not at all")
    return values, mask

"""Limits on files: sizes that headers declare are checked before memory is allocated."""

from pathlib import Path

from meshgnn.errors import InputError

# All arrays of one file together. The largest real ones, long time series on 164,000 vertices, stay below.
LIMIT_BYTES = 1 << 30


def check_declared(path: Path, declared: int, held: int, *, packing: int = 1, limit: int = LIMIT_BYTES) -> None:
    """Refuse a file that declares more bytes than it can hold.

    Args:
        declared: bytes of its arrays by its own header.
        held: bytes of the file that carry them.
        packing: how many bytes one byte of the file can stand for at most (compression).
        limit: bytes that are read from one file of this kind at most.

    Raises:
        InputError: more than the limit, less than nothing, or more than the file holds.
    """
    if declared < 0:
        raise InputError(f"{path}: its header declares a negative size; the file is damaged")
    if declared > held * packing:
        raise InputError(
            f"{path}: its header declares {declared} bytes of data, the file holds {held}; it is truncated or damaged"
        )
    if declared > limit:
        raise InputError(
            f"{path}: declares {declared / 2**30:.1f} GiB of data; at most {limit / 2**30:.0f} GiB are read from "
            "one file"
        )

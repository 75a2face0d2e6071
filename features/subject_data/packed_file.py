"""One file of a store: magic bytes, a header in JSON, then blocks of bytes whose sizes and checksums the header names.

8 bytes magic | 4 bytes length of the header, little-endian | header | block, block, ...
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from features.subject_data.chunks import checksum
from meshgnn.store import written_aside

LONGEST = 1 << 20  # bytes of a header


def write_packed(path: Path, magic: bytes, about: Mapping[str, Any], blocks: Sequence[bytes]) -> None:
    """Write a file aside and rename it; `sizes` and `crcs` of the blocks are added to the header.

    Raises:
        InputError: it cannot be written.
    """
    tail = {"sizes": [len(block) for block in blocks], "crcs": [checksum(block) for block in blocks]}
    text = json.dumps({**about, **tail}, allow_nan=False).encode()
    with written_aside(path) as aside, aside.open("wb") as handle:
        handle.write(magic + len(text).to_bytes(4, "little") + text)
        handle.writelines(blocks)


def packed_header(path: Path, magic: bytes) -> dict[str, Any] | None:
    """The header, with `start` = where the first block begins; None if there is no such file, or of another kind."""
    try:
        with path.open("rb") as handle:
            if handle.read(8) != magic:
                return None
            length = int.from_bytes(handle.read(4), "little")
            if length > LONGEST:
                return None
            header = json.loads(handle.read(length))
    except (OSError, ValueError, RecursionError):
        return None
    return header | {"start": 12 + length} if isinstance(header, dict) else None


def is_whole(path: Path, header: Mapping[str, Any]) -> bool:
    """Whether every block stands there undamaged, and nothing behind them."""
    try:
        with path.open("rb") as handle:
            handle.seek(header["start"])
            for size, crc in zip(header["sizes"], header["crcs"]):
                block = handle.read(size)
                if len(block) != size or checksum(block) != crc:
                    return False
            return handle.read(1) == b""
    except (OSError, KeyError, TypeError, ValueError):
        return False

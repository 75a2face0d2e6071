"""One file of a store: magic bytes, a header in JSON, then blocks of bytes whose sizes and checksums the header names.

8 bytes magic | 4 bytes length of the header, little-endian | header | block, block, ...
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from features.subject_data.chunks import checksum
from meshgnn.errors import InputError
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


class PackedWriter:
    """What writers of stores with one such file per subject have in common; whatever is finished stays when they are
    killed.

    A class of its own says where a file lies (`_path`) and what its header must say (`_same`), and writes the index.
    """

    magic: ClassVar[bytes]
    folder: Path

    def _path(self, name: str) -> Path:
        raise NotImplementedError

    def _same(self) -> Mapping[str, Any]:
        """What the header of every file of this store says."""
        raise NotImplementedError

    def _header(self, name: str) -> dict[str, Any] | None:
        """What the file of a subject says of itself; None if there is none, or not of this store."""
        header = packed_header(self._path(name), self.magic)
        if header is None or any(header.get(key) != value for key, value in self._same().items()):
            return None
        return header

    def has(self, name: str, key: str) -> bool:
        """Whether this subject's file stands there complete, made by the same settings (`key`) and undamaged."""
        header = self._header(name)
        return header is not None and header.get("key") == key and is_whole(self._path(name), header)

    def content(self, name: str) -> str:
        """The hash of the image that a finished file was made of; "" if it is not known."""
        return str((self._header(name) or {}).get("content", ""))

    def _headers(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Of these subjects, for the index. Raises InputError: nobody, somebody twice, or a file that is not there."""
        if not names or len(set(names)) != len(names):
            raise InputError(f"{self.folder}: a store needs subjects, each once")
        headers = []
        for name in names:
            header = self._header(name)
            if header is None:
                raise InputError(f"{self._path(name)}: is not there or damaged; convert it again")
            headers.append(header)
        return headers

"""What an image is recognised by: all of its bytes, or a fixed sample of them where it is large."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from meshgnn.errors import InputError

WHOLE_BYTES = 1 << 28
"""Larger files (256 MiB) are not hashed whole: size, first and last MiB, and 64 blocks of 64 KiB between them are. The
time of change plays no part. A change that leaves the size alone and lies between the blocks is not noticed."""
_END, _BLOCK, _BLOCKS = 1 << 20, 1 << 16, 64
_CHUNKS = 64  # of a folder, that are hashed


def image_hash(path: Path) -> str:
    """16 hex digits by which an image is recognised, with "sampled-" before them where not every byte was read."""
    digest = sha256()
    sampled = False
    for part in contents(path):
        sampled |= part is None
        digest.update(part or b"")
    return ("sampled-" if sampled else "") + digest.hexdigest()[:16]


def contents(path: Path) -> Iterator[bytes | None]:
    """The bytes that stand for an image; None once if they are a sample.

    Raises:
        InputError: it cannot be read.
    """
    try:
        if path.is_dir():
            yield from _folder(path)
            return
        beside = path.with_suffix("")
        if path.suffix.lower() == ".mrxs" and beside.is_dir():  # its pixels lie in a folder of the same name
            yield from _folder(beside)
        size = path.stat().st_size
        with path.open("rb") as handle:
            if size <= WHOLE_BYTES:
                while block := handle.read(1 << 22):
                    yield block
                return
            yield None
            yield f"{size}".encode()
            yield handle.read(_END)
            for k in range(_BLOCKS):
                handle.seek(_END + (size - 2 * _END - _BLOCK) * k // (_BLOCKS - 1))
                yield handle.read(_BLOCK)
            handle.seek(size - _END)
            yield handle.read(_END)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _folder(path: Path) -> Iterator[bytes | None]:
    """Names and sizes of all files, metadata whole, and the contents of a few chunks."""
    files = sorted(one for one in path.rglob("*") if one.is_file())
    for one in files:
        yield f"{one.relative_to(path).as_posix()}\0{one.stat().st_size}\n".encode()
    about = [one for one in files if one.name in ("zarr.json", ".zattrs", ".zarray", ".zgroup")]
    chunks = [one for one in files if one not in set(about)]
    if sum(one.stat().st_size for one in chunks) > WHOLE_BYTES:
        yield None
        chunks = (
            [chunks[k * (len(chunks) - 1) // (_CHUNKS - 1)] for k in range(_CHUNKS)]
            if len(chunks) > _CHUNKS
            else chunks
        )
    for one in [*about, *chunks]:
        for part in contents(one):
            if part is not None:
                yield part

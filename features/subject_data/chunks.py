"""Values of a volume in one or two bytes each, and their compressed chunks with checksums.

Of the codecs that imagecodecs brings, zstd packs T1-like volumes about as well as any (3.7 : 1 in one byte, against 3.6
of deflate and 3.2 of lz4) and unpacks them about three times as fast as deflate; lz4 unpacks faster still, and takes 16
per cent more room. Shuffling bytes or bits first gains next to nothing, since a brain lies in much background.
`benchmarks/volumetric.py` takes the figures.
"""

import zlib
from dataclasses import dataclass
from typing import Any, Literal

import numba
import numpy as np
from imagecodecs import zlibng_crc32, zstd_decode, zstd_encode
from numpy.typing import NDArray

from meshgnn.errors import InputError

Kind = Literal["uint8", "float16"]
LEVEL = 5
CHUNK_BYTES = 1 << 23  # of values, before compression: a volume of 128 voxels a side is one chunk


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """A volume as it is stored: value = offset + scale * number.

    Args:
        chunks: compressed, in order of the first axis.
        offset, scale: from numbers to values.
    """

    chunks: tuple[bytes, ...]
    offset: float
    scale: float


def quantised(values: NDArray[np.floating], kind: Kind) -> tuple[NDArray[Any], float, float]:
    """Numbers of one or two bytes, offset and scale: value = offset + scale * number.

    One byte holds 256 even steps between the smallest and the largest value; two bytes hold 11 bits of precision
    relative to the largest value, with 0 kept exactly.
    """
    low, high = float(values.min()), float(values.max())
    if kind == "uint8":
        # Where 0 is the smallest value, it stays exactly 0: background must.
        scale = (high - low) / 255 or 1.0
        return np.rint((values - low) / scale).astype(np.uint8), low, scale
    scale = max(abs(low), abs(high)) or 1.0
    return (values / scale).astype(np.float16), 0.0, scale


def rows_of(shape: tuple[int, ...], kind: Kind) -> list[slice]:
    """Which planes of the first axis each chunk holds."""
    plane = int(np.prod(shape[1:])) * np.dtype(kind).itemsize
    step = max(1, CHUNK_BYTES // max(plane, 1))
    return [slice(k, min(k + step, shape[0])) for k in range(0, shape[0], step)]


def pack(values: NDArray[np.floating], kind: Kind) -> Packed:
    """A volume [X, Y, Z], compressed."""
    numbers, offset, scale = quantised(values, kind)
    chunks = tuple(
        bytes(zstd_encode(np.ascontiguousarray(numbers[rows]).tobytes(), LEVEL))
        for rows in rows_of(numbers.shape, kind)
    )
    return Packed(chunks=chunks, offset=offset, scale=scale)


def checksum(data: Any) -> int:
    """CRC-32 of bytes, the one of zip and gzip."""
    return int(zlibng_crc32(data))


def unpack_into(chunk: Any, crc: int, out: NDArray[Any], whose: str) -> None:
    """Decompress a chunk into numbers [rows, Y, Z] of the stored kind.

    Raises:
        InputError: the bytes are not those that were written.
    """
    flat: Any = out.reshape(-1).view(np.uint8)
    try:
        if checksum(chunk) != crc:
            raise ValueError
        if len(zstd_decode(chunk, out=flat)) != flat.size:
            raise ValueError
    except (ValueError, RuntimeError, zlib.error):
        raise InputError(f"{whose}: what it holds is damaged (its checksum differs); convert it again") from None


@numba.njit(cache=True, nogil=True)
def _of_bytes(numbers, factor, offset, out):  # pragma: no cover
    for k in range(numbers.size):
        out[k] = numbers[k] * factor + offset


@numba.njit(cache=True, nogil=True)
def _moved_bits(numbers, bits):  # pragma: no cover
    for k in range(numbers.size):
        one = np.uint32(numbers[k])
        bits[k] = ((one & np.uint32(0x7FFF)) << np.uint32(13)) | ((one & np.uint32(0x8000)) << np.uint32(16))


@numba.njit(cache=True, nogil=True)
def _scaled(out, factor, offset):  # pragma: no cover
    for k in range(out.size):
        out[k] = out[k] * np.float32(2.0**112) * factor + offset


@numba.njit(cache=True, nogil=True)
def _of_halves(numbers, factor, offset, bits, out):  # pragma: no cover
    # The exponent and fraction of a half, moved to their places in a single, are its value times 2^-112; numpy's own
    # conversion takes several times as long. In blocks that stay in the nearest cache, by functions that the compiler
    # can make vector code of.
    for first in range(0, numbers.size, 4096):
        part = slice(first, first + 4096)
        _moved_bits(numbers[part], bits[part])
        _scaled(out[part], factor, offset)


def values_into(numbers: NDArray[Any], factor: float, offset: float, out: NDArray[np.float32]) -> None:
    """out = offset + factor * numbers, all of one shape and contiguous."""
    flat, single, shift = out.reshape(-1), np.float32(factor), np.float32(offset)
    if numbers.dtype == np.uint8:
        _of_bytes(numbers.reshape(-1), single, shift, flat)
    else:
        _of_halves(numbers.reshape(-1).view(np.uint16), single, shift, flat.view(np.uint32), flat)

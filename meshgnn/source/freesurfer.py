"""FreeSurfer surfaces, per-vertex values and annotations. Parsing is nibabel's."""

import gzip
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from nibabel import freesurfer
from nibabel.freesurfer import MGHImage
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.source.limits import check_declared
from meshgnn.source.socket import LabelTable

_TRIANGLES, _QUADS, _FLOAT_QUADS = 16777214, 16777215, 16777213
_NEW_CURV = 16777215
_ENTRIES = 1_000_000  # of a colour table
_MGH_HEADER = 284
_MGH_BYTES = {0: 1, 1: 4, 3: 4, 4: 2}  # of a number, by the code of its type
_DEFLATE = 1032  # bytes that one byte of deflate can stand for at most


def _read(reader: Callable[..., Any], path: Path, what: str, declared: Callable[[BinaryIO], int] | None = None) -> Any:
    """The reader's result, after what the header declares was compared with the file's length."""
    try:
        if declared is not None:
            with path.open("rb") as handle:
                size = declared(handle)
                check_declared(path, size, path.stat().st_size - handle.tell())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of empty files; told below in our words
            return reader(str(path))
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    except Exception as error:  # nibabel raises many kinds on damaged files
        raise InputError(f"{path}: not a readable FreeSurfer {what} ({type(error).__name__}: {error})") from None


def _numbers(handle: BinaryIO, count: int, width: int = 4) -> list[int]:
    """Big-endian whole numbers of `width` bytes, unsigned if 3 bytes wide. Raises ValueError at the file's end."""
    found = []
    for _ in range(count):
        raw = handle.read(width)
        if len(raw) < width:
            raise ValueError("the file ends in its header")
        found.append(int.from_bytes(raw, "big", signed=width == 4))
    return found


def _sum(*sizes: int) -> int:
    """Sum of sizes; -1 if one is negative."""
    return -1 if min(sizes) < 0 else sum(sizes)


def _surface_bytes(handle: BinaryIO) -> int:
    magic = _numbers(handle, 1, 3)[0]
    if magic in (_QUADS, _FLOAT_QUADS):
        vertices, quads = _numbers(handle, 2, 3)
        return vertices * (6 if magic == _QUADS else 12) + quads * 12
    if magic != _TRIANGLES:
        raise ValueError(f"its magic number {magic} is not one of a surface")
    handle.readline(1000)  # who made it
    handle.readline(1000)
    vertices, faces = _numbers(handle, 2)
    return _sum(vertices * 12, faces * 12)


def _values_bytes(handle: BinaryIO) -> int:
    magic = _numbers(handle, 1, 3)[0]
    if magic != _NEW_CURV:
        _numbers(handle, 1, 3)
        return magic * 2
    vertices, _, per_vertex = _numbers(handle, 3)
    if per_vertex != 1:
        raise ValueError(f"it holds {per_vertex} values per vertex; one is read")
    return _sum(vertices * 4)


def _annotation_bytes(handle: BinaryIO) -> int:
    vertices = _numbers(handle, 1)[0]
    start = handle.tell()
    handle.seek(max(vertices, 0) * 8, 1)
    try:
        has_table, entries = _numbers(handle, 2)
        if has_table and entries < 0:  # the new format states its version as a negative number first
            entries = _numbers(handle, 1)[0]
        if has_table and not 0 <= entries <= _ENTRIES:
            raise ValueError(f"its colour table declares {entries} entries")
    finally:
        handle.seek(start)
    return _sum(vertices * 8)


def read_surface(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Vertices [V, 3] in mm (FreeSurfer's surface RAS) and faces [F, 3] of lh.pial, lh.white, lh.sphere, ..."""
    vertices, faces = _read(freesurfer.read_geometry, path, "surface", _surface_bytes)[:2]
    return np.asarray(vertices, np.float32), np.asarray(faces).astype(np.int32)


def read_values(path: Path) -> NDArray[np.float32]:
    """Values [V] of lh.curv, lh.sulc, lh.thickness, ..."""
    return np.asarray(_read(freesurfer.read_morph_data, path, "curv file", _values_bytes), np.float32)


def read_annotation(path: Path) -> tuple[NDArray[np.int32], LabelTable]:
    """Keys [V] and table (key -> name, RGBA) of an `.annot`. Key 0 = none; structure k of the table gets key k + 1."""
    labels, table, names = _read(freesurfer.read_annot, path, "annotation", _annotation_bytes)
    keys = np.asarray(labels, np.int64) + 1
    keys[keys < 0] = 0
    entries = {
        index + 1: (name.decode("utf-8", "replace"), (*(float(value) / 255 for value in table[index][:3]), 1.0))
        for index, name in enumerate(names)
    }
    return keys.astype(np.int32), entries


def read_vertex_list(path: Path) -> NDArray[np.int64]:
    """Vertex numbers listed in a `.label` file (lh.cortex.label)."""
    listed = np.atleast_1d(np.asarray(_read(freesurfer.read_label, path, "label file"), np.int64))
    if listed.min(initial=0) < 0:
        raise InputError(f"{path}: lists vertex {int(listed.min())}; vertex numbers count from 0")
    return listed


def frames_of(path: Path) -> int:
    """How many frames a `.mgh` or `.mgz` file declares; 0 for one that is neither."""
    shape = _mgh_start(path)[0]
    return 0 if shape is None else shape[3]


def read_series(path: Path) -> NDArray[np.float32]:
    """Values [V, T] of a `.mgh` or `.mgz` file whose voxels are the vertices, T frames.

    Raises:
        InputError: damaged, or larger than it can be.
    """
    shape, kind = _mgh_start(path)
    if shape is None or min(shape) < 1 or kind not in _MGH_BYTES:
        raise InputError(f"{path}: not a readable FreeSurfer volume (shape {shape}, type {kind})")
    packed = path.name.endswith(".mgz")
    size = int(np.prod(shape, dtype=object))
    check_declared(path, size * _MGH_BYTES[kind], path.stat().st_size, packing=_DEFLATE if packed else 1)
    check_declared(path, size * 4, size * 4)
    image = _read(lambda name: np.asarray(MGHImage.from_filename(name).dataobj, np.float32), path, "volume")
    return np.asarray(image.reshape(-1, shape[3], order="F"), np.float32)


def _mgh_start(path: Path) -> tuple[tuple[int, int, int, int] | None, int]:
    """Shape [4] and type of the header; None where it is no such file."""
    try:
        with gzip.open(path, "rb") if path.name.endswith(".mgz") else path.open("rb") as handle:
            start = handle.read(_MGH_HEADER)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: is a damaged gzip file ({error})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    version, x, y, z, frames, kind = (int.from_bytes(start[4 * k : 4 * k + 4], "big", signed=True) for k in range(6))
    whole = len(start) == _MGH_HEADER and version == 1
    return ((x, y, z, frames) if whole else None), kind

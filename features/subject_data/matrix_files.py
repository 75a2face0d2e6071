"""Square matrices of subjects from files: .npy without pickles, and text; checked before memory is taken."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.source.limits import check_declared


def npy_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of a .npy file, whose declared size the file holds.

    Raises:
        InputError: not a .npy file, truncated, or of Python objects (which only a pickle could hold).
    """
    try:
        with path.open("rb") as handle:
            version = npy.read_magic(handle)
            read: Any = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
            if read is None:
                raise ValueError("unknown version")
            shape, _, kind = read(handle)
            start = handle.tell()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, TypeError, SyntaxError):
        raise InputError(f"{path}: is not a .npy file") from None
    if kind.hasobject or kind.kind not in "fiub":
        raise InputError(f"{path}: holds {kind}, not numbers; objects would have to be unpickled, which is refused")
    check_declared(path, math.prod(shape) * kind.itemsize, path.stat().st_size - start)
    return shape, kind


def read_matrix(path: Path) -> NDArray[np.float32]:
    """[R, R] of a .npy, .tsv, .csv or .txt file; text may have one header row.

    Raises:
        InputError: unreadable, or not a square matrix of finite numbers that equals its transpose.
    """
    if path.suffix == ".npy":
        npy_header(path)
        return checked(np.load(path, allow_pickle=False), str(path))
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        sign = "," if path.suffix == ".csv" else None
        rows = [line.split(sign) for line in lines if line.strip()]
        values = [[_number(cell) for cell in row] for row in rows]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error})") from None
    if len(values) > 1 and all(np.isnan(values[0])):  # names of regions
        values = values[1:]
    if not values or len({len(row) for row in values}) != 1:
        raise InputError(f"{path}: its rows are of different lengths; a square matrix is needed")
    return checked(np.array(values), str(path))


def checked(matrix: NDArray[Any], where: str) -> NDArray[np.float32]:
    """The matrix as float32; see `read_matrix`. The diagonal is not looked at."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise InputError(f"{where}: shape {matrix.shape}; a square matrix [R, R] is needed")
    values = matrix.astype(np.float64)
    np.fill_diagonal(values, 0)
    if not np.isfinite(values).all():
        raise InputError(f"{where}: {int((~np.isfinite(values)).sum())} entries are NaN or infinite")
    if not np.allclose(values, values.T, rtol=1e-4, atol=1e-5):
        raise InputError(f"{where}: differs from its transpose; connectivity has no direction here")
    return values.astype(np.float32)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan

"""CIFTI-2 files of both hemispheres: dense scalars, labels, series (`.dscalar.nii`, `.dlabel.nii`, `.dtseries.nii`)."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import nibabel as nib
import numpy as np
from nibabel.imageglobals import logger
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.source.area_table import LARGEST_KEY
from meshgnn.source.limits import LIMIT_BYTES, check_declared
from meshgnn.source.socket import LabelTable

_STRUCTURES = {"L": "CIFTI_STRUCTURE_CORTEX_LEFT", "R": "CIFTI_STRUCTURE_CORTEX_RIGHT"}
_EXACT = 2**24  # whole numbers from here on are rounded in single precision
Real = TypeVar("Real", np.float32, np.float64)
_AXES = {".dscalar.nii": "ScalarAxis", ".dlabel.nii": "LabelAxis", ".dtseries.nii": "SeriesAxis"}


@contextmanager
def _silence() -> Iterator[None]:
    """Silences nibabel, which logs every odd field of a damaged header."""
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def _load(path: Path, dtype: type[Real]) -> tuple[NDArray[Real], Any, Any, bool]:
    """Values [maps, entries], the two axes, and whether the file stores single precision."""
    kind = next(axis for suffix, axis in _AXES.items() if path.name.endswith(suffix))
    try:
        with _silence():
            image: Any = nib.load(path)
        stored = image.dataobj
        declared = int(np.prod(stored.shape, dtype=object)) * np.dtype(stored.dtype).itemsize
        check_declared(path, declared, path.stat().st_size - int(stored.offset))
        if len(stored.shape) != 2 or np.dtype(stored.dtype).kind not in "iuf":
            raise InputError(
                f"{path}: its data are {stored.shape} of {stored.dtype}, needs real numbers [maps, vertices]"
            )
        maps, models = (image.header.get_axis(k) for k in (0, 1))
        values = np.asarray(stored, dtype)
    except InputError:
        raise
    except Exception as error:  # nibabel raises many kinds on damaged files
        raise InputError(f"{path}: not a readable CIFTI-2 file ({type(error).__name__}: {error})") from None
    if type(maps).__name__ != kind or type(models).__name__ != "BrainModelAxis":
        raise InputError(
            f"{path}: its axes are {type(maps).__name__} x {type(models).__name__}, needs {kind} x BrainModelAxis"
        )
    return values, maps, models, np.dtype(stored.dtype) == np.float32


def _hemisphere(path: Path, values: NDArray[Real], models: Any, hemisphere: str) -> NDArray[Real] | None:
    name = _STRUCTURES[hemisphere]
    if name not in models.nvertices:
        return None
    count, rows = int(models.nvertices[name]), models.name == name
    vertex = models.vertex[rows]
    if count * len(values) * values.itemsize > LIMIT_BYTES:
        raise InputError(f"{path}: declares {count} vertices x {len(values)} maps; no surface file is that large")
    if len(vertex) and (vertex.min() < 0 or vertex.max() >= count):
        raise InputError(f"{path}: lists vertex {int(vertex.max())} of a surface of {count} vertices; it is damaged")
    full = np.full((len(values), count), np.nan, values.dtype)
    full[:, vertex] = values[:, rows]
    return full


def read_scalars(path: Path, hemisphere: str) -> tuple[NDArray[np.float32], list[str]] | None:
    """Values [V, C] (NaN where the file has no entry, e.g. the medial wall) and map names; None if absent."""
    values, maps, models, _ = _load(path, np.float32)
    full = _hemisphere(path, values, models, hemisphere)
    return None if full is None else (full.T, [str(name) for name in maps.name])


def read_series(path: Path, hemisphere: str) -> NDArray[np.float32] | None:
    """Series [V, T] (NaN where the file has no entry, e.g. the medial wall); None if the hemisphere is absent."""
    values, _, models, _ = _load(path, np.float32)
    full = _hemisphere(path, values, models, hemisphere)
    return None if full is None else full.T


def read_labels(path: Path, hemisphere: str) -> tuple[NDArray[np.int32], LabelTable] | None:
    """Keys [V] of the first map (0 where the file has no entry) and its table; None if the hemisphere is absent."""
    values, maps, models, single = _load(path, np.float64)  # which holds every whole number up to 2^53
    full = _hemisphere(path, values[:1], models, hemisphere)
    if full is None:
        return None
    keys = np.nan_to_num(full[0])
    table = {int(key): (str(name), tuple(float(v) for v in rgba)) for key, (name, rgba) in maps.label[0].items()}
    if single:
        keys = _unrounded(path, keys, table)
    if (keys != np.round(keys)).any() or np.abs(keys).max(initial=0) > LARGEST_KEY:
        raise InputError(f"{path}: label keys must be whole numbers up to {LARGEST_KEY}; number its areas anew")
    return keys.astype(np.int32), table


def _unrounded(path: Path, keys: NDArray[np.float64], table: LabelTable) -> NDArray[np.float64]:
    """Keys from 2^24 as the table has them: stored in single precision, as is usual, they were rounded.

    Raises:
        InputError: a key that may be one or another of the table's.
    """
    found = keys.copy()
    for key in np.unique(keys[np.abs(keys) >= _EXACT]):
        meant = [one for one in table if np.float32(one) == np.float32(key)]
        if len(meant) > 1:
            raise InputError(
                f"{path}: its data are in single precision, in which keys {meant[0]} and {meant[1]} are one number; "
                "write them as int32, or give its areas keys below 2^24"
            )
        found[keys == key] = meant[0] if meant else key
    return found

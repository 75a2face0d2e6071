"""CIFTI-2 dense scalars and labels (`.dscalar.nii`, `.dlabel.nii`): both hemispheres in one file."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.source.socket import LabelTable

_STRUCTURES = {"L": "CIFTI_STRUCTURE_CORTEX_LEFT", "R": "CIFTI_STRUCTURE_CORTEX_RIGHT"}
_AXES = {".dscalar.nii": "ScalarAxis", ".dlabel.nii": "LabelAxis"}


def _load(path: Path) -> tuple[NDArray[np.float32], Any, Any]:
    kind = next(axis for suffix, axis in _AXES.items() if path.name.endswith(suffix))
    try:
        image: Any = nib.load(path)
        maps, models = (image.header.get_axis(k) for k in (0, 1))
        values = np.asarray(image.dataobj, np.float32)
    except Exception as error:  # nibabel raises many kinds on damaged files
        raise InputError(f"{path}: not a readable CIFTI-2 file ({type(error).__name__}: {error})") from None
    if type(maps).__name__ != kind or type(models).__name__ != "BrainModelAxis":
        raise InputError(
            f"{path}: its axes are {type(maps).__name__} x {type(models).__name__}, needs {kind} x BrainModelAxis"
        )
    return values, maps, models


def _hemisphere(values: NDArray[np.float32], models: Any, hemisphere: str) -> NDArray[np.float32] | None:
    for name, part, model in models.iter_structures():
        if name == _STRUCTURES[hemisphere]:
            full = np.full((len(values), model.nvertices[name]), np.nan, np.float32)
            full[:, model.vertex] = values[:, part]
            return full
    return None


def read_scalars(path: Path, hemisphere: str) -> tuple[NDArray[np.float32], list[str]] | None:
    """Values [V, C] (NaN where the file has no entry, e.g. the medial wall) and map names; None if absent."""
    values, maps, models = _load(path)
    full = _hemisphere(values, models, hemisphere)
    return None if full is None else (full.T, [str(name) for name in maps.name])


def read_labels(path: Path, hemisphere: str) -> tuple[NDArray[np.int32], LabelTable] | None:
    """Keys [V] of the first map (0 where the file has no entry) and its table; None if the hemisphere is absent."""
    values, maps, models = _load(path)
    full = _hemisphere(values[:1], models, hemisphere)
    if full is None:
        return None
    table = {int(key): (str(name), tuple(float(v) for v in rgba)) for key, (name, rgba) in maps.label[0].items()}
    return np.nan_to_num(full[0]).astype(np.int32), table

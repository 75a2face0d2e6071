"""FreeSurfer surfaces, per-vertex values and annotations. Parsing is nibabel's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import freesurfer
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.source.socket import LabelTable


def _read(reader: Callable[..., Any], path: Path, what: str) -> Any:
    try:
        return reader(str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    except Exception as error:  # nibabel raises many kinds on damaged files
        raise InputError(f"{path}: not a readable FreeSurfer {what} ({type(error).__name__}: {error})") from None


def read_surface(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Vertices [V, 3] in mm (FreeSurfer's surface RAS) and faces [F, 3] of lh.pial, lh.white, lh.sphere, ..."""
    vertices, faces = _read(freesurfer.read_geometry, path, "surface")[:2]
    return np.asarray(vertices, np.float32), np.asarray(faces).astype(np.int32)


def read_values(path: Path) -> NDArray[np.float32]:
    """Values [V] of lh.curv, lh.sulc, lh.thickness, ..."""
    return np.asarray(_read(freesurfer.read_morph_data, path, "curv file"), np.float32)


def read_annotation(path: Path) -> tuple[NDArray[np.int32], LabelTable]:
    """Keys [V] and table (key -> name, RGBA) of an `.annot`. Key 0 = none; structure k of the table gets key k + 1."""
    labels, table, names = _read(freesurfer.read_annot, path, "annotation")
    keys = np.asarray(labels, np.int64) + 1
    keys[keys < 0] = 0
    entries = {
        index + 1: (name.decode("utf-8", "replace"), (*(float(value) / 255 for value in table[index][:3]), 1.0))
        for index, name in enumerate(names)
    }
    return keys.astype(np.int32), entries


def read_vertex_list(path: Path) -> NDArray[np.int64]:
    """Vertex numbers listed in a `.label` file (lh.cortex.label)."""
    return np.asarray(_read(freesurfer.read_label, path, "label file"), np.int64)

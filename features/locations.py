"""Where nodes lie on sections, as reconstruction writes it. numpy only."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.graph import NodeLocations

COLUMNS = ("section", "row_px", "column_px", "normal_angle_deg", "obliqueness_deg", "residual_mm", "observed")


def read_locations(folder: Path) -> NodeLocations:
    """Locations of all nodes of a reconstructed brain, left hemisphere first.

    Args:
        folder: of a reconstruction, with `sub-*_hemi-L_desc-sections.tsv` and (or) `sub-*_hemi-R_...`.

    Raises:
        InputError: no such file, two brains in one folder, a missing column, a value that is not a number.
    """
    files = [sorted(Path(folder).glob(f"sub-*_hemi-{side}_desc-sections.tsv")) for side in "LR"]
    if not any(files):
        raise InputError(f"{folder}: no sub-*_hemi-L_desc-sections.tsv here; reconstruct the stack first")
    if max(len(found) for found in files) > 1:
        raise InputError(f"{folder}: holds several brains; keep one reconstruction per folder")
    return join_locations([_read(found[0]) for found in files if found])


def join_locations(parts: list[NodeLocations]) -> NodeLocations:
    """Locations end to end (of hemispheres, in the order of their nodes)."""
    return NodeLocations(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS})


def take(locations: NodeLocations, nodes: NDArray[np.integer]) -> NodeLocations:
    """Locations of these nodes only."""
    return NodeLocations(**{name: getattr(locations, name)[nodes] for name in COLUMNS})


def _read(path: Path) -> NodeLocations:
    with path.open(newline="", encoding="utf-8") as handle:
        reader = csv.reader(handle, delimiter="\t")
        head = next(reader, [])
        missing = [name for name in COLUMNS if name not in head]
        if missing:
            raise InputError(f"{path}: column {missing[0]!r} is missing; reconstruct the stack again")
        try:
            values = np.array(list(reader), np.float64).reshape(-1, len(head))
        except ValueError as error:
            raise InputError(f"{path}: a value is not a number ({error}); reconstruct the stack again") from None
    if not len(values):
        raise InputError(f"{path}: no node")
    columns: dict[str, NDArray[Any]] = {name: values[:, head.index(name)] for name in COLUMNS}
    return NodeLocations(**columns)

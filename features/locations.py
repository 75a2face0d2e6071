"""Where nodes lie on sections, as reconstruction writes it, and the areas that mappers drew there. numpy only."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.graph import NodeLocations
from meshgnn.source.annotations import Annotations
from meshgnn.source.sections import SectionStack

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


def annotated_labels(
    locations: NodeLocations, annotations: Annotations, stack: SectionStack, *, vote_mm: float = 0.5
) -> NDArray[np.int32]:
    """Classes [V] of nodes that lie on annotated sections, -1 elsewhere.

    A node gets the commonest class within a square of side `vote_mm` around its pixel, if that takes up at least half
    of the labelled pixels there: mappers' borders are not exact to the pixel, nor are nodes.

    Raises:
        InputError: a label image that does not fit its section.
    """
    labels = np.full(len(locations.section), -1, np.int32)
    known = {section.index for section in stack}
    for index in annotations.sections:
        here = np.flatnonzero(locations.observed & (locations.section == index))
        if index not in known or not len(here):
            continue
        section, image = stack.at(index), annotations.read(index)
        if image.shape != section.shape:
            raise InputError(
                f"{annotations.images[index]}: {image.shape[0]} x {image.shape[1]} px, but the section has "
                f"{section.shape[0]} x {section.shape[1]}; draw labels on the section's own pixels"
            )
        image = image[:, ::-1] if section.mirrored else image
        reach = max(0, round(vote_mm * 1000 / section.pixel_um / 2))
        offsets = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 2), -1).reshape(-1, 2)
        rows = np.rint(locations.row_px[here])[:, None].astype(int) + offsets[:, 0]
        columns = np.rint(locations.column_px[here])[:, None].astype(int) + offsets[:, 1]
        inside = (rows >= 0) & (rows < image.shape[0]) & (columns >= 0) & (columns < image.shape[1])
        seen = image[rows.clip(0, image.shape[0] - 1), columns.clip(0, image.shape[1] - 1)]
        votes = np.zeros((len(here), len(annotations.areas) + 1), np.int32)
        np.add.at(votes, (np.arange(len(here))[:, None], np.where(inside, seen, -1)), 1)
        votes = votes[:, :-1]
        best = votes.argmax(1)
        top, all_of_them = votes[np.arange(len(here)), best], votes.sum(1)
        labels[here] = np.where((top > 0) & (2 * top >= all_of_them), best, -1)
    return labels

"""A mapper's annotations of single sections: label images on the sections' pixels.

    annotations/annotations.csv   index,labels[,polygons]: section number, label image, GeoJSON file
    annotations/areas.json        [{"key": 1, "name": "4", "colour": [r, g, b, a], "isocortex": true}, ...]

Key 0 is unlabelled. Keys whose `isocortex` is false mark tissue that is recognised but not mapped.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from meshgnn.errors import InputError
from meshgnn.graph import Areas, NodeLocations
from meshgnn.source.sections import SectionImage, SectionStack

FOLDER = "annotations"


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """Label images by section number.

    Args:
        images: path of the label image of each annotated section.
        areas: the classes, in key order.
        unmapped: keys of tissue that is recognised but not mapped.
    """

    images: dict[int, Path]
    areas: Areas
    unmapped: tuple[int, ...] = ()

    @property
    def sections(self) -> tuple[int, ...]:
        """Numbers of the annotated sections, ascending."""
        return tuple(sorted(self.images))

    def read(self, index: int) -> npt.NDArray[np.int32]:
        """Classes [rows, columns] of section `index`: place in `areas`, -1 unlabelled or not mapped.

        Raises:
            InputError: the section is not annotated, or its image holds a key that areas.json does not know.
        """
        if index not in self.images:
            raise InputError(f"section {index} is not annotated; annotated are {', '.join(map(str, self.sections))}")
        with SectionImage(self.images[index], stored=True) as image:
            keys = image.read()
        if keys.dtype.kind != "u":
            raise InputError(f"{self.images[index]}: labels must be whole numbers, got {keys.dtype}")
        present = np.unique(keys)
        known = {0, *self.areas.keys, *self.unmapped}
        strange = [int(key) for key in present if int(key) not in known]
        if strange:
            raise InputError(f"{self.images[index]}: key {strange[0]} is not in areas.json; add it there")
        table = np.full(int(max(max(known), present.max())) + 1, -1, np.int32)
        table[list(self.areas.keys)] = np.arange(len(self.areas))
        return table[keys]


def read_annotations(stack: Path) -> Annotations:
    """Annotations of the stack folder `stack`.

    Raises:
        InputError: no annotations there, a missing file, a repeated section, a broken table.
    """
    folder = Path(stack) / FOLDER
    table, areas_file = folder / "annotations.csv", folder / "areas.json"
    for path in (table, areas_file):
        if not path.is_file():
            raise InputError(f"{path}: no such file; an annotated stack needs annotations.csv and areas.json")
    try:
        rows = json.loads(areas_file.read_text(encoding="utf-8"))
        mapped = sorted((row for row in rows if row.get("isocortex", True)), key=lambda row: int(row["key"]))
        areas = Areas(
            names=tuple(str(row["name"]) for row in mapped),
            colours=np.array([row["colour"] for row in mapped], np.float32),
            keys=tuple(int(row["key"]) for row in mapped),
        )
        unmapped = tuple(int(row["key"]) for row in rows if not row.get("isocortex", True))
    except InputError as error:
        raise InputError(f"{areas_file}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{areas_file}: needs a list of key, name, colour, isocortex ({error})") from None
    images: dict[int, Path] = {}
    with table.open(newline="", encoding="utf-8-sig") as handle:
        for line, row in enumerate(csv.DictReader(handle), start=2):
            try:
                index, file = int(row["index"]), str(row["labels"])
            except (KeyError, TypeError, ValueError):
                raise InputError(f"{table}, line {line}: needs columns index (a whole number) and labels") from None
            if index in images:
                raise InputError(f"{table}, line {line}: section {index} stands twice")
            if not (folder / file).is_file():
                raise InputError(f"{table}, line {line}: the file {file!r} does not exist")
            images[index] = folder / file
    if not images:
        raise InputError(f"{table}: no annotated section")
    return Annotations(images=images, areas=areas, unmapped=unmapped)


def annotated_labels(
    locations: NodeLocations, annotations: Annotations, stack: SectionStack, *, vote_mm: float = 0.5
) -> npt.NDArray[np.int32]:
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

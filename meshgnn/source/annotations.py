"""A mapper's annotations of single sections: label images on the sections' pixels, or polygons.

    annotations/annotations.csv   index[,labels][,polygons]: section number, label image, GeoJSON file
    annotations/areas.json        keys, names and colours: see `meshgnn.source.area_table`

A label image is a grey TIFF of whole numbers (any integer type) as large as its section; 0 is unlabelled, other values
are keys of areas.json. Polygons are GeoJSON as QuPath writes it (`meshgnn.source.polygons`), in the section's pixels;
their classes are names of areas.json. A section that has both is read from its label image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from meshgnn.errors import InputError
from meshgnn.graph import Areas, NodeLocations
from meshgnn.source.area_table import AreaTable, read_area_table
from meshgnn.source.polygons import paint, read_geojson
from meshgnn.source.sections import TABLE, Section, SectionStack, read_stack
from meshgnn.source.text_table import read_text_table

FOLDER = "annotations"
OUTSIDE = 0.05  # how far a polygon may reach over its section, as a share of the section's longer side


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """The outlines that a mapper drew, by section number.

    Args:
        images: label image of each section that has one.
        polygons: GeoJSON file of each other annotated section.
        shapes: rows and columns of the annotated sections.
        table: keys and names.
    """

    images: dict[int, Path]
    polygons: dict[int, Path]
    shapes: dict[int, tuple[int, int]]
    table: AreaTable

    @property
    def areas(self) -> Areas:
        """The classes, in key order."""
        return self.table.areas

    @property
    def sections(self) -> tuple[int, ...]:
        """Numbers of the annotated sections, ascending."""
        return tuple(sorted({*self.images, *self.polygons}))

    def file(self, index: int) -> Path:
        """What section `index` is read from. Raises InputError when it is not annotated."""
        for files in (self.images, self.polygons):
            if index in files:
                return files[index]
        raise InputError(f"section {index} is not annotated; annotated are {', '.join(map(str, self.sections))}")

    def read(self, index: int) -> npt.NDArray[np.int32]:
        """Classes [rows, columns] of section `index`: place in `areas`, -1 unlabelled or not mapped.

        Raises:
            InputError: the section is not annotated, its file does not fit it, or names an area that areas.json does
                not know.
        """
        path, shape = self.file(index), self.shapes[index]
        if index not in self.images:
            return paint(self._drawn(path, shape), shape)
        keys, present = _label_image(path, shape)
        classes = self._known(present, path)
        if keys.max(initial=0) < 1 << 16:
            table = np.full(1 << 16, -1, np.int32)
            table[present] = classes
            return table[keys]
        return classes[np.searchsorted(present, keys)]

    def coarse(self, index: int, step: float) -> npt.NDArray[np.int32]:
        """`read` on pixels that are `step` times as wide, each asked at its centre; outlines of sections of any size.

        Returns:
            Classes [rows, columns] of the section's rows and columns divided by `step`, rounded, at least 1.
        """
        path, shape = self.file(index), self.shapes[index]
        small = (max(1, round(shape[0] / step)), max(1, round(shape[1] / step)))
        if index in self.images:
            rows, columns = (((np.arange(n) + 0.5) * size / n).astype(int) for n, size in zip(small, shape))
            return self.read(index)[rows[:, None], columns]
        scale = np.array([small[1] / shape[1], small[0] / shape[0]])
        drawn = self._drawn(path, shape)
        return paint([(k, [[ring * scale for ring in one] for one in polygons]) for k, polygons in drawn], small)

    def check(self) -> None:
        """Raises InputError for the first file that cannot be read or names an area that areas.json does not know."""
        for index in self.sections:
            path, shape = self.file(index), self.shapes[index]
            if index in self.images:
                self._known(_label_image(path, shape)[1], path)
            else:
                self._drawn(path, shape)

    def _known(self, present: npt.NDArray[np.int64], path: Path) -> npt.NDArray[np.int32]:
        """Classes of the keys `present`."""
        known = self.table.class_of_key()
        for key in present.tolist():
            if key not in known:
                raise InputError(f"{path}: key {key} is not in areas.json; add it there")
        return np.array([known[key] for key in present.tolist()], np.int32)

    def _drawn(self, path: Path, shape: tuple[int, int]) -> list[tuple[int, Any]]:
        """Classes and polygons of a GeoJSON file."""
        known, drawn = self.table.class_of_name(), []
        for name, polygons in read_geojson(path):
            if name not in known:
                raise InputError(f"{path}: the class {name!r} is not in areas.json; add it there or rename it")
            drawn.append((known[name], polygons))
        if not drawn:
            raise InputError(f"{path}: no area is drawn in it; draw one, or take the section out of annotations.csv")
        points = np.concatenate([ring for _, polygons in drawn for polygon in polygons for ring in polygon])
        over = max((-points).max(), (points - np.array(shape)[::-1]).max())
        if over > OUTSIDE * max(shape):
            raise InputError(
                f"{path}: polygons reach {over:.0f} px over the section ({shape[0]} x {shape[1]} px); "
                "draw them on the section's own pixels"
            )
        return drawn


def _label_image(path: Path, shape: tuple[int, int]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Keys [rows, columns] as stored (no colours, no scaling), and which there are, ascending."""
    try:
        with tifffile.TiffFile(path) as file:
            page: Any = file.pages[0]
            size, kind = (int(page.imagelength), int(page.imagewidth)), np.dtype(page.dtype)
            if size != shape:
                raise InputError(
                    f"{path}: {size[0]} x {size[1]} px, but the section has {shape[0]} x {shape[1]}; "
                    "draw labels on the section's own pixels"
                )
            if page.samplesperpixel != 1 or page.imagedepth != 1:
                raise InputError(f"{path}: a colour image; labels must be one whole number per pixel")
            if kind.kind not in "ui":
                raise InputError(f"{path}: labels must be whole numbers, got {kind}")
            if page.compression in (6, 7):
                raise InputError(f"{path}: JPEG changes keys; save labels without loss (zip, lzw, zstd or raw)")
            if int(page.tags.valueof("Orientation", 1)) != 1:
                raise InputError(f"{path}: is stored turned (TIFF tag Orientation); save it upright")
            keys = page.asarray().reshape(shape)
    except InputError:
        raise
    except Exception as error:  # tifffile and its codecs raise whatever a broken file leads to
        raise InputError(f"{path}: cannot be read as a TIFF ({error}); export it again") from None
    low, high = int(keys.min()), int(keys.max())
    if low < 0:
        raise InputError(f"{path}: key {low} is negative; 0 is unlabelled, areas have keys from 1")
    if high >= 1 << 16:
        return keys, np.unique(keys).astype(np.int64)
    seen = np.zeros(1 << 16, bool)
    seen[keys] = True
    return keys, np.flatnonzero(seen)


def read_annotations(stack: Path) -> Annotations:
    """Annotations of the stack folder `stack`; their files are not opened yet (`Annotations.check`).

    Raises:
        InputError: no annotations there, a missing file, a section that is repeated or not in the stack, a broken
            table.
    """
    folder = Path(stack) / FOLDER
    path, areas = folder / "annotations.csv", folder / "areas.json"
    for needed in (path, areas):
        if not needed.is_file():
            raise InputError(f"{needed}: no such file; an annotated stack needs annotations.csv and areas.json")
    table = read_area_table(areas)
    columns, rows = read_text_table(path, ["index"])
    if not {"labels", "polygons"} & set(columns):
        raise InputError(f"{path}: needs a column labels (label images) or polygons (GeoJSON files)")
    if not rows:
        raise InputError(f"{path}: no annotated section")
    known = {section.index: section.shape for section in read_stack(Path(stack), minimum=1, mirrored="turn")}
    files: dict[str, dict[int, Path]] = {"labels": {}, "polygons": {}}
    for line, row in rows:
        where = f"{path}, line {line}"
        try:
            index = int(row["index"])
        except ValueError:
            raise InputError(f"{where}: index is {row['index']!r}, not a whole number") from None
        if any(index in given for given in files.values()):
            raise InputError(f"{where}: section {index} stands twice")
        if index not in known:
            raise InputError(f"{where}: section {index} is not in {TABLE}; correct the number or drop the line")
        kind = next((kind for kind in files if row.get(kind)), None)
        if kind is None:
            raise InputError(f"{where}: names neither a label image nor polygons")
        try:
            there = (folder / row[kind]).is_file()
        except OSError:  # a name longer than any file's
            there = False
        if not there:
            raise InputError(f"{where}: the file {row[kind][:80]!r} does not exist")
        files[kind][index] = folder / row[kind]
    shapes = {index: known[index] for given in files.values() for index in given}
    return Annotations(images=files["labels"], polygons=files["polygons"], shapes=shapes, table=table)


def check_same_areas(folders: Sequence[Path]) -> None:
    """The stack folders have the same mapped areas in key order; a folder without annotations passes.

    Raises:
        InputError: two do not; names both files and the first difference.
    """
    files = [Path(folder) / FOLDER / "areas.json" for folder in folders if (Path(folder) / FOLDER).is_dir()]
    names = [read_area_table(file).areas.names for file in files]
    for file, other in zip(files[1:], names[1:]):
        if other != names[0]:
            place = next((k for k, pair in enumerate(zip(names[0], other)) if pair[0] != pair[1]), -1)
            if place < 0:
                difference = f"{len(names[0])} mapped areas, but {len(other)}"
            else:
                difference = f"area {place + 1} in key order is {names[0][place]!r}, but {other[place]!r}"
            raise InputError(f"{files[0]}: {difference} in {file}; give all stacks the same areas.json")


def on_section(annotations: Annotations, section: Section) -> npt.NDArray[np.int32]:
    """Classes [rows, columns] on the pixels of an annotated section, turned round as `open_section` turns its image.

    Raises:
        InputError: a label image that does not fit its section.
    """
    image = annotations.read(section.index)
    if image.shape != section.shape:
        raise InputError(
            f"{annotations.file(section.index)}: {image.shape[0]} x {image.shape[1]} px, but the section has "
            f"{section.shape[0]} x {section.shape[1]}; draw on the section's own pixels"
        )
    return image[:, ::-1] if section.mirrored else image


def annotation_points(
    annotations: Annotations, stack: SectionStack, *, every_mm: float = 0.5
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Annotated areas as points in the space of the stack: labelled pixels on a grid of every usable section.

    Args:
        stack: aligned sections (each section's `to_space` places its pixels).
        every_mm: width of the grid, measured on the section.

    Returns:
        points_mm [N, 3], classes [N] and section numbers [N], sections in ascending order; N may be 0.

    Raises:
        InputError: a label image that does not fit its section, or `every_mm` not above 0.
    """
    if not every_mm > 0:
        raise InputError(f"every_mm must be above 0, got {every_mm}")
    points, classes, numbers = [np.zeros((0, 3))], [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
    for section in stack:
        if section.index not in annotations.sections or not section.usable:
            continue
        step = max(1, round(every_mm * 1000 / section.pixel_um))
        image = on_section(annotations, section)
        first = [min(step, size) // 2 for size in image.shape]
        row, column = np.nonzero(image[first[0] :: step, first[1] :: step] >= 0)
        row, column = row * step + first[0], column * step + first[1]
        points.append(section.pixel_to_mm(row, column))
        classes.append(image[row, column])
        numbers.append(np.full(len(row), section.index, np.int32))
    return np.concatenate(points), np.concatenate(classes), np.concatenate(numbers)


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
        section = stack.at(index)
        image = on_section(annotations, section)
        reach = max(0, round(vote_mm * 1000 / section.pixel_um / 2))
        labels[here] = voted(image, locations.row_px[here], locations.column_px[here], reach, len(annotations.areas))
    return labels


def voted(
    image: npt.NDArray[np.int32],
    row: npt.NDArray[np.floating],
    column: npt.NDArray[np.floating],
    reach: int,
    count: int,
) -> npt.NDArray[np.int32]:
    """The commonest class [n] within `reach` pixels of each point, -1 where none has half of the labelled pixels.

    Args:
        image: classes [rows, columns], -1 where there is none.
        row, column: [n] in pixel centres.
        count: how many classes there are.
    """
    offsets = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 2), -1).reshape(-1, 2)
    rows = np.rint(row)[:, None].astype(int) + offsets[:, 0]
    columns = np.rint(column)[:, None].astype(int) + offsets[:, 1]
    inside = (rows >= 0) & (rows < image.shape[0]) & (columns >= 0) & (columns < image.shape[1])
    seen = image[rows.clip(0, image.shape[0] - 1), columns.clip(0, image.shape[1] - 1)]
    votes = np.zeros((len(row), count + 1), np.int32)
    np.add.at(votes, (np.arange(len(row))[:, None], np.where(inside, seen, -1)), 1)
    votes = votes[:, :-1]
    best = votes.argmax(1)
    top, all_of_them = votes[np.arange(len(row)), best], votes.sum(1)
    return np.where((top > 0) & (2 * top >= all_of_them), best, -1).astype(np.int32)

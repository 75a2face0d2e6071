"""Fillings made pixel by pixel on the sections, with or without a mesh, and the pixels that they are made on.

filling.json             record, engine, areas, sections, figures; written last: a folder with it is complete
filling.safetensors      probabilities [V, K] at the nodes, where there is a mesh
sections/000021.json     areas on section 21: class, probability, polygons
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from meshgnn.errors import InputError
from meshgnn.mapping.filling import FILE, FORMAT, KeptFilling, mesh_key
from meshgnn.mapping.ribbon import smooth_outlines
from meshgnn.mapping.socket import PredictedArea, Situation
from meshgnn.sockets import Brain
from meshgnn.source.polygons import outlines, signed_area
from meshgnn.source.sections import Section
from meshgnn.store import read_arrays, read_json, write_arrays, write_json

Floats = NDArray[np.float64]
RECORD = "PixelFilling"


@dataclass(frozen=True, kw_only=True, eq=False)
class SectionGrid:
    """Square pixels of a section's image as stored, `block` of the image's own wide."""

    section: Section
    block: int

    @staticmethod
    def of(section: Section, width_um: float) -> "SectionGrid":
        """Pixels nearest to `width_um`; never finer than the image."""
        return SectionGrid(section=section, block=max(1, round(width_um / section.pixel_um)))

    @property
    def shape(self) -> tuple[int, int]:
        """As `Annotations.coarse` gives it for `block`."""
        rows, columns = (max(1, round(size / self.block)) for size in self.section.shape)
        return rows, columns

    @property
    def width_mm(self) -> float:
        return self.block * self.section.pixel_um / 1000

    def to_space(self, row: NDArray[Any], column: NDArray[Any]) -> Floats:
        """mm [..., 3] of rows and columns of this grid."""
        down, across = ((np.asarray(at, np.float64) + 0.5) * self.block - 0.5 for at in (row, column))
        return self.section.pixel_to_mm(down, self.section.shape[1] - 1 - across if self.section.mirrored else across)

    def from_space(self, points_mm: Floats) -> tuple[Floats, Floats]:
        """Row and column of points [..., 3], carried along the cutting axis."""
        down, across, _ = self.section.mm_to_pixel(points_mm)
        return self.from_read(down, across)

    def from_read(self, row_px: NDArray[Any], column_px: NDArray[Any]) -> tuple[Floats, Floats]:
        """Row and column of pixels of the image as `open_section` turns it."""
        across = self.section.shape[1] - 1 - column_px if self.section.mirrored else column_px
        return (np.asarray(row_px) + 0.5) / self.block - 0.5, (np.asarray(across) + 0.5) / self.block - 0.5

    def places(self, other: "SectionGrid") -> tuple[Floats, Floats]:
        """Row and column on this grid of every pixel of another section's, along the cutting axis."""
        rows, columns = np.meshgrid(*(np.arange(size) for size in other.shape), indexing="ij")
        return self.from_space(other.to_space(rows, columns))

    def carried(
        self, image: NDArray[Any], other: "SectionGrid", fill: float = 0.0, places: tuple[Floats, Floats] | None = None
    ) -> NDArray[np.float32]:
        """An image on this grid seen from another section's, along the cutting axis; linear, `fill` outside. `places`
        spares the work of that method where many images are carried the same way."""
        places = self.places(other) if places is None else places
        return ndimage.map_coordinates(image.astype(np.float32), places, order=1, mode="constant", cval=fill)


def signed_mm(inside: NDArray[np.bool_], width_mm: float, farthest_mm: float) -> NDArray[np.float32]:
    """Distance [rows, columns] to the outline in mm, positive inside, cut at `farthest_mm`; that much below 0 where
    nothing is inside."""
    if not inside.any():
        return np.full(inside.shape, -farthest_mm, np.float32)
    within, beyond = (ndimage.distance_transform_edt(mask) - 0.5 * mask for mask in (inside, ~inside))
    return np.clip((within - beyond) * width_mm, -farthest_mm, farthest_mm).astype(np.float32)


class PixelFilling(KeptFilling):
    """A `Filling` of outlines on sections.

    Args:
        folder: that `write` wrote.
        brain: the one it was made with, if any.

    Raises:
        InputError: not a complete filling, or one of another mesh.
    """

    def __init__(self, folder: Path, brain: Brain | None = None) -> None:
        self.folder = Path(folder)
        about = read_json(self.folder / f"{FILE}.json")
        if not isinstance(about, dict) or about.get("record") != RECORD or about.get("format") != FORMAT:
            raise InputError(f"{self.folder / FILE}.json: not a filling of format {FORMAT}")
        if about["mesh"] is not None and brain is not None and mesh_key(brain.graph) != about["mesh"]:
            raise InputError(f"{self.folder}: was filled in over another mesh; fill in again")
        self.about: dict[str, Any] = about
        self.graph = brain.graph if brain is not None else None

    @staticmethod
    def write(
        folder: Path, situation: Situation, *, engine: str, areas: Mapping[int, Sequence[PredictedArea]],
        probabilities: NDArray[np.floating] | None, figures: Mapping[str, Any],
    ) -> "PixelFilling":  # fmt: skip
        """Keep a filling.

        Args:
            areas: by section number, of every section that something is said of.
            probabilities: [V, K] with a mesh.
            figures: JSON-ready.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{FILE}.json").unlink(missing_ok=True)
        for section, found in areas.items():
            rows = [
                {"area": one.area, "probability": round(one.probability, 4),
                 "polygons": [[np.round(ring, 2).tolist() for ring in polygon] for polygon in one.polygons]}
                for one in found
            ]  # fmt: skip
            write_json(folder / "sections" / f"{section:06d}.json", rows)
        brain = situation.brain
        if probabilities is not None:
            write_arrays(folder / f"{FILE}.safetensors", {"probabilities": probabilities.astype(np.float32)})
        table = situation.areas
        about = {
            "format": FORMAT,
            "record": RECORD,
            "engine": engine,
            "mesh": mesh_key(brain.graph) if brain is not None else None,
            "areas": {"names": table.names, "keys": table.keys, "colours": table.colours.astype(float)},
            "sections": sorted(areas),
            "rejected": [list(pair) for pair in situation.rejected],
            "figures": figures,
        }
        write_json(folder / f"{FILE}.json", about)
        return PixelFilling(folder, brain)

    @cached_property
    def probabilities(self) -> NDArray[np.float32] | None:
        """[V, K], 0 where nothing is said; None without a mesh."""
        path = self.folder / f"{FILE}.safetensors"
        return read_arrays(path)["probabilities"] if self.about["mesh"] is not None and path.is_file() else None

    def on(self, section: int) -> Sequence[PredictedArea]:
        """Areas on one section, largest first; none on a section that it says nothing of."""
        if section not in self.sections:
            return []
        refused = {area for number, area in self.about["rejected"] if number == section}
        found = [
            PredictedArea(
                area=int(row["area"]),
                polygons=[[np.array(ring, np.float64) for ring in polygon] for polygon in row["polygons"]],
                probability=float(row["probability"]),
            )
            for row in read_json(self.folder / "sections" / f"{section:06d}.json")
            if row["area"] not in refused
        ]
        return sorted(found, key=lambda one: -sum(abs(signed_area(polygon[0])) for polygon in one.polygons))


def predicted_areas(
    grid: SectionGrid, labels: NDArray[np.integer], chance: NDArray[np.floating], *, smooth: bool = True
) -> list[PredictedArea]:
    """Areas of an image [rows, columns] of classes on a grid, -1 where none, with the probability of that class."""
    image = labels.astype(np.int32)
    found = smooth_outlines(image, grid.block, grid.width_mm) if smooth else outlines(image, step=grid.block)
    return [
        PredictedArea(area=area, polygons=polygons, probability=float(chance[image == area].mean()))
        for area, polygons in found.items()
    ]


def at_nodes(
    probabilities: NDArray[np.float32], brain: Brain, grid: SectionGrid, areas: Sequence[int], chances: NDArray[Any]
) -> None:
    """Put chances [A, rows, columns] of a section's pixels into probabilities [V, K] at the nodes that lie on it."""
    places = brain.graph.locations
    if places is None:
        return
    here = np.flatnonzero(brain.graph.cortex & places.observed & (places.section == grid.section.index))
    at = grid.from_read(places.row_px[here], places.column_px[here])
    for area, image in zip(areas, chances):
        probabilities[here, area] = ndimage.map_coordinates(image.astype(np.float32), at, order=1, mode="nearest")

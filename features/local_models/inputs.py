"""What a local model sees of a section: grey values, the ribbon of the mesh, and where its areas lie nearby."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from meshgnn.graph import MeshGraph
from meshgnn.mapping.engines.contours import Interval, interpolated
from meshgnn.mapping.glass import DENSE, section_density
from meshgnn.mapping.pixel_filling import SectionGrid, signed_mm
from meshgnn.mapping.surfaces import has_surfaces, inside_surfaces
from meshgnn.source.sections import Section
from meshgnn.store import read_arrays, write_arrays
from meshgnn.train.contours import FARTHEST_MM

GLASS, WHITE, OTHER = 0, 1, 2  # classes before those of the areas
PRIOR_MM = 4.0  # distances to interpolated outlines are told apart up to about here


def write_section(path: Path, grid: SectionGrid, graph: MeshGraph | None, drawn: NDArray[np.integer] | None) -> None:
    """Keep what is read of one section: density, surfaces (with a mesh), classes drawn (where there are any)."""
    arrays = {"density": section_density(grid.section, grid.block).astype(np.float16)}
    if graph is not None and has_surfaces(graph):
        inside = inside_surfaces(graph, grid.section, grid.shape, (grid.block, grid.block))
        arrays["inside"] = inside.astype(np.uint8)
    if drawn is not None:
        arrays["drawn"] = drawn.astype(np.int32)
    write_arrays(path, arrays)


def section_channels(
    number: int,
    grids: Mapping[int, SectionGrid],
    files: Mapping[int, Path],
    areas: Sequence[int],
    ends: tuple[int, int],
    distances: dict[tuple[int, int], NDArray[np.float32]],
    hints: Mapping[str, NDArray[Any]] | None = None,
) -> NDArray[np.float32]:
    """[C, rows, columns] of one section: density, within pial and white (with a mesh), and for every area a soft map
    of where its outlines on the drawn sections put it.

    On a section between, that is the interpolated contour. A drawn section must not see its own outline: it sees that
    of the other one, so that a model learns how far outlines at a whole gap's distance are to be trusted.

    Args:
        grids: of all sections of the interval; files: of each, by `write_section`.
        areas: class numbers.
        ends: the drawn sections.
        distances: to outlines of drawn sections by area and section; what is asked for first is put there.
        hints: of the graph (`GraphHints.of`), which then take the place of interpolated outlines: 2 p - 1.
    """
    kept = read_arrays(files[number])
    parts = [
        kept["density"][None].astype(np.float32),
        *([kept["inside"].astype(np.float32)] if "inside" in kept else []),
    ]
    if hints is not None:
        share = hints[f"hint_{number}"].astype(np.float32) / 255
        return np.concatenate([*parts, 2 * share - 1])
    known = {index: grid.section for index, grid in grids.items()}

    def distance(area: int, index: int) -> NDArray[np.float32]:
        if (area, index) not in distances:
            drawn = read_arrays(files[index])["drawn"] == area
            distances[area, index] = signed_mm(drawn, grids[index].width_mm, FARTHEST_MM)
        return distances[area, index]

    grid = grids[number]
    for area in areas:
        if number in ends:
            other = ends[1] if number == ends[0] else ends[0]
            away = grids[other].carried(distance(area, other), grid, -FARTHEST_MM)
        else:
            interval = Interval(area=area, first=ends[0], last=ends[1], between=(number,))
            away = interpolated(interval, grid, known, distance, grid.width_mm * 1000)
        parts.append(np.tanh(away / PRIOR_MM)[None])
    return np.concatenate(parts)


def classes_of(number: int, files: Mapping[int, Path], areas: Sequence[int]) -> NDArray[np.int64]:
    """[rows, columns] classes of a drawn section: glass, white matter (with a mesh), other tissue, then the areas."""
    kept = read_arrays(files[number])
    if "inside" in kept:
        pial, white = kept["inside"].astype(bool)
        found = np.where(white, WHITE, np.where(pial, OTHER, GLASS)).astype(np.int64)
    else:
        soft = ndimage.gaussian_filter(kept["density"].astype(np.float32), 1)
        found = np.where(soft > DENSE, OTHER, GLASS).astype(np.int64)
    for place, area in enumerate(areas):
        found[kept["drawn"] == area] = OTHER + 1 + place
    return found


def hinted_classes(
    number: int, files: Mapping[int, Path], areas: Sequence[int], hints: Mapping[str, NDArray[Any]]
) -> NDArray[np.int64]:
    """[rows, columns] classes of a drawn section on the graph's ribbon: the areas, or other tissue; -1 off it."""
    drawn = read_arrays(files[number])["drawn"]
    found = np.full(drawn.shape, OTHER, np.int64)
    for place, area in enumerate(areas):
        found[drawn == area] = OTHER + 1 + place
    return np.where(hints[f"ribbon_{number}"] > 0, found, -1)


def section_of(plain: Mapping[str, Any]) -> Section:
    """A section from what `plain_section` wrote."""
    matrix = np.array(plain["to_space"], np.float64)
    return Section(**{**plain, "path": Path(plain["path"]), "shape": tuple(plain["shape"]), "to_space": matrix})


def plain_section(section: Section) -> dict[str, object]:
    """What a job needs of a section, JSON-ready."""
    return {
        "path": str(section.path.resolve()), "index": section.index, "position_mm": section.position_mm,
        "pixel_um": section.pixel_um, "thickness_um": section.thickness_um, "shape": list(section.shape),
        "plane": section.plane, "mirrored": section.mirrored, "stain": section.stain, "colour": section.colour,
        "to_space": section.to_space.tolist(),
    }  # fmt: skip

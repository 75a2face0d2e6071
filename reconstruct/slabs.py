"""Dense series: sections that lie nearer together than a mesh can use are averaged into slabs.

Sections 20 um apart differ by less than a working pixel, but for how each came to lie on the glass, was stained and was
torn. Within a slab they are brought over each other rigidly, their mean place on the glass staying what it was, and
the median of their densities stands for all of them: tears and stain average out, and of the shifts on the glass only
the mean of many is left. Every section keeps its own transform. Memory and time follow the number of sections for
what is read, and the number of slabs for everything else.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from meshgnn.errors import InputError
from meshgnn.slurm_jobs import SlurmJobs
from meshgnn.source.sections import Section
from meshgnn.store import DAMAGED, written_aside
from reconstruct.density import Density, corner_mm, section_density
from reconstruct.frames import Frames, block_means, overlap
from reconstruct.joint import Joint
from reconstruct.stain_levels import STAINED

Floats = NDArray[np.float64]
Image = NDArray[np.float32]

_BLURS = (3.0, 3.0, 1.0, 1.0, 0.0, 0.0)  # sd in registration pixels, round by round
_LEAST_FIT = 0.5  # Dice overlap of a section's tissue with that of its slab
_PER_JOB = 8  # slabs


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """The grid that all slabs of a stack share.

    Args:
        shape: rows and columns.
        pixel_mm: side of a pixel.
        middle_mm: (row, column) of its middle in the common frame before alignment.
        coarse_mm: pixel at which sections of a slab are compared.
        least_mm2: a section with less tissue is left out.
        least_stain: so is one whose darkest tenth is paler than this share of what is usual in its slab.
        keep: poses are those of a registration, and stay.
        even_light: see `section_density`.
    """

    shape: tuple[int, int]
    pixel_mm: float
    middle_mm: tuple[float, float]
    coarse_mm: float
    least_mm2: float
    least_stain: float
    keep: bool
    even_light: bool = True

    @property
    def centre_mm(self) -> Floats:
        """[2] the middle of the grid from its first pixel."""
        return (np.array(self.shape) - 1) / 2 * self.pixel_mm


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Slab:
    """Sections averaged.

    Args:
        density: of the median section, on the frame's grid.
        place: which of the parts stands for the slab (its image is shown, its number is named).
        index, position_mm, px_mm: [M] of the sections that are its parts.
        to_image: [M, 2, 3] (row, column) in mm from the grid's first pixel -> mm in the section's image.
        odd: numbers of sections that do not fit the others, of which no use is made.
    """

    density: Density
    place: int
    index: NDArray[np.int64]
    position_mm: Floats
    px_mm: Floats
    to_image: Floats
    odd: NDArray[np.int64]


def grouped(sections: Sequence[Section], every_mm: float) -> list[tuple[Section, ...]]:
    """Sections in cutting order, in groups that span less than `every_mm`; each alone where they lie further apart."""
    groups: list[list[Section]] = []
    for section in sections:
        if groups and section.position_mm - groups[-1][0].position_mm < every_mm * (1 - 1e-6):
            groups[-1].append(section)
        else:
            groups.append([section])
    return [tuple(group) for group in groups]


def frame_for(sections: Sequence[Section], starts: Mapping[int, Floats], pixel_mm: float, given: bool) -> tuple[
    tuple[int, int], tuple[float, float]
]:  # fmt: skip
    """Shape of a grid that holds all images where they lie, and its middle in the common frame.

    Args:
        starts: number of a section -> [2, 3] (row, column) in mm of the common frame -> mm in its image.
        given: by a registration; else the middles of all images lie at 0, 0.
    """
    low, high, largest = np.full(2, np.inf), np.full(2, -np.inf), np.zeros(2)
    for section in sections:
        size = np.array(section.shape) * section.pixel_um / 1000
        largest = np.maximum(largest, size)
        matrix = starts[section.index]
        ends = np.array([[a, b] for a in (0, size[0]) for b in (0, size[1])]) - matrix[:, 2]
        corners = np.linalg.solve(matrix[:, :2], ends.T).T
        low, high = np.minimum(low, corners.min(0)), np.maximum(high, corners.max(0))
    if not given:
        low, high = -largest / 2, largest / 2
    shape = np.ceil(np.maximum(high - low, largest) / pixel_mm).astype(int) + 3
    middle = (low + high) / 2
    return (int(shape[0]), int(shape[1])), (float(middle[0]), float(middle[1]))


def make_slab(sections: Sequence[Section], starts: Sequence[Floats], frame: Frame) -> Slab | None:
    """Average the sections of a slab; None if none of them holds tissue.

    Args:
        sections: one or more.
        starts: [2, 3] per section, see `frame_for`.

    Raises:
        InputError: see `section_density`.
    """
    found = [section_density(section, frame.pixel_mm, frame.even_light) for section in sections]
    dark = np.array([one.darkest() for one in found])
    full = [k for k, one in enumerate(found) if one.area_mm2 >= frame.least_mm2]
    full = [k for k in full if dark[k] >= frame.least_stain * float(np.median(dark[full]))]
    if not full:
        return None
    matrices = np.stack([starts[k] for k in full])
    matrices[:, :, 2] += matrices[:, :, :2] @ np.array(frame.middle_mm)  # of a frame whose 0, 0 is the grid's middle
    corner = np.array([[corner_mm(sections[k], frame.pixel_mm)] * 2 for k in full])
    usual = float(np.median(dark[full]))
    images = np.zeros((len(full), 1, *frame.shape), np.float32)
    for place, k in enumerate(full):
        rows, columns = (min(a, b - 2) for a, b in zip(found[k].values.shape, frame.shape))
        images[place, 0, 1 : rows + 1, 1 : columns + 1] = found[k].values[:rows, :columns] * (usual / dark[k])
    offset = corner - frame.pixel_mm  # images have a border of bare glass
    if len(full) > 1 and not frame.keep:
        matrices = _together(images, matrices, offset, usual, frame)
    half = (np.array(frame.shape) - 1) / 2
    moved = Frames(images, offset, frame.pixel_mm, half, np.arange(len(full), dtype=float)).sample(matrices)[:, 0]
    middle = np.median(moved, axis=0)
    fit = np.array([overlap(one > STAINED, middle > STAINED) for one in moved])
    fits = np.flatnonzero(fit >= _LEAST_FIT)
    if 0 < len(fits) < len(full):
        middle = np.median(moved[fits], axis=0)
    elif not len(fits):
        fits = np.arange(len(full))
    to_image = matrices[fits]
    to_image[:, :, 2] -= to_image[:, :, :2] @ frame.centre_mm
    parts = [sections[full[k]] for k in fits]
    position = np.array([part.position_mm for part in parts])
    place = int(np.argmin(np.abs(position - position.mean())))
    shown = found[full[fits[place]]]
    return Slab(
        density=Density(
            values=middle, area_mm2=float((middle > STAINED).sum() * frame.pixel_mm**2), falloff=shown.falloff,
            fine=shown.fine,
        ),
        place=place, index=np.array([part.index for part in parts]), position_mm=position,
        px_mm=np.array([part.pixel_um / 1000 for part in parts]), to_image=to_image,
        odd=np.array(sorted({sections[k].index for k in full} - {part.index for part in parts}), np.int64),
    )  # fmt: skip


def _together(images: Image, start: Floats, offset: Floats, usual: float, frame: Frame) -> Floats:
    """Matrices of sections brought over each other; the mean of their places stays."""
    block = max(1, round(frame.coarse_mm / frame.pixel_mm))
    small = np.minimum(np.stack([block_means(one, block, 0.0) for one in images[:, 0]]) / usual, 1.2)
    step = block * frame.pixel_mm
    half = (np.array(small.shape[1:]) - 1) / 2
    joint = Joint(start, np.arange(len(images), dtype=float), stretch=False)
    matrices = start
    for blur in _BLURS:
        soft = np.stack([ndimage.gaussian_filter(one, blur) for one in small])[:, None] if blur else small[:, None]
        soft = np.ascontiguousarray(3 * soft, np.float32)
        work = Frames(soft, offset + (step - frame.pixel_mm) / 2, step, half, np.arange(len(images), dtype=float))
        reference = np.median(work.sample(matrices), axis=0).astype(np.float32)
        found = [joint.towards(reference, work, k, current, 1.0)[0] for k, current in enumerate(matrices)]
        drift = np.mean([joint.between(a, b) for a, b in zip(start, found)], axis=0)
        matrices = np.stack([joint.moved(current, -drift) for current in found])
    return matrices


def make_slabs(
    groups: Sequence[tuple[Section, ...]], starts: Mapping[int, Floats], frame: Frame, folder: Path,
    jobs: SlurmJobs.Config | None, workers: int,
) -> Iterator[Slab | None]:  # fmt: skip
    """The slabs in order; each is kept in a file of `folder`, so that an interrupted command goes on where it was.

    Args:
        jobs: make them as jobs of a cluster; the command waits for them.
        workers: threads otherwise.

    Raises:
        InputError: see `section_density`; or a job failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [
        (group, [starts[section.index] for section in group], frame, folder / f"{number:05d}.npz")
        for number, group in enumerate(groups)
    ]
    if jobs is not None:
        left = [task for task in tasks if not task[3].is_file()]
        parts = [(left[k : k + _PER_JOB],) for k in range(0, len(left), _PER_JOB)]
        for _, told in jobs.build().map(write_slabs, parts, folder / "jobs") if parts else ():
            if told:
                raise InputError(told)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        yield from pool.map(lambda task: _kept(*task), tasks)


def write_slabs(tasks: Sequence[tuple[tuple[Section, ...], Sequence[Floats], Frame, Path]]) -> str:
    """The work of one job: slabs that have no file yet. What is wrong with a section, or nothing."""
    try:
        for task in tasks:
            _kept(*task)
    except InputError as error:
        return str(error)
    return ""


def _kept(group: Sequence[Section], starts: Sequence[Floats], frame: Frame, path: Path) -> Slab | None:
    """The slab in a file; made and written if there is none, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as data:
            return _from_arrays(data)
    except (*DAMAGED, BadZipFile):
        pass
    arrays = _arrays(make_slab(group, starts, frame))
    with written_aside(path) as aside, aside.open("wb") as handle:
        np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]
    return _from_arrays(arrays)  # what a later command would read


def _arrays(slab: Slab | None) -> dict[str, NDArray[np.generic]]:
    if slab is None:
        return {"index": np.zeros(0, np.int64)}
    told = np.array([slab.place, slab.density.area_mm2, slab.density.falloff])
    return {
        "values": slab.density.values.astype(np.float16), "fine": slab.density.fine, "told": told, "index": slab.index,
        "position_mm": slab.position_mm, "px_mm": slab.px_mm, "to_image": slab.to_image, "odd": slab.odd,
    }  # fmt: skip


def _from_arrays(data: Mapping[str, NDArray[np.generic]]) -> Slab | None:
    if not len(data["index"]):
        return None
    place, area, falloff = data["told"].tolist()
    density = Density(
        values=data["values"].astype(np.float32), area_mm2=float(area), falloff=float(falloff),
        fine=data["fine"].astype(np.float32),
    )  # fmt: skip
    more = {name: data[name].astype(np.float64) for name in ("position_mm", "px_mm", "to_image")}
    return Slab(density=density, place=int(place), index=data["index"].astype(np.int64),
                odd=data["odd"].astype(np.int64), **more)  # fmt: skip

"""Coronal planes of a stained precomputed volume as images of sections that keep their places."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.source.precomputed import NM_PER_MM, PrecomputedVolume, Scale
from meshgnn.source.sections import AXES, write_tiff
from meshgnn.store import written_aside
from reconstruct.sources import Precomputed

TOGETHER = 16  # planes that are held at once
KEPT = ("uint8", "uint16", "int16", "float32")  # types that maps and images are stored in


def averaged(values: NDArray[Any], step: NDArray[np.int64]) -> NDArray[Any]:
    """Means over blocks of `step` voxels; without averaging, the values in a type that NIfTI and TIFF know."""
    if (step == 1).all():
        if values.dtype == bool:
            return values.astype(np.uint8)
        return values if str(values.dtype) in KEPT else values.astype(np.float32)
    x, y, z = (np.array(values.shape) // step).tolist()
    blocks = values.reshape(x, int(step[0]), y, int(step[1]), z, int(step[2]))
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float64), np.float32)


class Planes:
    """Coronal planes of a stained volume, or the one plane of a section's own volume (its number is then known)."""

    def __init__(self, source: Precomputed.Config, volume: PrecomputedVolume, number: int | None) -> None:
        self.volume, self.number = volume, number
        if str(volume.dtype) not in KEPT:
            raise InputError(f"{volume.address}: values of type {volume.dtype} are no image; 8 or 16 bit or float32 is")
        flat = [one for one in volume.scales if _in_plane(volume, one) <= source.voxel_mm * NM_PER_MM * (1 + 1e-6)]
        self.scale = max(flat, key=lambda one: _in_plane(volume, one)) if flat else volume.scales[0]
        self.low, self.high = volume.box(self.scale, source.box_mm)
        axes = volume.affine(self.scale)[:3, :3]
        self.axes = _axes(axes)
        column, row, along = self.axes
        nm = self.scale.voxel_nm
        if abs(nm[column] / nm[row] - 1) > 0.01:
            raise InputError(f"{volume.address}: pixels of {nm[column]:g} x {nm[row]:g} nm are not square")
        self.step = np.ones(3, np.int64)
        self.step[[column, row]] = max(1, int(source.voxel_mm * NM_PER_MM / nm[column] * (1 + 1e-6)))
        self.high = self.low + (self.high - self.low) // self.step * self.step
        first, last = int(self.low[along]), int(self.high[along])
        apart = max(1, round(source.every_mm * NM_PER_MM / nm[along]))
        self.planes = [(first + last) // 2] if number is not None else list(range(first, last, apart))
        size = (self.high - self.low).astype(float)
        self.pixels = float(np.prod(size[[column, row]] / self.step[[column, row]]))
        # Chunks hold several planes: all of a chunk is sent for one of them.
        chunk = int(self.scale.chunk[along])
        slabs = {(plane - int(self.scale.start[along])) // chunk for plane in self.planes}
        self.voxels = float(np.prod(size[[column, row]])) * min(len(slabs) * chunk, size[along])

    def groups(self) -> list[list[int]]:
        """Planes that share chunks, a few at a time."""
        along = self.axes[2]
        found: dict[int, list[int]] = {}
        for plane in self.planes:
            found.setdefault((plane - int(self.scale.start[along])) // int(self.scale.chunk[along]), []).append(plane)
        return [one[k : k + TOGETHER] for one in found.values() for k in range(0, len(one), TOGETHER)]

    def write(self, planes: list[int], folder: Path) -> list[list[Any]]:
        """Images of planes that are not there yet, and the rows of all."""
        column = self.axes[0]
        paths = {plane: folder / f"section_{self._index(plane):04d}.tif" for plane in planes}
        wanted = [plane for plane in planes if not paths[plane].is_file()]
        um = float(self.scale.voxel_nm[column] * self.step[column]) / 1000
        if wanted:
            images = self._read(wanted)
            for plane, image in images.items():
                with written_aside(paths[plane]) as aside:
                    write_tiff(aside, image, um)
        return [self._row(plane, paths[plane], um) for plane in planes]

    def _index(self, plane: int) -> int:
        """The section's number: its own, or that of the finest plane in the middle of this one, from 1."""
        if self.number is not None:
            return self.number
        along = self.axes[2]
        finest = min(one.voxel_nm[along] for one in self.volume.scales)
        return int((plane + 0.5) * self.scale.voxel_nm[along] / finest) + 1

    def _read(self, planes: list[int]) -> dict[int, NDArray[Any]]:
        column, row, along = self.axes
        low, high, reader = self.low.copy(), self.high.copy(), self.volume.reader(self.scale)
        low[along], high[along] = planes[0], planes[-1] + 1
        shape = ((high - low) // self.step)[[row, column]].tolist()
        images = {plane: np.zeros(shape, self.volume.dtype) for plane in planes}
        for first, last in reader.blocks(low, high, self.step):
            values = reader(first, last)
            inside = [plane for plane in planes if first[along] <= plane < last[along]]
            start = ((first - low) // self.step)[[row, column]]
            for plane in inside:
                part = np.take(values, [plane - int(first[along])], axis=along)
                part = averaged(part, self.step)
                part = np.transpose(part, (row, column, along))[..., 0]
                if self.volume.dtype.kind in "ui":
                    part = np.rint(part)
                at = tuple(slice(int(a), int(a) + n) for a, n in zip(start, part.shape))
                images[plane][at] = part.astype(self.volume.dtype)
        return {plane: self._upright(image) for plane, image in images.items()}

    def _turns(self) -> tuple[int, int]:
        """Whether the image is turned round (-1), rows and columns, to lie as sections do."""
        steps = self.volume.affine(self.scale)[:3, :3]
        wanted = AXES["coronal"]
        return tuple(  # type: ignore[return-value]
            int(np.sign(steps[:, axis] @ wanted[k])) for k, axis in ((1, self.axes[1]), (0, self.axes[0]))
        )

    def _upright(self, image: NDArray[Any]) -> NDArray[Any]:
        down, across = self._turns()
        return np.ascontiguousarray(image[::down, ::across])

    def _row(self, plane: int, path: Path, um: float) -> list[Any]:
        column, row, along = self.axes
        down, across = self._turns()
        size = (self.high - self.low) // self.step
        first = self.low.astype(float)
        first[along] = plane
        matrix = self.volume.affine(self.scale, np.zeros(3, np.int64))
        steps = matrix[:3, :3] * self.step
        for axis, turn in ((row, down), (column, across)):
            first[axis] += (self.step[axis] - 1) / 2 + (0 if turn > 0 else (size[axis] - 1) * self.step[axis])
        start = matrix[:3, 3] + matrix[:3, :3] @ first
        placed = np.column_stack([steps[:, column] * across, steps[:, row] * down, steps[:, along], start])
        middle = start + placed[:, 0] * (size[column] - 1) / 2 + placed[:, 1] * (size[row] - 1) / 2
        thick = float(self.scale.voxel_nm[along]) / 1000
        return [path.name, self._index(plane), f"{middle[1]:.4f}", f"{um:.6g}", f"{thick:.6g}", 1, "coronal",
                " ".join(f"{value:.9g}" for value in placed.ravel())]  # fmt: skip


def _axes(steps: NDArray[np.float64]) -> tuple[int, int, int]:
    """Which voxel axes run along columns (x), rows (z) and through the sections (y)."""
    order = [int(np.argmax(np.abs(steps[world]))) for world in (0, 2, 1)]
    if len(set(order)) != 3:
        raise InputError("the volume lies askew: its axes are too far from right, anterior and superior")
    return order[0], order[1], order[2]


def _in_plane(volume: PrecomputedVolume, scale: Scale) -> float:
    column, row, _ = _axes(volume.affine(scale)[:3, :3])
    return float(max(scale.voxel_nm[column], scale.voxel_nm[row]))

"""From the grid of one image to that of a store: one interpolation in mm.

The new voxels are placed in mm by the affines, so that an image of any size or orientation ends up where it belongs.
Where the new voxels are further apart, the image is smoothed first (a Gaussian of half the new spacing, less what a
voxel averages already), or fine structure would come back as false coarse one.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError


class Cube:
    """Cubes of voxels from images."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            size: voxels along a side of the cube; 0 keeps the images' own grid.
            fit: keep puts the whole image into the cube with one spacing for all axes (padded with 0); stretch fills
                the cube, each axis by itself; crop keeps the voxels' spacing and cuts or pads about the middle.
            spacing_mm: between voxels, where `fit` is crop; that of the images if 0.
            place: mm puts images by their affines; centre puts the middle of every image onto the middle of the cube,
                for images that share no space.
            order: of the interpolating spline: 0 nearest voxel, 1 trilinear, 3 cubic.
        """

        size: int = 64
        fit: Literal["keep", "stretch", "crop"] = "keep"
        spacing_mm: float = 0.0
        place: Literal["mm", "centre"] = "mm"
        order: Literal[0, 1, 3] = 1

        def __post_init__(self) -> None:
            if self.size < 0 or self.size > 1024:
                raise SettingError("<size> must lie between 0 (the images' own grid) and 1024")
            if self.spacing_mm < 0 or (self.spacing_mm and self.fit != "crop"):
                raise SettingError("<spacing_mm> must not be negative, and goes with <fit>=crop alone")

        def build(self) -> "Cube":
            return Cube(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def target(
        self, shape: tuple[int, int, int], affine: NDArray[np.float64]
    ) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
        """Shape and affine of the cube for images of this shape and affine (RAS order)."""
        c, old = self.config, np.array(shape, float)
        if not c.size and not c.spacing_mm:
            return shape, affine
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        length = old * spacing
        if c.fit == "crop":
            new = np.full(3, c.spacing_mm) if c.spacing_mm else spacing
        else:
            new = length / c.size if c.fit == "stretch" else np.full(3, length.max() / c.size)
        size = np.full(3, c.size) if c.size else np.ceil(length / new - 1e-6)
        found = np.eye(4)
        found[:3, :3] = affine[:3, :3] / spacing * new
        found[:3, 3] = affine[:3, :3] @ ((old - 1) / 2) + affine[:3, 3] - found[:3, :3] @ ((size - 1) / 2)
        x, y, z = size.astype(int).tolist()
        return (x, y, z), found

    def resample(
        self,
        values: NDArray[np.float32],
        affine: NDArray[np.float64],
        shape: tuple[int, int, int],
        target: NDArray[np.float64],
    ) -> NDArray[np.float32]:
        """Values [X, Y, Z] on another grid; 0 outside the image."""
        to_old = np.linalg.inv(affine) @ target
        if self.config.place == "centre":
            middle = (np.array(shape) - 1) / 2
            to_old[:3, 3] = (np.array(values.shape) - 1) / 2 - to_old[:3, :3] @ middle
        near = np.round(to_old)
        if np.abs(to_old - near).max() < 1e-4 and (near[:3, :3] == np.eye(3)).all():
            return _moved(values, near[:3, 3].astype(int), shape)
        step = np.linalg.norm(to_old[:3, :3], axis=1)
        sigma = np.sqrt(np.maximum(step**2 - 1, 0)) / 2
        smooth = ndimage.gaussian_filter(values, sigma, mode="constant", truncate=3) if sigma.any() else values
        found = ndimage.affine_transform(
            smooth, to_old[:3, :3], to_old[:3, 3], shape, order=self.config.order, mode="constant", output=np.float32
        )
        # A spline overshoots at edges: nothing may lie outside the image's own range.
        return np.clip(found, min(float(values.min()), 0.0), max(float(values.max()), 0.0))


def _moved(values: NDArray[np.float32], by: NDArray[np.int64], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Cut and padded by whole voxels, without interpolation."""
    out = np.zeros(shape, np.float32)
    low, high = np.maximum(-by, 0), np.minimum(np.array(values.shape) - by, shape)
    if (high > low).all():
        new = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist()))
        old = tuple(slice(a, b) for a, b in zip((low + by).tolist(), (high + by).tolist()))
        out[new] = values[old]
    return out


def clamped(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """Values below the `low`th and above the `high`th percentile of the voxels that are not 0 become these; 0 stays.

    Raises nothing: an image of zeros comes back as it is.
    """
    inside = values[values != 0]
    if not len(inside) or (low <= 0 and high >= 100):
        return values
    bottom, top = np.percentile(inside, [low, high])
    return np.where(values != 0, np.clip(values, bottom, top), 0).astype(np.float32)

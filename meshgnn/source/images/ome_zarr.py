"""OME-Zarr images of sections, versions 0.4 (Zarr 2) and 0.5 (Zarr 3): chunk by chunk where they are plain
(`zarr_tiles`), through the zarr package otherwise."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from meshgnn.errors import InputError
from meshgnn.optional import need
from meshgnn.source.images.zarr_tiles import ZarrTiles, open_tiles
from meshgnn.source.section_image import LARGEST, Level, SectionImage, level_of
from meshgnn.source.stains import DEFAULT

_UM = {"meter": 1e6, "centimeter": 1e4, "millimeter": 1e3, "micrometer": 1.0, "nanometer": 1e-3}


def is_zarr(path: Path) -> bool:
    """A folder with the metadata of a Zarr group."""
    return path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zattrs", ".zgroup"))


class OmeZarrImage(SectionImage):
    """The first multiscale image of an OME-Zarr folder: axes y and x, one z and t, one channel or three (RGB).

    The factors of levels come from their shapes, not from `scale`. Where a level has a `translation` relative to level
    0 its pixels lie where that says, else its pixels are taken for means of those that they cover.
    """

    def __init__(self, path: Path, *, mirrored: bool = False, stored: bool = False, stain: str = DEFAULT) -> None:
        super().__init__(path, mirrored=mirrored, stored=stored, stain=stain)
        axes, datasets, shared = self._multiscale()
        names = [str(axis["name"]) for axis in axes]
        self._y, self._x = names.index("y"), names.index("x")
        places = [self.path / str(one.get("path")) for one in datasets]
        if any(self.path.resolve() not in place.resolve().parents for place in places):
            raise InputError(f"{self.path}: a level lies outside the folder; write the metadata again")
        plain = [open_tiles(place, (self._y, self._x)) for place in places]
        arrays = [_Plain(one, len(names)) for one in plain if one is not None]
        if len(arrays) < len(places):
            arrays = self._by_zarr(datasets)
        self._arrays: list[Any] = []
        for number, array in enumerate(arrays):
            if not hasattr(array, "shape") or array.ndim != len(names):
                raise InputError(f"{self.path}, level {number}: not an array of {len(names)} axes; write it again")
            if min(array.shape) < 1:
                raise InputError(
                    f"{self.path}: level {number} of its pyramid is empty ({' x '.join(map(str, array.shape))}); "
                    "write the pyramid again"
                )
            self._arrays.append(array)
        first = self._arrays[0]
        self._channel = names.index("c") if "c" in names else None
        channels = first.shape[self._channel] if self._channel is not None else 1
        others = [n for k, n in enumerate(first.shape) if k not in (self._y, self._x, self._channel)]
        self.colour = channels == 3
        if channels not in (1, 3) or any(n != 1 for n in others) or (stored and self.colour):
            raise InputError(
                f"{self.path}: axes {''.join(names)} of {' x '.join(map(str, first.shape))} are not one grey or RGB "
                "image; save the section alone, with one channel"
            )
        if first.dtype.kind not in "uf" and not stored:
            raise InputError(f"{self.path}: values of kind {first.dtype} are not read; save it as 8 or 16 bit or float")
        if first.nbytes > LARGEST:
            raise InputError(
                f"{self.path}: {first.nbytes >> 30} GiB, at most {LARGEST >> 30} are read; save it smaller"
            )
        self.dtype = np.dtype(first.dtype).newbyteorder("=")
        self._places(axes, datasets, shared)

    def _by_zarr(self, datasets: list[dict[str, Any]]) -> list[Any]:
        """The arrays of all levels, opened by the zarr package."""
        zarr = need("zarr", "meshgnn[zarr]")
        try:
            group = zarr.open_group(str(self.path), mode="r")
            return [group[str(one["path"])] for one in datasets]
        except Exception as error:
            raise InputError(f"{self.path}: cannot be read as OME-Zarr ({error}); copy the folder again") from None

    def _multiscale(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[Any]]:
        """Axes, datasets and common transformations of the first multiscale image."""
        try:
            if (self.path / "zarr.json").is_file():
                about = json.loads((self.path / "zarr.json").read_text(encoding="utf-8"))["attributes"]["ome"]
            else:
                about = json.loads((self.path / ".zattrs").read_text(encoding="utf-8"))
            scales = about["multiscales"][0]
            axes = [{"name": one} if isinstance(one, str) else dict(one) for one in scales["axes"]]
            datasets = [dict(one) for one in scales["datasets"]]
            if datasets and {"x", "y"} <= {str(axis["name"]) for axis in axes}:
                return axes, datasets, list(scales.get("coordinateTransformations") or [])
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
            pass
        raise InputError(
            f"{self.path}: no multiscale image with axes y and x in its metadata (OME-Zarr 0.4 or 0.5); write it again"
        )

    def _places(self, axes: list[dict[str, Any]], datasets: list[dict[str, Any]], shared: list[Any]) -> None:
        """Levels, and the pixel size."""
        wanted = (self._y, self._x)
        try:
            known = [_scale_of(one.get("coordinateTransformations") or [], wanted) for one in datasets]
            common = _scale_of(shared, wanted)[0]
        except (ValueError, TypeError, KeyError, IndexError):
            raise InputError(f"{self.path}: its coordinate transformations are damaged; write them again") from None
        full = self._arrays[0].shape[self._y], self._arrays[0].shape[self._x]
        levels: list[Level] = []
        kept: list[Any] = []
        moved = any(shift is not None for _, shift in known[1:])
        for array, (_, shift) in zip(self._arrays, known):
            shape, chunks = (tuple(values[k] for k in wanted) for values in (array.shape, array.chunks))
            level = level_of(full, (shape[0], shape[1]), (chunks[0], chunks[1]))
            if levels and not (shape[0] < levels[-1].shape[0] and shape[1] < levels[-1].shape[1]):
                continue
            size = known[0][0]
            if levels and moved and size is not None:
                start = known[0][1] or (0.0, 0.0)
                own = shift or (0.0, 0.0)
                origin = ((own[0] - start[0]) / size[0], (own[1] - start[1]) / size[1])
                level = Level(shape=level.shape, factor=level.factor, tile_shape=level.tile_shape, origin=origin)
            levels.append(level)
            kept.append(array)
        self.levels, self._arrays = tuple(levels), kept
        units = [_UM.get(str(axes[k].get("unit") or "")) for k in wanted]
        size, more = known[0][0], common or (1.0, 1.0)
        if size is not None and units[0] and units[1]:
            um = size[0] * more[0] * units[0], size[1] * more[1] * units[1]
            self.pixel_um = um if min(um) > 0 and np.isfinite(um).all() else None

    def blocks(
        self, level: int, top: int, bottom: int, left: int, right: int
    ) -> Iterator[tuple[int, int, npt.NDArray[Any]]]:
        """See `SectionImage.blocks`."""
        array, (tall, wide) = self._arrays[level], self.levels[level].tile_shape
        rows, columns = self.levels[level].shape
        if isinstance(array, _Plain):
            for row in range(top // tall, -(-bottom // tall)):
                for column in range(left // wide, -(-right // wide)):
                    yield row * tall, column * wide, self.tile(row * -(-columns // wide) + column, level)
            return
        # Several chunks across in one call, so that the package may decode them side by side.
        wide *= max(1, 4096 // wide)
        for row in range(top // tall * tall, bottom, tall):
            for column in range(left // wide * wide, right, wide):
                place: list[Any] = [0] * array.ndim
                place[self._y] = slice(row, min(row + tall, rows))
                place[self._x] = slice(column, min(column + wide, columns))
                if self._channel is not None:
                    place[self._channel] = slice(None) if self.colour else 0
                try:
                    pixels = np.asarray(array[tuple(place)])
                except Exception as error:
                    raise InputError(
                        f"{self.path}: level {level} cannot be decoded at row {row}, column {column} ({error}); copy "
                        "the folder again"
                    ) from None
                if self.colour and self._channel is not None and self._channel < self._x:
                    pixels = np.moveaxis(pixels, 0, -1)
                if self._x < self._y:
                    pixels = np.swapaxes(pixels, 0, 1)
                yield row, column, self.grey(pixels.astype(self.dtype, copy=False))

    def tile(self, number: int, level: int = 0) -> npt.NDArray[Any]:
        """Decoded chunk `number` (row-major), cropped to the image, of a level read without the zarr package."""
        array, wide = self._arrays[level], self.levels[level].tile_shape[1]
        down, across = divmod(number, -(-self.levels[level].shape[1] // wide))
        try:
            tile: npt.NDArray[Any] = array.tiles.tile(down, across)
        except Exception as error:
            raise InputError(
                f"{self.path}: chunk {number} of level {level} cannot be decoded ({error}); copy the folder again"
            ) from None
        return tile

    def close(self) -> None:
        """Nothing is held open."""


class _Plain:
    """What this reader asks of an array, of one whose chunks are read directly."""

    def __init__(self, tiles: ZarrTiles, ndim: int) -> None:
        self.tiles, self.ndim, self.dtype = tiles, ndim, tiles.dtype
        ones = (1,) * (ndim - 2)
        self.shape, self.chunks = (*ones, *tiles.shape), (*ones, *tiles.tiles.shape)
        self.nbytes = tiles.shape[0] * tiles.shape[1] * tiles.dtype.itemsize


def _scale_of(
    transformations: list[Any], wanted: tuple[int, int]
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """Scale and translation of rows and columns, None where there is none."""
    found: dict[str, tuple[float, float]] = {}
    for one in transformations:
        if one.get("type") in ("scale", "translation"):
            values = one[one["type"]]
            found[one["type"]] = float(values[wanted[0]]), float(values[wanted[1]])
    return found.get("scale"), found.get("translation")

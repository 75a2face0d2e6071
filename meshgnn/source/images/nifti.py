"""NIfTI files that hold one section."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from meshgnn.errors import InputError
from meshgnn.source.images.decoded import TILE, DecodedImage
from meshgnn.source.section_image import level_of
from meshgnn.source.stains import DEFAULT

_UM = {"meter": 1e6, "mm": 1e3, "micron": 1.0}
# Per normal of the plane (x, y, z): world axis and sign that columns and rows grow along, as `sections.AXES` has them.
_TO = {0: ((1, 1), (2, -1)), 1: ((0, 1), (2, -1)), 2: ((0, 1), (1, -1))}


class NiftiImage(DecodedImage):
    """A NIfTI image [X, Y], or [X, Y, Z] with one axis of length 1; colour as a last axis of 3 or as RGB24.

    With an affine (sform or qform) three axes are laid as sections are looked at: columns to the right (sagittal: to
    the front), rows down (horizontal: to the back). Without one, and for two axes, the first axis is the column.
    """

    def __init__(self, path: Path, *, mirrored: bool = False, stored: bool = False, stain: str = DEFAULT) -> None:
        import nibabel

        super().__init__(path, mirrored=mirrored, stored=stored, stain=stain)
        try:
            image: Any = nibabel.load(self.path)
            header, self._image = image.header, image
            shape, kind = tuple(int(n) for n in image.shape), image.get_data_dtype()
            scaled = tuple(getattr(image.dataobj, "slope_inter", (1, 0)))
        except Exception as error:
            raise InputError(f"{self.path}: cannot be read as NIfTI ({error}); export it again") from None
        self._record = kind.names is not None
        space, rest = shape[:3], [n for n in shape[3:] if n != 1]
        self.colour = self._record or rest == [3]
        if sum(n > 1 for n in space) > 2 or len(space) < 2 or (rest and not self.colour) or (stored and self.colour):
            raise InputError(f"{self.path}: an array of {' x '.join(map(str, shape))} is not one section; split it")
        thin = next((k for k, n in enumerate(space) if n == 1), 2) if len(space) == 3 else None
        world = thin is not None and (int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0)
        self._axes, self._turned = ([k for k in range(len(space)) if k != thin][::-1], (False, False))
        if world:
            self._lay(thin)
        rows, columns = (space[k] for k in self._axes)
        plain = scaled in ((1, 0), (1.0, 0.0), (None, None))
        if self._record:
            kind = np.dtype(np.uint8)
        elif not plain or (kind.kind == "i" and not stored):
            kind = np.dtype(np.float32)
        if kind.kind not in "uif":
            raise InputError(f"{self.path}: values of kind {kind} are not read; save it as 8 or 16 bit or float")
        self.dtype = kind.newbyteorder("=")
        self._check_size(rows, columns, self.dtype.itemsize * (3 if self.colour else 1))
        self.levels = (level_of((rows, columns), (rows, columns), (min(TILE, rows), min(TILE, columns))),)
        unit, zooms = _UM.get(header.get_xyzt_units()[0], 1e3), header.get_zooms()
        size = [float(zooms[k]) * unit for k in self._axes]
        self.pixel_um = (size[0], size[1]) if min(size) > 0 and (world or max(size) != unit) else None

    def _lay(self, thin: int | None) -> None:
        """Array axes of rows and columns, and which of them run backwards, by the file's affine."""
        linear = np.asarray(self._image.affine, np.float64)[:3, :3]
        if not np.isfinite(linear).all() or abs(np.linalg.det(linear)) < 1e-12:
            raise InputError(f"{self.path}: its affine is singular or not finite; write the orientation again")
        flat = [k for k in range(3) if k != thin]
        normal = int(np.argmax(np.abs(np.cross(linear[:, flat[0]], linear[:, flat[1]]))))
        (across, right), (down, sink) = _TO[normal]
        column = max(flat, key=lambda k: abs(linear[across, k]) / np.linalg.norm(linear[:, k]))
        row = next(k for k in flat if k != column)
        self._axes = [row, column]
        self._turned = (linear[down, row] * sink < 0, linear[across, column] * right < 0)

    def _decode(self, level: int) -> npt.NDArray[Any]:
        pixels = np.asanyarray(self._image.dataobj)
        if self._record:
            pixels = np.stack([pixels[name] for name in "RGB"], axis=-1)
        rest = [k for k in range(pixels.ndim) if k not in self._axes]
        pixels = np.transpose(pixels, [*self._axes, *rest])
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        down, across = (slice(None, None, -1 if turned else 1) for turned in self._turned)
        return np.ascontiguousarray(pixels[down, across]).astype(self.dtype, copy=False)

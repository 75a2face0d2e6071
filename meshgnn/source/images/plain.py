"""PNG, JPEG and JPEG 2000 images of sections; the last two also in the smaller sizes that they hold."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from meshgnn.errors import InputError
from meshgnn.source.images.decoded import TILE, DecodedImage
from meshgnn.source.section_image import Level, level_of
from meshgnn.source.stains import DEFAULT, LUMINANCE
from meshgnn.source.tiff import check_upright, from_resolution

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_BOX, _CODESTREAM = b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51"
_MODES = ("L", "I;16", "I;16B", "I", "RGB", "RGBA", "LA", "P")
_INCH_UM = 25400.0


class PlainImage(DecodedImage):
    """A PNG, JPEG or JPEG 2000 file: grey, RGB or palette, 8 or 16 bit; what is transparent is white.

    JPEG 2000 gives levels by its wavelet resolutions, whose samples lie on every second (fourth, ...) pixel and not in
    the middle between pixels (ISO 15444-1, B.5); JPEG gives halves, quarters and eighths by its cosine transform.
    """

    def __init__(self, path: Path, *, mirrored: bool = False, stored: bool = False, stain: str = DEFAULT) -> None:
        super().__init__(path, mirrored=mirrored, stored=stored, stain=stain)
        try:
            with self.path.open("rb") as handle:
                head = handle.read(1 << 16)
            self._head = head[:16]
            self._kind, file = _opened(self.path, head)
            with file:  # the header alone
                size, mode, about = file.size, file.mode, dict(file.info)
                check_upright(self.path, int(file.getexif().get(274, 1)))
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{self.path}: cannot be read ({error}); export it again") from None
        if mode not in _MODES:
            raise InputError(f"{self.path}: an image of kind {mode} is not read; save it as 8 or 16 bit grey or RGB")
        if stored and mode not in ("L", "P", "I;16", "I;16B", "I"):
            raise InputError(f"{self.path}: labels need one whole number per pixel, not colour")
        shape, bits = (size[1], size[0]), _bits(self._kind, head)
        self.dtype = np.dtype(np.uint16 if bits > 8 else np.uint8)
        self._mode, self.colour = mode, mode in ("RGB", "RGBA")
        self._check_size(*shape, (3 if self.colour else 1) * self.dtype.itemsize)
        self._reductions = [0]
        # Pillow stretches 9 to 15 bits to 16, and makes 16-bit colour 8-bit: no smaller sizes of those.
        if self._kind == "jp2" and (bits == 8 or mode == "I;16") and bits in (8, 16):
            self._reductions += [k for k in range(1, _wavelet_levels(head) + 1) if min(shape) >> k >= 16]
        elif self._kind == "jpeg" and not stored:
            self._reductions += [k for k in range(1, 4) if min(shape) >> k >= 16]
        self.levels = tuple(self._level(shape, k) for k in self._reductions)
        self.pixel_um = _pixel_um(about)

    def _level(self, shape: tuple[int, int], reduction: int) -> Level:
        tile, step = (min(TILE, shape[0]), min(TILE, shape[1])), 1 << reduction
        level = level_of(shape, (-(-shape[0] // step), -(-shape[1] // step)), tile)
        if self._kind != "jp2" or not reduction:
            return level
        return Level(shape=level.shape, factor=(step, step), origin=(0.0, 0.0), tile_shape=tile)

    def _decode(self, level: int) -> npt.NDArray[Any]:
        import imagecodecs

        if level:
            return self._smaller(level)
        data = self.path.read_bytes()
        decode = {"png": imagecodecs.png_decode, "jpeg": imagecodecs.jpeg_decode, "jp2": imagecodecs.jpeg2k_decode}
        if self._mode == "P":
            return self._palette()
        return self._opaque(np.asarray(decode[self._kind](data)))

    def _opaque(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """[H, W] or [H, W, 3] of decoded pixels; white shows where they are transparent."""
        if pixels.ndim == 2 or pixels.shape[2] == 3:
            return pixels
        if pixels.shape[2] == 1 or self.stored:
            return pixels[..., 0]
        seen = pixels[..., -1:].astype(np.float32) / np.iinfo(pixels.dtype).max
        shown = pixels[..., :-1] * seen + np.iinfo(pixels.dtype).max * (1 - seen)
        shown = np.round(shown).astype(pixels.dtype)
        return shown[..., 0] if shown.shape[2] == 1 else shown

    def _palette(self) -> npt.NDArray[Any]:
        with _opened(self.path, self._head)[1] as file:
            numbers = np.asarray(file)
            colours = np.array(file.getpalette("RGB"), np.float64).reshape(-1, 3)
        if self.stored:
            return numbers
        grey = np.zeros(256, np.uint8)
        grey[: len(colours)] = np.round(colours @ LUMINANCE)
        return grey[numbers]

    def _smaller(self, level: int) -> npt.NDArray[Any]:
        with _opened(self.path, self._head)[1] as file:
            rows, columns = self.shape
            if self._kind == "jp2":
                # Pillow rounds the reduced size to the nearest, the standard up: a size that both round alike.
                power = 1 << self._reductions[level]
                file._size = (-(-columns // power) * power, -(-rows // power) * power)
                file.reduce = self._reductions[level]
            else:
                file.draft(file.mode, (columns >> level, rows >> level))
            pixels = np.asarray(file)
        return self._opaque(pixels).astype(self.dtype, copy=False)


def _opened(path: Path, head: bytes) -> tuple[str, Any]:
    """Kind, and Pillow's file (header only); by the first bytes, whatever the name says."""
    from PIL import Jpeg2KImagePlugin, JpegImagePlugin, PngImagePlugin

    if head.startswith(_PNG):
        return "png", PngImagePlugin.PngImageFile(path)
    if head.startswith(_JPEG):
        return "jpeg", JpegImagePlugin.JpegImageFile(path)
    if head.startswith((_BOX, _CODESTREAM)):
        return "jp2", Jpeg2KImagePlugin.Jpeg2KImageFile(path)
    raise InputError(f"{path}: neither PNG, JPEG nor JPEG 2000; export it again")


def _bits(kind: str, head: bytes) -> int:
    """Bits per sample."""
    if kind == "png":
        return head[24] if len(head) > 24 else 8
    if kind == "jp2":
        place = head.find(_CODESTREAM)
        return (head[place + 42] & 0x7F) + 1 if 0 <= place < len(head) - 42 else 8
    return 8


def _wavelet_levels(head: bytes) -> int:
    """Decomposition levels, of the main header's COD segment."""
    place = head.find(_CODESTREAM)
    while 0 <= place < len(head) - 14:
        marker = head[place : place + 2]
        if marker == b"\xff\x4f":
            place += 2
            continue
        if marker == b"\xff\x52":
            return min(head[place + 9], 32)
        if marker in (b"\xff\x90", b"\xff\xd9"):
            break
        place += 2 + int(struct.unpack(">H", head[place + 2 : place + 4])[0])
    return 0


def _pixel_um(about: dict[str, Any]) -> tuple[float, float] | None:
    across, down = (float(value) for value in about.get("dpi") or (0.0, 0.0))
    whole = (round(down), round(across))  # PNG keeps whole pixels per metre
    near = abs(down - whole[0]) < 0.02 and abs(across - whole[1]) < 0.02
    return from_resolution(*((float(whole[0]), float(whole[1])) if near else (down, across)), _INCH_UM)

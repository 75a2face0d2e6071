"""NIfTI files, single volumes and runs of them, read with care: nothing is believed before it is checked.

Sizes that a header declares are compared with what the file can hold before memory is taken, compressed files are read
to their end, so that their checksum is verified, and orientation becomes RAS.
"""

import gzip
import zlib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.source.limits import LIMIT_BYTES, check_declared

RUN_BYTES = 1 << 35  # of one run: 1200 frames of 2 mm voxels take 4.3 GB as float32
DEFLATE = 1032  # bytes that one byte of deflate can stand for at most
ENDINGS = (".nii.gz", ".nii")


class BadVolume(InputError):
    """A file that holds no usable volume.

    Args:
        reason: one word for the table of bad subjects.
    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Header:
    """What the first bytes of a file say, in RAS order.

    Args:
        shape: [3] voxels.
        affine: [4, 4] voxel -> mm.
        frames: volumes in the file.
        tr_s: time between them by the header, 0 where it says none.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    frames: int = 1
    tr_s: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Image:
    """A volume in RAS order.

    Args:
        values: [X, Y, Z] float32, finite, read-only.
        affine: [4, 4] voxel -> mm.
        digest: hash of the numbers and where they lie, whatever the file is called and however it is packed.
    """

    values: NDArray[np.float32]
    affine: NDArray[np.float64]
    digest: str


def read_header(path: Path) -> Header:
    """Shape and affine of a NIfTI file; 540 bytes are read.

    Raises:
        BadVolume: no NIfTI file, not one volume, no affine of its own, or larger than the file can hold.
    """
    return _header(path, _bytes(path, 1024))[1]


def read_run_header(path: Path) -> Header:
    """The same of a file of several volumes [X, Y, Z, T].

    Raises:
        BadVolume: as `read_header`; a file of one volume.
    """
    return _header(path, _bytes(path, 1024), run=True)[1]


class RunFrames:
    """The volumes of one run, RAS, one after another; the whole file is held as it is, not as float32."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            BadVolume: as `read_run_header`, a truncated or damaged file.
        """
        raw, self.header, end = _header(path, _bytes(path, 1024), run=True)
        self.path, self._image = path, _loaded(path, raw, end)
        self._turned = _turn(self._image.affine)

    def __len__(self) -> int:
        return self.header.frames

    def frame(self, number: int) -> NDArray[np.float32]:
        """[X, Y, Z].

        Raises:
            BadVolume: values that are not finite.
        """
        import nibabel

        proxy = self._image.dataobj
        values = np.asarray(proxy[..., number] if len(proxy.shape) == 4 else proxy[..., number, 0], np.float32)
        wrong = int((~np.isfinite(values)).sum())
        if wrong:
            raise BadVolume("not_finite", f"{self.path}: {wrong} voxels of frame {number} are NaN or infinite")
        return np.asarray(nibabel.orientations.apply_orientation(values, self._turned), np.float32)


def read_image(path: Path) -> Image:
    """The volume of a NIfTI file, RAS.

    Raises:
        BadVolume: as `read_header`, a truncated or damaged file, values that are not finite or all alike.
    """
    import nibabel

    header, _, end = _header(path, _bytes(path, 1024))
    loaded = _loaded(path, header, end)
    try:
        image = nibabel.as_closest_canonical(loaded)
        values = np.asarray(image.dataobj, np.float32)
        affine = np.asarray(image.affine, np.float64)
    except (OSError, ValueError, TypeError, KeyError, ArithmeticError, nibabel.filebasedimages.ImageFileError) as error:
        raise BadVolume("damaged", f"{path}: cannot be read as NIfTI ({_short(error)})") from None
    values = values.reshape(values.shape[:3])
    wrong = int((~np.isfinite(values)).sum())
    if wrong:
        raise BadVolume("not_finite", f"{path}: {wrong} voxels are NaN or infinite")
    if not values.any():
        raise BadVolume("all_zero", f"{path}: all voxels are 0")
    if values.min() == values.max():
        raise BadVolume("constant", f"{path}: all voxels are {values.flat[0]:g}")
    digest = sha256(np.ascontiguousarray(values).tobytes() + affine.tobytes() + repr(values.shape).encode())
    values.setflags(write=False)
    return Image(values=values, affine=affine, digest=digest.hexdigest()[:16])


def _loaded(path: Path, header: Any, end: int) -> Any:
    """nibabel's image of a file whose checked header says that its data end there."""
    import nibabel

    content = _bytes(path, end, to_end=True)
    if len(content) < end:
        raise BadVolume("damaged", f"{path}: ends after {len(content)} of {end} bytes; it is truncated")
    kind: Any = nibabel.Nifti1Image if header["sizeof_hdr"] == 348 else nibabel.Nifti2Image
    try:
        return kind.from_bytes(content)
    except (OSError, ValueError, TypeError, KeyError, ArithmeticError, nibabel.filebasedimages.ImageFileError) as error:
        raise BadVolume("damaged", f"{path}: cannot be read as NIfTI ({_short(error)})") from None


def _turn(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """[3, 2] nibabel's orientation of the axes, which turns voxels into RAS order."""
    import nibabel

    return np.asarray(nibabel.orientations.io_orientation(affine))


def _bytes(path: Path, most: int, to_end: bool = False) -> bytes:
    """The first bytes of a file, unpacked if it is a gzip file; the rest is gone through to check its checksum."""
    try:
        with open(path, "rb") as handle:
            packed = handle.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else open(path, "rb") as source:
            content = source.read(most)
            while to_end and packed and source.read(1 << 20):
                pass
            return content
    except (zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise BadVolume("damaged", f"{path}: is a damaged gzip file ({_short(error)})") from None
    except OSError as error:
        raise BadVolume("unreadable", f"{path}: cannot be read ({error.strerror or error})") from None


def _header(path: Path, start: bytes, run: bool = False) -> tuple[Any, Header, int]:
    """nibabel's header, ours, and where the declared data end."""
    import nibabel

    sizes = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    kind: Any = nibabel.Nifti2Header if 540 in sizes else nibabel.Nifti1Header
    length = 540 if 540 in sizes else 348
    if not sizes & {348, 540} or len(start) < length:
        raise BadVolume("damaged", f"{path}: is no NIfTI file")
    try:
        header = kind(start[:length])
        shape = tuple(map(int, header.get_data_shape()))
        item, affine = int(header.get_data_dtype().itemsize), np.asarray(header.get_best_affine(), np.float64)
        placed = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
        begin = int(header["vox_offset"])
        colour = header.get_data_dtype().fields is not None
        tr_s = _seconds(header) if run else 0.0
    except (ValueError, KeyError, TypeError, ArithmeticError, nibabel.spatialimages.HeaderDataError) as error:
        raise BadVolume("damaged", f"{path}: its NIfTI header is damaged ({_short(error)})") from None
    needed = 4 if run else 3
    while len(shape) > needed and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != needed:
        reason = {3: "three_dimensional", 4: "four_dimensional"}.get(len(shape), "not_a_volume")
        what = "volumes over time [X, Y, Z, T] are" if run else "one volume [X, Y, Z] is"
        raise BadVolume(reason, f"{path}: holds an array of shape {shape}; {what} needed")
    if min(shape) < 1 or colour:
        raise BadVolume("not_a_volume", f"{path}: shape {shape}, type {header.get_data_dtype()}; numbers are needed")
    if not placed or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise BadVolume("no_affine", f"{path}: says nowhere where it lies; save it with its affine")
    declared = item * int(np.prod(shape, dtype=object))
    limit = RUN_BYTES if run else LIMIT_BYTES
    held, packed = path.stat().st_size, str(path).endswith(".gz")
    try:
        # What is read becomes float32, whatever the file holds.
        check_declared(path, max(declared, begin), held, packing=DEFLATE if packed else 1, limit=limit)
        check_declared(path, declared // item * 4, declared // item * 4, limit=limit)
    except InputError as error:
        raise BadVolume("too_large", str(error)) from None
    turned = _turn(affine)
    back = nibabel.orientations.inv_ornt_aff(turned, shape[:3])
    x, y, z = (shape[k] for k in np.argsort(turned[:, 0]))
    ours = Header(shape=(x, y, z), affine=affine @ back, frames=shape[3] if run else 1, tr_s=tr_s)
    return header, ours, begin + declared


def _seconds(header: Any) -> float:
    """The header's time between frames; 0 where it says none."""
    unit = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}.get(header.get_xyzt_units()[1], 1.0)
    step = float(header["pixdim"][4]) * unit
    return step if np.isfinite(step) and step > 0 else 0.0


def _short(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__

"""Maps of grey and white matter: how they are read, and the ribbon between them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from reconstruct.records import Ribbon

LARGEST_VOXELS = 1e9
"""A map with more voxels is refused before memory is taken."""


def ribbon_of(grey: NDArray[np.float32], white: NDArray[np.float32], affine: NDArray[np.float64], space: str) -> Ribbon:
    """The ribbon of maps [X, Y, Z] with cubes for voxels: tissue where the two together pass 0.5, white matter where
    white exceeds grey."""
    pad = 4
    white, grey = (np.pad(field, pad) for field in (white, grey))
    affine = affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, pad)
    pial = (0.5 - grey - white).astype(np.float32)
    level = np.where(pial < 0, grey - white, 0.5).astype(np.float32)
    # In mm, roughly: probability falls from 1 to 0 over about two voxels.
    scale = np.float32(2 * np.linalg.norm(affine[:3, 0]))
    return Ribbon(
        pial=(pial * scale).astype(np.float32), white=(np.maximum(level, pial) * scale).astype(np.float32),
        affine=affine, space=space,
    )  # fmt: skip


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raises InputError for a file that is not there, or that nibabel fails on."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: cannot be read as a volume ({error}); export it again as NIfTI") from None


def read_pair(
    grey_path: Path, white_path: Path
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """Maps of grey and of white matter [X, Y, Z] on one grid, and its affine.

    Raises:
        InputError: see `read_probability`; two grids.
    """
    grey, affine = read_probability(grey_path)
    white, other = read_probability(white_path)
    if grey.shape != white.shape or not np.allclose(affine, other, atol=1e-3):
        raise InputError(f"{white_path}: not on the grid of {grey_path.name} ({white.shape}, {grey.shape})")
    return grey, white, affine


def read_probability(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """A probability map [X, Y, Z] in RAS order and its affine; values above 1 are taken as percent or 8-bit.

    Raises:
        InputError: see `read_volume`; no probabilities.
    """
    data, affine = read_volume(path)
    top = float(data.max(initial=0))
    if data.min(initial=0) < -1e-3 or top <= 0:
        raise InputError(f"{path}: probabilities from 0 to 1 are expected, values run up to {top:g}")
    scale = 1.0 if top <= 1.001 else 100.0 if top <= 100 else 255.0
    return (data / np.float32(scale)).astype(np.float32), affine


def read_volume(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Values [X, Y, Z] in RAS order and the affine.

    Raises:
        InputError: the file is missing, cut short, too large, without affine, not one 3D volume of finite numbers.
    """
    import nibabel

    with reading(path):
        image: Any = nibabel.load(path)
        header = image.header
        if hasattr(header, "get_sform") and int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
            raise InputError(f"{path}: has no affine (sform and qform unset), so nobody knows where left is; set one")
        if np.prod([float(size) for size in image.shape]) > LARGEST_VOXELS:
            raise InputError(
                f"{path}: its header asks for {image.shape} voxels, more than {LARGEST_VOXELS:.0e} are not read"
            )
        if image.get_data_dtype().fields is not None:
            raise InputError(f"{path}: holds colours; give one channel")
        if len(image.shape) < 3:
            raise InputError(f"{path}: needs a 3D volume, has shape {image.shape}")
        image = nibabel.as_closest_canonical(image)
        data = np.asarray(image.get_fdata(dtype=np.float32))
    data = data[..., 0] if data.ndim == 4 and data.shape[3] == 1 else data
    if data.ndim != 3:
        raise InputError(f"{path}: needs a 3D volume, has shape {data.shape}")
    if not np.isfinite(data).all():
        raise InputError(f"{path}: {int((~np.isfinite(data)).sum())} voxels are not finite; set them to 0")
    return data, np.asarray(image.affine, np.float64)

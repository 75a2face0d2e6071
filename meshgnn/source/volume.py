"""Image volumes: a grid of values and where it lies, in mm."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from meshgnn.errors import InputError
from meshgnn.mesh.record import frozen

# What people call the two coordinate spaces that group templates lie in. Templates of one line differ from each other
# by a few mm in places (the 2009 templates from the sixth generation, for one): they count as one space here.
MNI152 = ("MNI152", "MNI152NLin6Asym", "MNI152NLin6Sym", "MNI152NLin2009aSym", "MNI152NLin2009aAsym",
          "MNI152NLin2009bSym", "MNI152NLin2009bAsym", "MNI152NLin2009cSym", "MNI152NLin2009cAsym")  # fmt: skip
MNI305 = ("MNI305", "fsaverage", "fsaverage6", "fsaverage5", "fsaverage4", "fsaverage3")
# FreeSurfer wiki, CoordinateSystems, 8: MNI305 (fsaverage) RAS -> MNI152 RAS, from average/mni152.register.dat. The
# fit is affine; what is left between the two averages is a few mm (Wu et al. 2018, doi:10.1002/hbm.24213).
MNI305_TO_MNI152 = np.array([
    [0.9975, -0.0073, 0.0176, -0.0429],
    [0.0146, 1.0009, -0.0024, 1.5496],
    [-0.0130, -0.0093, 0.9971, 1.1840],
    [0.0, 0.0, 0.0, 1.0],
])  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Volume:
    """Values on a grid.

    Args:
        values: [X, Y, Z] float32, finite.
        affine: [4, 4] float64, voxel -> mm (RAS).
        space: name of the coordinate space that the affine leads to.
    """

    values: npt.NDArray[np.float32]
    affine: npt.NDArray[np.float64]
    space: str

    def __post_init__(self) -> None:
        values, affine = np.asarray(self.values), np.asarray(self.affine, np.float64)
        if values.ndim != 3 or 0 in values.shape or not np.isfinite(values).all():
            raise InputError(f"a volume needs finite values [X, Y, Z], got shape {values.shape}")
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise InputError("a volume needs an affine [4, 4] that can be inverted")
        object.__setattr__(self, "values", frozen(values, np.float32))
        object.__setattr__(self, "affine", frozen(affine, np.float64))

    @property
    def voxel_mm(self) -> npt.NDArray[np.float64]:
        """[3] length of a voxel along its axes."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    def key(self) -> str:
        """Hash of values, affine and space."""
        digest = sha256(self.values.tobytes())
        digest.update(self.affine.tobytes() + self.space.encode() + repr(self.values.shape).encode())
        return digest.hexdigest()[:16]


def read_volume(path: Path, space: str) -> Volume:
    """A NIfTI file of one volume; values that are not finite become 0.

    Raises:
        InputError: no such file, not a NIfTI image, more than one volume, no affine of its own.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        image = nibabel.load(path)
        header: Any = image.header
        affine = image.affine  # type: ignore[attr-defined]
        placed = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
        values = np.asarray(image.dataobj, np.float32)  # type: ignore[attr-defined]
    except (OSError, ImageFileError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as NIfTI ({str(error).splitlines()[0] or 'damaged'})") from None
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        raise InputError(f"{path}: holds an array of shape {values.shape}; one volume [X, Y, Z] is needed")
    if not placed:
        raise InputError(f"{path}: says nowhere where it lies (no sform, no qform); save it with its affine")
    return Volume(values=np.nan_to_num(values, posinf=0, neginf=0), affine=affine, space=space)


def between_spaces(start: str, end: str) -> npt.NDArray[np.float64]:
    """[4, 4] that brings mm of space `start` into `end`.

    Raises:
        InputError: neither one space, nor MNI305 (fsaverage) and MNI152.
    """
    if start == end or any(start in line and end in line for line in (MNI152, MNI305)):
        return np.eye(4)
    if start in MNI305 and end in MNI152:
        return MNI305_TO_MNI152
    if start in MNI152 and end in MNI305:
        return np.asarray(np.linalg.inv(MNI305_TO_MNI152))
    raise InputError(
        f"the surfaces lie in space {start!r}, the volume in {end!r}, and no transform between them is known; bring "
        "one into the space of the other, and name it (surfaces: _space-NAME_ in their files' names; a volume of "
        "yours: its setting space)"
    )

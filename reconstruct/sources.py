"""What a reconstruction may start from: configs that name files. Nothing is read here."""

from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import Literal

from meshgnn import config
from meshgnn.errors import InputError, SettingError
from meshgnn.optional import data_folder

# Cerebellar white matter left and right, its vermis, pons (three), medulla; MNI mm.
_NOT_CEREBRUM = (-20.0, -60, -37, 20, -60, -37, 0, -62, -28, -7, -27, -25, 7, -27, -25, 0, -27, -33, 0, -38, -52)


class SectionFolder:
    """A stack of section images on disk."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            path: folder with sections.csv.
            space: name of the coordinate space; the folder's name if empty.
            stain: which channel colour images become (density, luminance, hematoxylin, ...); the column `stain` of
                sections.csv says it if empty.
            registration: where the sections lie: a file of QuickNII, VisuAlign, DeepSlice or WebAlign, or a folder of
                ITK or elastix transforms; the column `affine` of sections.csv if not given.
            voxel_um: side of the voxels of the atlas, where the registration does not tell it.
            section_is: whether the section was the moving or the fixed image of ITK or elastix.
            poses: what a registration is for: the alignment starts from it, keeps it, or ignores it.
        """

        path: Path | None = None
        space: str = ""
        stain: str = ""
        registration: Path | None = None
        voxel_um: float = 0.0
        section_is: Literal["moving", "fixed"] = "moving"
        poses: Literal["start", "keep", "ignore"] = "start"


class VolumePair:
    """Grey and white matter probability maps on disk."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            grey, white: NIfTI files on one grid.
            space: name of the coordinate space.
            other_mm: places (x, y, z, x, y, z, ...) in tissue that is not cerebrum (cerebellum, brain stem), which is
                then cut off where the way to the cerebrum is narrowest; none if the maps hold the cerebrum alone.
        """

        grey: Path | None = None
        white: Path | None = None
        space: str = "unknown"
        other_mm: tuple[float, ...] = ()

        def __post_init__(self) -> None:
            if len(self.other_mm) % 3:
                raise SettingError(f"<other_mm> needs three numbers per place, got {len(self.other_mm)} numbers")

        @property
        def named(self) -> tuple[Path, ...]:
            """The files that are named, if any."""
            return tuple(path for path in (self.grey, self.white) if path is not None)

        def files(self) -> tuple[Path, Path]:
            """Grey and white. Raises InputError when one is not named."""
            if self.grey is None or self.white is None:
                raise InputError("give both probability maps: --set source.grey=FILE --set source.white=FILE")
            return self.grey, self.white


class Mni152:
    """Grey and white matter probability of the MNI152 average at 1 mm (Fonov et al. 2011), as nilearn ships it.

    The maps hold cerebellum and brain stem too; they are cut off.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        def volumes(self) -> VolumePair.Config:
            """The two files of the installed package."""
            folder = data_folder("nilearn") / "datasets" / "data"
            grey, white = (folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz" for kind in ("gm", "wm"))
            return VolumePair.Config(grey=grey, white=white, space="MNI152NLin2009aSym", other_mm=_NOT_CEREBRUM)


class SurfacePair:
    """White and pial surfaces of one or two hemispheres in a surface folder: their ribbon is the tissue."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            folder: with `*_hemi-L_white.surf.gii`, `*_hemi-L_pial.surf.gii` and the same of hemi-R.
            space: name of the coordinate space.
            voxel_mm: of the grid on which the ribbon is drawn.
        """

        folder: Path | None = None
        space: str = "unknown"
        voxel_mm: float = 0.5

        def __post_init__(self) -> None:
            if not 0.02 <= self.voxel_mm <= 5:
                raise SettingError(f"<voxel_mm> must lie between 0.02 and 5 mm, got {self.voxel_mm}")


_CODES = {"".join(sides) for order in permutations(("LR", "PA", "IS")) for sides in product(*order)}
ORIENTATIONS = frozenset(_CODES | {code[::-1] for code in _CODES})


class StainedVolume:
    """One volume whose values are stain or light, without classes of tissue (block face, light sheet, MRI)."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            path: NIfTI file.
            space: name of the coordinate space.
            voxel_mm: side of a voxel where the header does not know it; None = as the header says.
            orientation: to which side each array axis grows (RAS, PIR, ...); "" = as the header says.
        """

        path: Path | None = None
        space: str = "unknown"
        voxel_mm: float | None = None
        orientation: str = ""

        def __post_init__(self) -> None:
            if self.orientation and self.orientation not in ORIENTATIONS:
                raise SettingError(
                    f"<orientation> needs one letter of each of L or R, P or A, I or S, got {self.orientation!r}"
                )
            if self.voxel_mm is not None and not 0 < self.voxel_mm <= 5:
                raise SettingError(f"<voxel_mm> must lie between 0 and 5 mm, got {self.voxel_mm}")

"""What a reconstruction may start from: configs that name files. Nothing is read here."""

from dataclasses import dataclass, replace
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


class Precomputed:
    """Volumes in Neuroglancer's precomputed format, on a server or in a folder.

    Only the chunks that are needed are read, at the coarsest scale that is fine enough; what was read stays in the run
    folder. Give `grey` and `white`, or `labels`, or `image`.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            grey, white: addresses of probability maps (https://..., http://..., file://... or a folder).
            labels: address of one volume of classes in their place.
            grey_labels, white_labels: its values in grey and in white matter.
            image: address of a stained volume: its coronal planes become sections, which keep their places. With
                `{number}` in it, one volume per section of `sections`.
            sections: numbers of sections, for such addresses.
            every_mm: distance between planes.
            areas: addresses of volumes of areas (0 = none): the nodes of the mesh are labelled by them.
            space: name of the coordinate space.
            voxel_mm: of the scale, at most; finer ones are averaged over blocks where that comes nearer.
            box_mm: the part that is read, x, y, z, x, y, z; everything if empty.
            other_mm: see `VolumePair`.
            missing: what a chunk that is not there means.
            timeout_s: how long the server may take for an answer.
            largest_gb: more is not read.
        """

        grey: str = ""
        white: str = ""
        labels: str = ""
        grey_labels: tuple[int, ...] = ()
        white_labels: tuple[int, ...] = ()
        image: str = ""
        sections: tuple[int, ...] = ()
        every_mm: float = 2.0
        areas: tuple[str, ...] = ()
        space: str = "unknown"
        voxel_mm: float = 0.5
        box_mm: tuple[float, ...] = ()
        other_mm: tuple[float, ...] = ()
        missing: Literal["refuse", "zero"] = "refuse"
        timeout_s: float = 60.0
        largest_gb: float = 8.0

        def __post_init__(self) -> None:
            if len(self.other_mm) % 3:
                raise SettingError(f"<other_mm> needs three numbers per place, got {len(self.other_mm)} numbers")
            if self.box_mm and (len(self.box_mm) != 6 or not all(a < b for a, b in zip(self.box_mm, self.box_mm[3:]))):
                raise SettingError("<box_mm> needs six numbers: the lower corner x,y,z and the upper one")
            for name in ("voxel_mm", "every_mm", "timeout_s", "largest_gb"):
                if not getattr(self, name) > 0:
                    raise SettingError(f"<{name}> must be above 0, got {getattr(self, name)}")


class BigBrain:
    """BigBrain (Amunts et al. 2013, doi:10.1126/science.1235381), release 2015, in its histological space.

    Addresses are those under which EBRAINS lists it (siibra-configurations, 2026); none of them could be tried where
    this was written. Licence of the data: CC BY-NC-SA 4.0.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            read: "tissue" (grey and white matter between the published surfaces), or "sections" (coronal planes of
                the stained volume, 20 um apart at its finest scale, which keep their places).
            sections: numbers (1 to 7404) of sections that were scanned at 1 um; planes of the volume if empty.
            every_mm: distance between planes.
            areas: maps of areas that label the nodes, by the names of the release of 2022 without the side
                (`area6d_6d1`).
            voxel_mm, box_mm, missing, timeout_s, largest_gb: see `Precomputed`.
            root: address of the release.
            one_micron: address of the sections at 1 um.
        """

        read: Literal["tissue", "sections"] = "tissue"
        sections: tuple[int, ...] = ()
        every_mm: float = 2.0
        areas: tuple[str, ...] = ()
        voxel_mm: float = 0.4
        box_mm: tuple[float, ...] = ()
        missing: Literal["refuse", "zero"] = "refuse"
        timeout_s: float = 60.0
        largest_gb: float = 8.0
        root: str = "https://neuroglancer.humanbrainproject.eu/precomputed/BigBrainRelease.2015"
        one_micron: str = "https://1um.brainatlas.eu/registered_sections/bigbrain/B20_{number:04d}/precomputed"

        def volumes(self) -> Precomputed.Config:
            """What is read from where."""
            root = self.root.rstrip("/")
            names = [f"{root}/2022_map_release/{one}_{side}" for one in self.areas for side in ("left", "right")]
            shared = Precomputed.Config(
                areas=tuple(names), space="BigBrain", voxel_mm=self.voxel_mm, box_mm=self.box_mm,
                missing=self.missing, timeout_s=self.timeout_s, largest_gb=self.largest_gb, every_mm=self.every_mm,
            )  # fmt: skip
            if self.read == "tissue":  # labels: HumanBrainProject/neuroglancer-scripts, examples, mesh_labels.csv
                return replace(shared, labels=f"{root}/classif", grey_labels=(100,), white_labels=(200,))
            if self.sections:
                return replace(shared, image=self.one_micron, sections=self.sections)
            return replace(shared, image=f"{root}/8bit")


def named(source: config.Config) -> SectionFolder.Config | VolumePair.Config | Precomputed.Config:
    """The source that a name stands for (MNI152, BigBrain); any other as it is."""
    if isinstance(source, Mni152.Config | BigBrain.Config):
        return source.volumes()
    assert isinstance(source, SectionFolder.Config | VolumePair.Config | Precomputed.Config)
    return source


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

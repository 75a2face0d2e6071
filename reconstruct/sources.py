"""What a reconstruction may start from: configs that name files, nothing is read here."""

from dataclasses import dataclass
from pathlib import Path

from meshgnn import config
from meshgnn.optional import data_folder


class SectionFolder:
    """A stack of section images on disk."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            path: folder with sections.csv.
            space: name of the coordinate space; the folder's name if empty.
        """

        path: Path | None = None
        space: str = ""


class VolumePair:
    """Grey and white matter probability maps on disk."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            grey, white: NIfTI files on one grid.
            space: name of the coordinate space.
        """

        grey: Path | None = None
        white: Path | None = None
        space: str = "unknown"


class Mni152:
    """Grey and white matter probability of the MNI152 average at 1 mm (Fonov et al. 2011), as nilearn ships it."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        def volumes(self) -> VolumePair.Config:
            """The two files of the installed package."""
            folder = data_folder("nilearn") / "datasets" / "data"
            grey, white = (folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz" for kind in ("gm", "wm"))
            return VolumePair.Config(grey=grey, white=white, space="MNI152NLin2009aSym")

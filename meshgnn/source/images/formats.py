"""Which reader opens which file."""

from collections.abc import Callable
from pathlib import Path

from meshgnn.errors import InputError
from meshgnn.source.images.nifti import NiftiImage
from meshgnn.source.images.ome_zarr import OmeZarrImage, is_zarr
from meshgnn.source.images.plain import PlainImage
from meshgnn.source.images.slides import SlideImage
from meshgnn.source.section_image import SectionImage
from meshgnn.source.stains import DEFAULT
from meshgnn.source.tiff import TiffImage

_READERS: dict[str, Callable[..., SectionImage]] = {
    **dict.fromkeys((".tif", ".tiff", ".btf", ".tf8", ".tf2"), TiffImage),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".jp2", ".j2k", ".jpx", ".j2c", ".jpf"), PlainImage),
    **dict.fromkeys((".nii", ".nii.gz"), NiftiImage),
    **dict.fromkeys((".zarr",), OmeZarrImage),
    **dict.fromkeys((".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".czi", ".svslide", ".vms", ".vmu", ".dcm"), SlideImage),
}
SUFFIXES = tuple(_READERS)
"""Endings of names that are read as images."""


def suffix_of(name: str) -> str:
    """The one of SUFFIXES with which a name ends; "" if none."""
    return next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if name.lower().endswith(suffix)), "")


def is_image(path: Path) -> bool:
    """A file, or the folder of an OME-Zarr image, whose name ends as those of images do."""
    if not suffix_of(path.name):
        return False
    return is_zarr(path) if path.is_dir() else path.is_file()


def open_image(path: Path, *, mirrored: bool = False, stored: bool = False, stain: str = DEFAULT) -> SectionImage:
    """Open an image; a name with an ending that is not known is taken for a TIFF.

    Args:
        path: of the file, or of the folder of an OME-Zarr image.
        mirrored, stored, stain: see `SectionImage`.

    Raises:
        InputError: see `SectionImage`; or the format needs a package that is not installed (names it).
    """
    path = Path(path)
    if path.is_dir() and not is_zarr(path):
        raise InputError(f"{path}: is a folder; only OME-Zarr images are folders")
    reader = OmeZarrImage if path.is_dir() else _READERS.get(suffix_of(path.name), TiffImage)
    return reader(path, mirrored=mirrored, stored=stored, stain=stain)

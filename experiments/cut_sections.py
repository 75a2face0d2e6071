"""Section series cut through a brain of one's own, with the truth beside them."""

from reconstruct.cut_experiment import CutSections
from reconstruct.sources import StainedVolume, SurfacePair, VolumePair


def cut_sections() -> CutSections.Config:
    """Sections through the MNI152 grey and white matter maps that come with nilearn (nothing to set)."""
    return CutSections.Config()


def volumes() -> CutSections.Config:
    """Sections through grey and white matter maps (--set source.grey=FILE --set source.white=FILE)."""
    return CutSections.Config(source=VolumePair.Config())


def surfaces() -> CutSections.Config:
    """Sections through the ribbon between white and pial surfaces (--set source.folder=DIR)."""
    return CutSections.Config(source=SurfacePair.Config())


def stained() -> CutSections.Config:
    """Sections through a volume of stain or light (--set source.path=FILE --set source.voxel_mm=0.05)."""
    return CutSections.Config(source=StainedVolume.Config())

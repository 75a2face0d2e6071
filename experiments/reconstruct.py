"""From sections or a volume to a midsurface mesh."""

from reconstruct.experiment import ReconstructRun
from reconstruct.sources import BigBrain, Mni152


def reconstruct() -> ReconstructRun.Config:
    """Midsurface meshes from a stack of sections (--set source.path=DIR) or a volume (--set source=VolumePair)."""
    return ReconstructRun.Config()


def mni152() -> ReconstructRun.Config:
    """Midsurface meshes from the MNI152 grey and white matter maps that come with nilearn (nothing to set)."""
    return ReconstructRun.Config(source=Mni152.Config())


def bigbrain() -> ReconstructRun.Config:
    """Midsurface meshes from BigBrain's grey and white matter, read from EBRAINS' server (nothing to set)."""
    return ReconstructRun.Config(source=BigBrain.Config(), brain="BigBrain")

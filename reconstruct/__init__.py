"""reconstruct: from histological sections, or a volume, to a midsurface mesh per hemisphere. Loads no torch."""

from reconstruct.pipeline import Reconstruct, Reconstruction, SectionFolder, VolumePair
from reconstruct.records import Alignment, Midsurface, Ribbon, TissueStack

__all__ = [
    "Alignment",
    "Midsurface",
    "Reconstruct",
    "Reconstruction",
    "Ribbon",
    "SectionFolder",
    "TissueStack",
    "VolumePair",
]

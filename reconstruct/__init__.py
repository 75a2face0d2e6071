"""reconstruct: from histological sections, or a volume, to a midsurface mesh per hemisphere. Loads no torch."""

from reconstruct.pipeline import Reconstruct, SectionFolder, VolumePair
from reconstruct.records import Alignment, Midsurface, Reconstruction, Ribbon, TissueStack

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

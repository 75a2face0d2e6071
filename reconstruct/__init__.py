"""reconstruct: from histological sections, or a volume, to a midsurface mesh per hemisphere. Loads no torch."""

from reconstruct.aligned import aligned_stack, read_aligned
from reconstruct.graph import read_graph, read_reconstruction, to_graph
from reconstruct.pipeline import Reconstruct
from reconstruct.records import Alignment, Midsurface, Reconstruction, Ribbon, TissueStack
from reconstruct.sources import BigBrain, Mni152, Precomputed, SectionFolder, VolumePair

__all__ = [
    "Alignment",
    "BigBrain",
    "Midsurface",
    "Mni152",
    "Precomputed",
    "Reconstruct",
    "Reconstruction",
    "Ribbon",
    "SectionFolder",
    "TissueStack",
    "VolumePair",
    "aligned_stack",
    "read_aligned",
    "read_graph",
    "read_reconstruction",
    "to_graph",
]

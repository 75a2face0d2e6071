"""Sections of a virtual brain."""

from meshgnn.experiment.virtual_sections import VirtualSections


def virtual_sections() -> VirtualSections.Config:
    """A virtual brain's section series with its truth (--set source.seed=7 --set source.preset=quick --out DIR)."""
    return VirtualSections.Config()

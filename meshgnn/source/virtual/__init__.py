"""The virtual brain: histological sections cut from a real cortical surface, with everything true kept beside them."""

from meshgnn.source.virtual.generator import VirtualBrain

__all__ = ["VirtualBrain"]

"""The virtual brain: histological sections cut from a real cortical surface, stored together with their truth."""

from meshgnn.source.virtual.generator import VirtualBrain

__all__ = ["VirtualBrain"]

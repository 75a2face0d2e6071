"""Mapping in the browser: which engines fill in, what they see of the sections, and what reads meshes."""

from features.profiles import ProfileFeatures
from meshgnn.mapping.engines.graph import GraphEngine
from meshgnn.mapping.setup import Setup
from reconstruct.maker import MeshFromSections


def mapping() -> Setup.Config:
    """Engines of `python -m meshgnn.mapping`: the graph over the mesh, with depth profiles as its features."""
    return Setup.Config(
        mesh=MeshFromSections.Config(), engines=(GraphEngine.Config(features=(ProfileFeatures.Config(),)),)
    )

"""Mapping in the browser: which engines fill in, what they see of the sections, and what reads meshes."""

from features.local_models.engine import LocalModels
from features.profiles import ProfileFeatures
from meshgnn.mapping.engines.contours import Contours
from meshgnn.mapping.engines.graph import GraphEngine
from meshgnn.mapping.setup import Setup
from reconstruct.maker import MeshFromSections


def mapping() -> Setup.Config:
    """Engines of `python -m meshgnn.mapping`: the graph over the mesh with depth profiles, local models, contours."""
    return Setup.Config(
        mesh=MeshFromSections.Config(),
        engines=(
            GraphEngine.Config(features=(ProfileFeatures.Config(),)),
            LocalModels.Config(),
            Contours.Config(),
        ),
    )

"""Mapping in the browser: which engines fill in, what they see of the sections, and what reads meshes."""

from features.profiles import ProfileFeatures
from meshgnn.config import choices
from meshgnn.mapping.config import MappingServer
from meshgnn.mapping.engines.graph import GraphEngine
from meshgnn.mapping.engines.network import NetworkEngine
from reconstruct.maker import MeshFromSections

FEATURES = (ProfileFeatures.Config(),)
ENGINES = (GraphEngine.Config(features=FEATURES), NetworkEngine.Config(features=FEATURES))


@choices(
    {
        "mesh": (MeshFromSections.Config(),),
        "engines": ENGINES,
        **{f"engines.{number}.features": FEATURES for number in range(len(ENGINES))},
    }
)
def mapping() -> MappingServer.Config:
    """The page for drawing areas on sections, which `python -m meshgnn.mapping STACK` serves (it has no stages)."""
    return MappingServer.Config(mesh=MeshFromSections.Config(), engines=ENGINES)

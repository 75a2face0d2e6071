"""Mapping in the browser: which engines fill in, what they see of the sections, and what reads meshes."""

from features.local_models.engine import LocalModels
from features.profiles import ProfileFeatures
from meshgnn.config import choices
from meshgnn.mapping.config import MappingServer
from meshgnn.mapping.engines.contours import Contours
from meshgnn.mapping.engines.graph import GraphEngine
from meshgnn.mapping.engines.network import NetworkEngine
from reconstruct.maker import MeshFromSections

FEATURES = (ProfileFeatures.Config(),)
ON_MESH = (GraphEngine.Config(features=FEATURES), NetworkEngine.Config(features=FEATURES))
LOCAL = LocalModels.Config(graph=GraphEngine.Config(features=FEATURES, judge=False))
ENGINES = (*ON_MESH, LOCAL, Contours.Config())


@choices(
    {
        "mesh": (MeshFromSections.Config(),),
        "engines": ENGINES,
        **{f"engines.{number}.features": FEATURES for number in range(len(ON_MESH))},
        f"engines.{len(ON_MESH)}.graph.features": FEATURES,
    }
)
def mapping() -> MappingServer.Config:
    """The page for drawing areas on sections, which `python -m meshgnn.mapping STACK` serves (it has no stages)."""
    return MappingServer.Config(mesh=MeshFromSections.Config(), engines=ENGINES)

